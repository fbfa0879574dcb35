from __future__ import annotations

from dataclasses import dataclass

import pytest
from tvm import ir

from relay_passes.base import PassResult
from tests.relay_passes.fused_glm import FusedGlm, tiny_spec
from tvm_vacc.errors import ConfigError, PassError
from tvm_vacc.pipeline import Step, chosen, glm_pipeline, run_pipeline


@dataclass(frozen=True)
class Fake:
    """Matches so often as it is told."""

    matches: int
    name: str = "fake"

    def apply(self, module: ir.IRModule) -> PassResult:
        return PassResult(module, self.matches)


def test_a_match_too_few_is_an_error_that_says_where_to_look() -> None:
    module = FusedGlm(tiny_spec()).build()
    with pytest.raises(PassError, match=r"fake matched 39 times, this model needs 40; .*fake"):
        run_pipeline(module, [Step(Fake(39), (40,))])


def test_one_of_several_structures_is_enough_and_no_other() -> None:
    module = FusedGlm(tiny_spec()).build()
    _, reports = run_pipeline(module, [Step(Fake(9), (13, 9))])
    assert reports[0].expected == 9
    with pytest.raises(PassError, match="matched 11 times, this model needs 13 or 9"):
        run_pipeline(module, [Step(Fake(11), (13, 9))])


def test_two_passes_may_share_the_matches() -> None:
    module = FusedGlm(tiny_spec()).build()
    shared = Step(Fake(6, "second"), (7,), after="first")
    run_pipeline(module, [Step(Fake(1, "first")), shared])
    with pytest.raises(PassError, match="first and second matched 8 times, this model needs 7"):
        run_pipeline(module, [Step(Fake(2, "first")), shared])


def test_reports_and_progress() -> None:
    module = FusedGlm(tiny_spec()).build()
    told: list[tuple[int, int]] = []
    result, reports = run_pipeline(
        module, [Step(Fake(3), (3,)), Step(Fake(5))], progress=lambda *done: told.append(done)
    )
    assert result.same_as(module)
    assert [(r.name, r.matches, r.expected) for r in reports] == [("fake", 3, 3), ("fake", 5, None)]
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_the_module_is_shown_after_the_named_pass_only() -> None:
    module = FusedGlm(tiny_spec()).build()
    shown: list[str] = []
    steps = [Step(Fake(1, "first")), Step(Fake(1, "second"))]
    run_pipeline(module, steps, print_after=["second"], show=shown.append)
    assert len(shown) == 1
    assert shown[0].startswith("# after second")
    assert "R.tvm_vacc.gqa_attention" in shown[0]


def test_the_module_is_shown_before_the_named_pass() -> None:
    module = FusedGlm(tiny_spec()).build()
    shown: list[str] = []
    run_pipeline(module, [Step(Fake(1, "first"))], print_before=["first"], show=shown.append)
    assert [text.partition("\n")[0] for text in shown] == ["# before first"]


def names(steps: tuple[Step, ...]) -> list[str]:
    return [step.run.name for step in steps]


def test_what_a_model_can_do_without_is_left_out() -> None:
    steps = glm_pipeline(2, "float32", prefill=64)
    assert chosen(steps, 3, ()) == steps
    assert set(names(steps)) - set(names(chosen(steps, 3, ["fuse_swiglu", "FuseOps"]))) == {
        "fuse_swiglu"
    }
    assert set(names(steps)) - set(names(chosen(steps, 0, ()))) == {
        *("fuse_rms_norm", "fuse_rope", "fuse_swiglu", "fuse_embedding")
    }


def test_a_pass_that_is_needed_cannot_be_left_out() -> None:
    steps = glm_pipeline(2, "float32", prefill=64)
    with pytest.raises(ConfigError, match=r"pass pack_weights cannot be left out.*fuse_rms_norm"):
        chosen(steps, 3, ["pack_weights"])
