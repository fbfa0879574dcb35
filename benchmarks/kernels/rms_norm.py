"""RMSNorm of the hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.glm4_9b import SPEC, TOKENS
from benchmarks.measure import Case, timed
from schedules.rms_norm import rms_norm_kernel
from tvm_vacc.machine.memory import activations, random_tensor
from tvm_vacc.machine.setup import Setup


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a number of tokens."""
    run = setup.build(rms_norm_kernel(SPEC.hidden, SPEC.rms_norm_eps, "bfloat16", setup.isa))
    yield from (_case(run, tokens) for tokens in TOKENS)


def _case(run: Callable[..., None], tokens: int) -> Case:
    shape = (tokens, SPEC.hidden)
    tensors, nbytes = activations(shape, shape)
    weight = random_tensor((SPEC.hidden,), "bfloat16")

    def call() -> None:
        x, out = next(tensors)
        run(x, weight, out)

    return Case(
        "rms_norm",
        f"{tokens} x {SPEC.hidden}",
        timed(call),
        nbytes,
        4.0 * tokens * SPEC.hidden,
        "fp32",
    )
