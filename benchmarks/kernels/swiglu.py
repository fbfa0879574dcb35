"""SwiGLU between the two projections of the MLP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.glm4_9b import SPEC, TOKENS
from benchmarks.measure import Case, timed
from schedules.swiglu import swiglu_kernel
from tvm_vacc.machine.memory import activations
from tvm_vacc.machine.setup import Setup

OPERATIONS = 24.0
"""An output: the polynomial of exp has 6 multiply-adds, its arguments take 5 operations."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a number of tokens."""
    run = setup.build(swiglu_kernel(SPEC.intermediate, setup.isa))
    yield from (_case(run, tokens) for tokens in TOKENS)


def _case(run: Callable[..., None], tokens: int) -> Case:
    tensors, nbytes = activations((tokens, 2 * SPEC.intermediate), (tokens, SPEC.intermediate))
    operations = OPERATIONS * tokens * SPEC.intermediate
    shape = f"{tokens} x {2 * SPEC.intermediate}"
    return Case("swiglu", shape, timed(lambda: run(*next(tensors))), nbytes, operations, "fp32")
