"""The passes between the importer and the kernels, in one list, and the running of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.add_sampler import AddSampler
from relay_passes.base import Pass
from relay_passes.bound_memory import BoundMemory
from relay_passes.bundle_params import BundleParams
from relay_passes.cancel_transposes import CancelTransposes
from relay_passes.canonicalize import Canonicalize
from relay_passes.flatten_tokens import FlattenTokens
from relay_passes.fuse_embedding import FuseEmbedding
from relay_passes.fuse_gqa_attention import FuseGqaAttention
from relay_passes.fuse_linear import FuseLinear
from relay_passes.fuse_rms_norm import FuseRmsNorm
from relay_passes.fuse_rope import FuseRope
from relay_passes.fuse_swiglu import FuseSwiglu
from relay_passes.pack_weights import PackWeights
from relay_passes.rewrite_kv_cache import RewriteKvCache
from relay_passes.select_logits import SelectLogits
from tvm_vacc.artifact.manifest import PassReport
from tvm_vacc.errors import ConfigError, PassError
from tvm_vacc.limits import MAX_SEQUENCES


@dataclass(frozen=True)
class Step:
    """A pass, and how often it must match.

    Attributes:
        run: the pass.
        expected: matches that the model's structure demands; None where it demands nothing.
    """

    run: Pass
    expected: int | None = None


def glm_pipeline(layers: int, dtype: str, *, prefill: int) -> tuple[Step, ...]:
    """Return the passes of a GLM.

    Args:
        layers: of the model.
        dtype: what weights and KV cache are stored as, as Relax spells it.
        prefill: largest number of tokens of one step.
    """
    linears = 6 * layers + 1  # q, k, v, o, gate_up and down; the head
    bounds = {"slots": prefill, "logit_rows": prefill, "kv_lens": MAX_SEQUENCES}
    return (
        Step(Canonicalize()),
        Step(FuseRmsNorm(), 2 * layers + 1),
        Step(FuseRope(), 2 * layers),
        Step(FuseSwiglu(), layers),
        Step(FuseLinear(), linears),
        Step(FuseEmbedding(), 1),
        Step(RewriteKvCache(dtype), layers),
        Step(FuseGqaAttention(), layers),
        Step(CancelTransposes()),
        Step(SelectLogits(), 1),
        Step(FlattenTokens(), 1),
        Step(PackWeights(dtype), linears),
        Step(BundleParams(), 1),
        Step(BoundMemory(bounds), len(bounds)),
        Step(AddSampler(), 1),
    )


def graph_pipeline(dtype: str) -> tuple[Step, ...]:
    """Return the passes of a model that is no language model: what fuses, fuses."""
    return (
        Step(Canonicalize()),
        Step(FuseRmsNorm()),
        Step(FuseSwiglu()),
        Step(FuseLinear()),
        Step(PackWeights(dtype)),
        Step(BundleParams(), 1),
    )


def check_pass_names(steps: Sequence[Step], names: Sequence[str]) -> None:
    """Refuse names that are no passes of `steps`.

    Raises:
        ConfigError: lists the passes there are.
    """
    known = [step.run.name for step in steps]
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no pass {name}", f"choose of {', '.join(known)}")


def run_pipeline(
    module: ir.IRModule,
    steps: Sequence[Step],
    *,
    print_after: Sequence[str] = (),
    show: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[ir.IRModule, tuple[PassReport, ...]]:
    """Run `steps` one after the other.

    Args:
        module: what to start from.
        steps: the passes.
        print_after: names of passes after which the module is shown.
        show: takes the text of the module.
        progress: is told the passes done and in all.

    Raises:
        PassError: a pass matched less or more often than it must.
    """
    reports = []
    for done, step in enumerate(steps):
        progress(done, len(steps))
        start = time.perf_counter()
        result = step.run.apply(module)
        seconds = time.perf_counter() - start
        module = result.module
        reports.append(PassReport(step.run.name, result.matches, step.expected, seconds))
        if step.run.name in print_after:
            show(f"# after {step.run.name}\n{module.script()}")
        _check(step, result.matches, module)
    progress(len(steps), len(steps))
    return module, tuple(reports)


def _check(step: Step, matches: int, module: ir.IRModule) -> None:
    name = step.run.name
    if step.expected is not None and matches != step.expected:
        raise PassError(
            f"pass {name} matched {matches} times, this model needs {step.expected}",
            f"look at the graph with --print-ir-after {name}",
        )
    if not relax.analysis.check_well_formed(module):
        raise PassError(f"pass {name} made a module that is not well-formed", "report this")
