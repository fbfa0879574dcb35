from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tvm

from schedules.isa import isa_of
from schedules.linear_bf16_tile import products_in
from schedules.linear_float import WEIGHT_DTYPES, pack_linear_weight, packed_shape
from tests.ops.harness import compile_op, host_targets, target_name
from tvm_vacc.ops import packed_linear

PANEL = 16 * 12
TOKENS = [1, 2, 3, 5, 6, 7, 12, 17, 31, PANEL + 1]
SHAPES = [  # odd, filled up, one block and several, one chunk and two
    *((1, 63, "bfloat16"), (2, 1, "bfloat16"), (3, 65, "bfloat16"), (31, 64, "bfloat16")),
    *((33, 130, "bfloat16"), (2100, 65, "bfloat16"), (1, 1, "float16"), (33, 65, "float16")),
    *((2100, 130, "float16"), (3, 63, "float32"), (1030, 130, "float32")),
]


def targets() -> list[Any]:
    """The harness's targets, and AVX-512 without dot products of bf16 where this CPU has them."""
    found = list(host_targets())
    for target in found:
        if isa_of(tvm.target.Target(target)).dots_bf16:
            mcpu = tvm.target.Target(target).attrs["mcpu"]
            found.append({"kind": "llvm", "mcpu": mcpu, "mattr": ["-avx512bf16"]})
            break
    return found


def name_of(target: Any) -> str:
    """Name a target of `targets` in the ids of tests."""
    return target_name(target) + ("-no-bf16" if "mattr" in target else "")


