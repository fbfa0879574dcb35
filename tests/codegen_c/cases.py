"""Operators at odd sizes, with their NumPy references; and what stock TVM makes of others."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from tvm import relax
from tvm.relax import op

from schedules.kv_cache import key_cache_shape, value_cache_shape
from schedules.linear_float import pack_linear_weight
from schedules.linear_int4 import pack_linear_int4
from schedules.linear_int8 import pack_linear_int8
from tests.codegen_c.c_functions import Case
from tvm_vacc import ops

DTYPES = ("float32", "float16", "bfloat16")
_RNG = np.random.default_rng(0)


def _start_again() -> None:
    """Make the numbers those of the first call: another process makes the same cases."""
    _RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def normal(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape, dtype=np.float32)


def _case(operator: Any, *arrays: np.ndarray, tolerance: float = 1e-5, **attrs: Any) -> Case:
    told = {name: value for name, value in attrs.items() if name != "products"}
    want = operator.reference(*arrays, **told)
    return Case(lambda *params: operator(*params, **attrs), arrays, want, tolerance)


def _linear(dtype: str, tokens: int, in_features: int, out_features: int) -> Case:
    weight = normal(out_features, in_features)
    packed = pack_linear_weight(weight, dtype)
    bias = normal(out_features).astype(packed.dtype)
    x = normal(tokens, in_features)
    matrix = weight.astype(packed.dtype).astype(np.float64)
    attrs = {"out_features": out_features, "products": "fp32"}
    return Case(
        lambda *params: ops.packed_linear(*params, **attrs),
        [x, packed, bias],
        (x @ matrix.T + bias.astype(np.float64)).astype(np.float32),
    )


def _quantized(scheme: str) -> Case:
    group, inputs, outputs = 32, 96, 65
    x = normal(7, inputs)
    if scheme == "w4a16":
        codes = _RNG.integers(-8, 8, (outputs, inputs), dtype=np.int8)
        scales = _RNG.uniform(-1, 1, (outputs, inputs // group)).astype(np.float16)
        weight = codes * np.repeat(scales.astype(np.float64), group, axis=1)
        packed, scale = pack_linear_int4(codes, scales, group)
    else:
        group = inputs
        codes = _RNG.integers(-127, 128, (outputs, inputs), dtype=np.int8)
        scale = _RNG.uniform(0.01, 1, outputs).astype(np.float32)
        weight, packed = codes * scale[:, None].astype(np.float64), pack_linear_int8(codes)
    attrs = {"scheme": scheme, "group_size": group, "out_features": outputs}
    bias = normal(outputs)
    want = (x @ weight.T + bias).astype(np.float32)
    tolerance = 1e-2 if scheme == "w8a8" else 1e-4  # w8a8 rounds activations to 8 bits
    return Case(
        lambda *params: ops.packed_quantized_linear(*params, **attrs),
        [x, packed, scale, bias],
        want,
        tolerance,
    )


def _attention(dtype: str) -> Case:
    storage = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    caches = [
        _RNG.standard_normal(shape(8, 2, 32, dtype)).astype(storage)
        for shape in (key_cache_shape, value_cache_shape)
    ]
    return _case(
        ops.gqa_attention,
        normal(7, 4, 32),
        *caches,
        _RNG.permutation(8)[:6].reshape(3, 2).astype(np.int32),
        np.array([0, 4, 4, 6], np.int32),
        np.array([20, 5, 2], np.int32),
        scale=32**-0.5,
        products="fp32",
    )


def _sample(rows: int, vocab: int) -> Case:
    return _case(
        ops.sample,
        normal(rows, vocab),
        np.array([0, 1, 0.7], np.float32),
        np.array([1, 0.5, 0.9], np.float32),
        np.array([0, 0, 5], np.int32),
        np.array([0.1, 0.5, 0.9], np.float32),
    )


def operators() -> dict[str, Case]:
    """Return a case for each of our operators, and for each storage dtype of those with weights."""
    _start_again()
    angles = normal(5, 6)
    ids = np.array([0, 32, 7, 7, 1], np.int64)
    cases = {
        "linear": _linear("bfloat16", 7, 33, 65),
        "swiglu": _case(ops.swiglu, normal(3, 2 * 37)),
        "rope": _case(ops.rope, normal(5, 3, 20), np.cos(angles), np.sin(angles)),
        "sample": _sample(3, 77),
        "w8a16": _quantized("w8a16"),
        "w8a8": _quantized("w8a8"),
        "w4a16": _quantized("w4a16"),
    }
    for dtype in DTYPES:
        storage = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        cases |= {
            f"rms_norm_{dtype}": _case(
                ops.rms_norm, normal(3, 37), normal(37).astype(storage), eps=1e-5
            ),
            f"embedding_{dtype}": _embedding(normal(33, 19).astype(storage), ids),
        }
    return cases | {"attention": _attention("float16")}


def _embedding(table: np.ndarray, ids: np.ndarray) -> Case:
    want = table[ids].astype(np.float32)
    return Case(ops.embedding, [table, ids], want, 0.0, free=False)


def stock() -> dict[str, Case]:
    """Return cases of TVM's own kernels: mathematics, integers, conversions, constants."""
    _start_again()
    x = normal(3, 17)
    integers = np.arange(-12, 13, dtype=np.int64).reshape(5, 5)
    half = x.astype(np.float16)
    brain = x.astype(ml_dtypes.bfloat16)
    table = normal(17)
    stable = np.exp(x - x.max(-1, keepdims=True), dtype=np.float64)

    def const(array: np.ndarray) -> Any:
        return relax.const(array)

    return {
        "exp": Case(op.exp, [x], np.exp(x)),
        "tanh": Case(op.tanh, [x], np.tanh(x)),
        "sigmoid": Case(op.sigmoid, [x], 1 / (1 + np.exp(-x))),
        "square_root": Case(lambda a: op.sqrt(op.abs(a)), [x], np.sqrt(np.abs(x))),
        "rounded": Case(op.round, [x * 4], np.rint(x * 4), 0.0),
        "half_even": Case(op.round, [np.array([0.5, 1.5, -2.5], "f4")], np.array([0, 2, -2], "f4")),
        "softmax": Case(
            lambda a: op.nn.softmax(a, axis=-1),
            [x],
            (stable / stable.sum(-1, keepdims=True)).astype(np.float32),
        ),
        "floor_division": Case(
            lambda a: op.floor_divide(a, relax.const(4, "int64")), [integers], integers // 4
        ),
        "floor_remainder": Case(
            lambda a: op.floor_mod(a, relax.const(-4, "int64")), [integers], integers % -4
        ),
        "clipped": Case(lambda a: op.clip(a, -0.5, 0.5), [x], np.clip(x, -0.5, 0.5), 0.0),
        "chosen": Case(
            lambda a: op.where(op.greater(a, const(table)), a, const(-table)),
            [x],
            np.where(x > table, x, -table),
            0.0,
        ),
        "to_half": Case(
            lambda a: op.astype(a, "float16"), [x * 1e-6], (x * 1e-6).astype("f2"), 0.0
        ),
        "from_half": Case(lambda a: op.astype(a, "float32"), [half], half.astype("f4"), 0.0),
        "half_sum": Case(lambda a: op.add(a, a), [half], half + half, 0.0),
        "from_bfloat": Case(lambda a: op.astype(a, "float32"), [brain], brain.astype("f4"), 0.0),
        "to_bfloat": Case(lambda a: op.astype(a, "bfloat16"), [x], brain, 0.0),
        "narrow": Case(
            lambda a: op.astype(op.multiply(op.astype(a, "int8"), relax.const(9, "int8")), "int32"),
            [integers.astype(np.int32)],
            integers.astype(np.int32) * 9,
            0.0,
        ),
        "returned_argument": Case(
            lambda a: op.reshape(a, [51]), [x], x.reshape(51), 0.0, free=False
        ),
        "matrix_product": Case(
            lambda a: op.matmul(a, const(np.ascontiguousarray(normal_weight()))),
            [x],
            x @ normal_weight(),
        ),
    }


def normal_weight() -> np.ndarray:
    """Return the right matrix of the product: the same at each call."""
    return np.random.default_rng(5).standard_normal((17, 9), dtype=np.float32)
