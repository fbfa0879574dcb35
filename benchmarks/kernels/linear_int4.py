"""The linears of one layer over int4 weights in groups of 64, with activations of 16 bits.

These are two rows of bytes, so the limit of a prompt, half the peak of int8, is that of bf16.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import tvm

from benchmarks.glm4_9b import LINEARS, TOKENS
from benchmarks.measure import Case, timed
from schedules.linear_int4 import (
    PACKED_DTYPE,
    PLANES,
    SCALE_DTYPE,
    linear_int4_kernel,
    packed_shapes,
)
from tvm_vacc.machine.memory import activations, cold, random_tensor
from tvm_vacc.machine.setup import Setup

GROUP = 64
"""Values that share a scale."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a shape and number of tokens."""
    for in_features, out_features in LINEARS:
        yield from _cases(setup, in_features, out_features)


def _cases(setup: Setup, in_features: int, out_features: int) -> Iterator[Case]:
    kernel = linear_int4_kernel(in_features, out_features, GROUP, setup.isa, bias_dtype=None)
    run = setup.build(kernel)
    weight_shape, scale_shape = packed_shapes(out_features, in_features, GROUP)

    def make() -> tuple[tvm.runtime.Tensor, tvm.runtime.Tensor]:
        return random_tensor(weight_shape, PACKED_DTYPE), random_tensor(scale_shape, SCALE_DTYPE)

    weight_bytes = prod(weight_shape) + 2 * prod(scale_shape)
    weights = cold(make, weight_bytes)

    def case(tokens: int) -> Case:
        tensors, nbytes = activations((tokens, in_features), (tokens, out_features))

        def call() -> None:
            x, out = next(tensors)
            run(x, *next(weights), out)

        return Case(
            "linear_w4a16",
            f"{tokens} x {in_features} -> {out_features}, groups of {GROUP}",
            timed(call),
            weight_bytes + nbytes,
            2.0 * PLANES * tokens * in_features * out_features,
            "int8",
        )

    yield from (case(tokens) for tokens in TOKENS)
