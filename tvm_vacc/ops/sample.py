"""``relax.tvm_vacc.sample``: the next token of every row."""

from __future__ import annotations

import numpy as np
from tvm import relax

from schedules.isa import current_isa
from schedules.sampling import sample_kernel
from tvm_vacc.ops._registry import call_kernel, register_op, tensor_type


def sample_reference(
    logits: np.ndarray,
    temperature: np.ndarray,
    top_p: np.ndarray,
    top_k: np.ndarray,
    uniform: np.ndarray,
) -> np.ndarray:
    """Draw one token a row, in transformers' order: temperature, top-k, top-p.

    A temperature that is not positive takes the most probable token, the lowest index at a tie.
    Otherwise the `top_k` most probable tokens are kept (0, or the vocabulary and more: all), of
    those the smallest set that holds `top_p` of their mass (1: all; the most probable one always
    stays), and the first one in the order of indices is taken at which the cumulative mass exceeds
    ``uniform`` times the whole. Tokens as probable as the last one kept are kept too. A NaN logit
    is never taken.

    Args:
        logits: ``[rows, vocab]`` fp32.
        temperature: ``[rows]`` fp32; `top_p` and `uniform` (in [0, 1)) likewise.
        top_k: ``[rows]`` int32.
    """
    tokens = [
        _sample_row(*(arg[row] for arg in (logits, temperature, top_p, top_k, uniform)))
        for row in range(len(logits))
    ]
    return np.array(tokens, np.int32)


def _sample_row(
    logits: np.ndarray, temperature: float, top_p: float, top_k: int, uniform: float
) -> int:
    numbers = np.where(np.isnan(logits), -np.inf, logits).astype(np.float64)
    best = int(np.argmax(numbers))
    if not temperature > 0:
        return best
    with np.errstate(invalid="ignore"):
        scores = np.where(numbers == numbers[best], 0.0, (numbers - numbers[best]) / temperature)
    weights = np.where(np.isnan(logits), 0.0, np.exp(scores)).astype(np.float32)
    if 0 < top_k < len(weights):
        weights[weights < np.sort(weights)[-top_k]] = 0
    if top_p < 1:
        descending = np.sort(weights)[::-1].astype(np.float64)
        mass = np.cumsum(descending)
        last = int(np.searchsorted(mass, max(top_p, 0) * mass[-1]))
        weights[weights < descending[last]] = 0
    mass = np.cumsum(weights.astype(np.float64))
    token = int(np.searchsorted(mass, uniform * mass[-1], side="right"))
    return min(token, int(np.flatnonzero(weights)[-1])) if mass[-1] > 0 else best


def _infer(call: relax.Call) -> relax.TensorType:
    rows, _ = tensor_type(call.args[0], rank=2).shape
    for name, arg, dtype in zip(
        ("logits", "temperature", "top_p", "top_k", "uniform"),
        call.args,
        ("float32", "float32", "float32", "int32", "float32"),
        strict=True,
    ):
        ty = tensor_type(arg)
        if str(ty.dtype) != dtype or not ty.shape[0] == rows:
            raise TypeError(f"sample: {name} must be {dtype} of {rows} rows, got {ty}")
    return relax.TensorType([rows], "int32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    _, vocab = tensor_type(call.args[0], rank=2).shape
    kernel = sample_kernel(int(vocab), current_isa())
    return call_kernel(builder, kernel, "sample", list(call.args), call.ty)


sample = register_op(
    "sample",
    describe="Sampling: logits [rows, vocab], temperature, top_p, top_k, uniform [rows].",
    infer_type=_infer,
    legalize=_legalize,
    reference=sample_reference,
)