def make(in_features: int, out_features: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return packed weights and a bias of their dtype."""
    rng = np.random.default_rng(in_features)
    weight = rng.standard_normal((out_features, in_features), dtype=np.float32)
    packed = pack_linear_weight(weight, dtype)
    return packed, rng.standard_normal(out_features, dtype=np.float32).astype(packed.dtype)


def compiled(
    packed: np.ndarray,
    in_features: int,
    out_features: int,
    bias: bool,
    target: Any,
    products: str = "bf16",
) -> Any:
    dtype = str(packed.dtype)
    types: list[Any] = [(("tokens", in_features), "float32"), (packed.shape, dtype)]
    if bias:
        types.append(((out_features,), dtype))
    return compile_op(packed_linear, types, target, out_features=out_features, products=products)


def expected(
    x: np.ndarray, packed: np.ndarray, bias: np.ndarray | None, out: int, target: Any, wanted: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``x W + b`` from fp64 products of what the target multiplies, and its magnitude."""
    products = products_in(str(packed.dtype), wanted, isa_of(tvm.target.Target(target)))
    blocks, pairs, _, _ = packed.shape
    matrix = packed.transpose(0, 2, 1, 3).reshape(blocks * 64, 2 * pairs)[:out, : x.shape[1]]
    if products == "bf16":
        x, matrix = x.astype(ml_dtypes.bfloat16), matrix.astype(ml_dtypes.bfloat16)
    x, matrix = x.astype(np.float64), matrix.astype(np.float64)
    offset = 0.0 if bias is None else bias.astype(np.float64)
    return x @ matrix.T + offset, np.abs(x) @ np.abs(matrix).T + np.abs(offset)


@pytest.mark.parametrize("target", targets(), ids=name_of)
@pytest.mark.parametrize(("in_features", "out_features", "dtype"), SHAPES)
def test_matches_reference_whatever_the_batch(
    in_features: int, out_features: int, dtype: str, target: Any
) -> None:
    packed, bias = make(in_features, out_features, dtype)
    function = compiled(packed, in_features, out_features, True, target)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((max(TOKENS), in_features), dtype=np.float32)
    want, magnitude = expected(x, packed, bias, out_features, target, "bf16")
    alone = np.stack([function(row[None], packed, bias)[0] for row in x])
    # The bound is that of fp32 sums one after the other, which errors never reach together.
    assert np.all(np.abs(alone - want) <= 2e-6 * magnitude + 1e-7)
    for tokens in TOKENS:
        together = function(x[:tokens], packed, bias)
        np.testing.assert_array_equal(together, alone[:tokens])
        last = function(x[-tokens:], packed, bias)
        np.testing.assert_array_equal(last, alone[-tokens:])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("target", targets(), ids=name_of)
def test_without_bias_and_in_parallel(target: Any, dtype: str) -> None:
    in_features, out_features = 1411, 640  # beyond the bound for parallel tasks, in chunks
    packed, _ = make(in_features, out_features, dtype)
    function = compiled(packed, in_features, out_features, False, target)
    x = np.random.default_rng(2).standard_normal((197, in_features), dtype=np.float32)
    together = function(x, packed)
    want, magnitude = expected(x, packed, None, out_features, target, "bf16")
    assert np.all(np.abs(together - want) <= 2e-6 * magnitude)
    for start in (0, 96, 196):
        part = x[start : start + 5]
        np.testing.assert_array_equal(function(part, packed), together[start : start + 5])


@pytest.mark.parametrize("target", host_targets()[-1:], ids=name_of)
def test_exact_products_on_demand(target: Any) -> None:
    """Values that bf16 cannot hold are multiplied as they are."""
    packed, _ = make(33, 65, "float16")
    function = compiled(packed, 33, 65, False, target, "fp32")
    x = np.random.default_rng(4).standard_normal((7, 33), dtype=np.float32)
    want, magnitude = expected(x, packed, None, 65, target, "fp32")
    assert np.all(np.abs(function(x, packed) - want) <= 2e-6 * magnitude)


@pytest.mark.parametrize("target", targets(), ids=name_of)
def test_extremes_of_fp16(target: Any) -> None:
    """The largest fp16 and subnormal ones, alone in their channel."""
    hard = np.array([65504, -65504, 2.0**-24, -(2.0**-24), 1023 * 2.0**-24, 0], np.float16)
    packed = pack_linear_weight(np.repeat(hard[:, None], 3, axis=1), "float16")
    function = compiled(packed, 3, len(hard), False, target)
    for tokens in (1, 30):
        x = np.full((tokens, 3), 1.5, np.float32)
        want, _ = expected(x, packed, None, len(hard), target, "bf16")
        np.testing.assert_allclose(function(x, packed), want, rtol=1e-6)


@pytest.mark.parametrize("target", targets(), ids=name_of)
def test_rows_that_are_not_finite_stay_alone(target: Any) -> None:
    packed, _ = make(33, 64, "bfloat16")
    function = compiled(packed, 33, 64, False, target)
    x = np.random.default_rng(5).standard_normal((7, 33), dtype=np.float32)
    want = function(x, packed)
    spoilt = x.copy()
    spoilt[3, 5] = np.nan
    got = function(spoilt, packed)
    assert np.isnan(got[3]).all()
    np.testing.assert_array_equal(np.delete(got, 3, axis=0), np.delete(want, 3, axis=0))


@pytest.mark.parametrize("products", ["bf16", "fp32"])
@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
def test_reference_rounds_what_is_multiplied(dtype: str, products: str) -> None:
    packed, bias = make(31, 65, dtype)
    x = np.random.default_rng(6).standard_normal((4, 31), dtype=np.float32)
    znver4 = {"kind": "llvm", "mcpu": "znver4"}
    want, _ = expected(x, packed, bias, 65, znver4, products)
    got = packed_linear.reference(x, packed, bias, out_features=65, products=products)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_leading_dimensions_are_kept() -> None:
    packed, bias = make(20, 64, "float32")
    types = [((2, "seq", 20), "float32"), (packed.shape, "float32"), ((64,), "float32")]
    function = compile_op(packed_linear, types, "llvm", out_features=64, products="bf16")
    x = np.random.default_rng(3).standard_normal((2, 3, 20), dtype=np.float32)
    want = packed_linear.reference(x, packed, bias, out_features=64, products="bf16")
    np.testing.assert_allclose(function(x, packed, bias), want, atol=1e-5)


@pytest.mark.parametrize(
    ("weight_shape", "weight_dtype", "bias", "products", "message"),
    [
        (packed_shape(65, 22), "float32", 65, "bf16", "does not fit"),
        (packed_shape(64, 20), "float32", 65, "bf16", "does not fit"),
        (packed_shape(65, 20), "int8", 65, "bf16", "not supported"),
        (packed_shape(65, 20), "float32", 64, "bf16", "bias"),
        (packed_shape(65, 20), "float32", 65, "int8", "no products in int8"),
    ],
)
def test_refuses_arguments_that_do_not_fit(
    weight_shape: tuple[int, ...], weight_dtype: str, bias: int, products: str, message: str
) -> None:
    types = [((4, 20), "float32"), (weight_shape, weight_dtype), ((bias,), "float32")]
    with pytest.raises(Exception, match=message):
        compile_op(packed_linear, types, "llvm", out_features=65, products=products)
