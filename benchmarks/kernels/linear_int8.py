"""The linears of one layer and lm_head over int8 weights: w8a8 and w8a16.

Activations of 16 bits are two rows of bytes, so w8a16 is twice the operations of w8a8, and its
limit, half the peak of int8, is that of bf16.
"""

from __future__ import annotations

from collections.abc import Iterator

import tvm

from benchmarks.glm4_9b import LINEARS, LM_HEAD, TOKENS
from benchmarks.measure import Case, timed
from schedules.linear_int8 import PACKED_DTYPE, PLANES, linear_int8_kernel, packed_shape
from tvm_vacc.machine.memory import activations, cold, random_tensor
from tvm_vacc.machine.setup import Setup

NAMES = {"int8": "linear_w8a8", "float": "linear_w8a16"}
"""Name of a case by kind of activation."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a kind of activation, shape and number of tokens."""
    for shape in (*LINEARS, LM_HEAD):
        for kind in NAMES:
            yield from _cases(setup, *shape, kind)


def _cases(setup: Setup, in_features: int, out_features: int, kind: str) -> Iterator[Case]:
    run = setup.build(
        linear_int8_kernel(in_features, out_features, setup.isa, activations=kind, bias_dtype=None)
    )

    def make() -> tuple[tvm.runtime.Tensor, tvm.runtime.Tensor]:
        packed = random_tensor(packed_shape(out_features, in_features), PACKED_DTYPE)
        return packed, random_tensor((out_features,), "float32")

    products = in_features * out_features
    weights = cold(make, products)

    def case(tokens: int) -> Case:
        tensors, nbytes = activations((tokens, in_features), (tokens, out_features))

        def call() -> None:
            x, out = next(tensors)
            run(x, *next(weights), out)

        return Case(
            NAMES[kind],
            f"{tokens} x {in_features} -> {out_features}",
            timed(call),
            products + 4 * out_features + nbytes,
            2.0 * PLANES[kind] * tokens * products,
            "int8",
        )

    # Of a prompt, lm_head sees the last tokens only.
    last = -1 if (in_features, out_features) == LM_HEAD else None
    yield from (case(tokens) for tokens in TOKENS[:last])
