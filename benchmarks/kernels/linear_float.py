"""The linears of one layer and lm_head over fp16, bf16 and fp32 weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import tvm

from benchmarks.glm4_9b import LINEARS, LM_HEAD, SPEC, TOKENS
from benchmarks.measure import Case, timed
from schedules.linear_bf16_tile import products_in
from schedules.linear_float import linear_kernel, packed_shape
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.machine.memory import activations, cold, random_tensor
from tvm_vacc.machine.setup import Setup

DTYPES = {"float16": "linear_fp16", "bfloat16": "linear_bf16", "float32": "linear_fp32"}
"""Name of a case by dtype of the weights."""

MORE_TOKENS = (4, 16, 17, 32, 100, 112, 513, 528)
"""More numbers of tokens, for one shape: batches, and prompts beside the next multiple of 16."""


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a shape, dtype and number of tokens."""
    for in_features, out_features in (*LINEARS, LM_HEAD):
        square = in_features == out_features == SPEC.hidden
        numbers = sorted({*TOKENS, *MORE_TOKENS}) if square else TOKENS
        for dtype in DTYPES:
            kernel = linear_kernel(in_features, out_features, dtype, setup.isa, bias_dtype=None)
            run = setup.build(kernel)
            nbytes = in_features * out_features * NUMPY_DTYPES[dtype].itemsize
            shape = packed_shape(out_features, in_features)
            weights = cold(partial(random_tensor, shape, dtype, scale=0.02), nbytes)
            for tokens in numbers:
                tensors, moved = activations((tokens, in_features), (tokens, out_features))
                yield Case(
                    DTYPES[dtype],
                    f"{tokens} x {in_features} -> {out_features}",
                    timed(partial(_call, run, tensors, weights)),
                    nbytes + moved,
                    2.0 * tokens * in_features * out_features,
                    products_in(dtype, "bf16", setup.isa),
                )


def _call(
    run: Callable[..., None],
    tensors: Iterator[list[tvm.runtime.Tensor]],
    weights: Iterator[tvm.runtime.Tensor],
) -> None:
    x, out = next(tensors)
    run(x, next(weights), out)
