from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schedules.linear_float import PANEL_TOKENS, WEIGHT_DTYPES, pack_linear_weight, packed_shape
from tests.ops.harness import compile_op, host_targets, target_name
from tvm_vacc.ops import packed_linear

TOKENS = [1, 2, 3, 6, 7, 17, 65, PANEL_TOKENS + 1]
FEATURES = [(1, 1), (17, 15), (100, 65), (1030, 128)]  # of them odd, padded, in two chunks


def make(in_features: int, out_features: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return packed weights and a bias of their dtype."""
    rng = np.random.default_rng(in_features)
    weight = rng.standard_normal((out_features, in_features), dtype=np.float32)
    packed = pack_linear_weight(weight, dtype)
    return packed, rng.standard_normal(out_features, dtype=np.float32).astype(packed.dtype)


def compiled(packed: np.ndarray, out_features: int, bias: bool, target: Any) -> Any:
    dtype = str(packed.dtype)
    types: list[Any] = [(("tokens", packed.shape[1]), "float32"), (packed.shape, dtype)]
    if bias:
        types.append(((out_features,), dtype))
    return compile_op(packed_linear, types, target, out_features=out_features)


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("dtype", WEIGHT_DTYPES)
@pytest.mark.parametrize(("in_features", "out_features"), FEATURES)
def test_matches_reference_whatever_the_batch(
    in_features: int, out_features: int, dtype: str, target: Any
) -> None:
    packed, bias = make(in_features, out_features, dtype)
    function = compiled(packed, out_features, True, target)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((max(TOKENS), in_features), dtype=np.float32)
    # The oracle sums in fp64; the bound is that of fp32 sums in chunks of 512.
    want = packed_linear.reference(x, packed, bias, out_features=out_features)
    scale = np.abs(x) @ np.abs(packed.astype(np.float32)).max(axis=(0, 2))
    alone = np.stack([function(row[None], packed, bias)[0] for row in x])
    assert np.all(np.abs(alone - want) <= 1e-6 * scale[:, None] + 1e-6)
    for tokens in TOKENS:
        together = function(x[:tokens], packed, bias)
        np.testing.assert_array_equal(together, alone[:tokens])
        last = function(x[-tokens:], packed, bias)
        np.testing.assert_array_equal(last, alone[-tokens:])


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
def test_without_bias_and_in_parallel(target: Any) -> None:
    in_features, out_features = 513, 640  # beyond the bound for parallel tasks
    packed, _ = make(in_features, out_features, "bfloat16")
    function = compiled(packed, out_features, False, target)
    x = np.random.default_rng(2).standard_normal((197, in_features), dtype=np.float32)
    together = function(x, packed)
    want = packed_linear.reference(x, packed, out_features=out_features)
    np.testing.assert_allclose(together, want, atol=2e-4, rtol=0)
    for start in (0, 96, 196):
        part = x[start : start + 5]
        np.testing.assert_array_equal(function(part, packed), together[start : start + 5])


def test_leading_dimensions_are_kept() -> None:
    packed, bias = make(20, 64, "float32")
    types = [((2, "seq", 20), "float32"), (packed.shape, "float32"), ((64,), "float32")]
    function = compile_op(packed_linear, types, "llvm", out_features=64)
    x = np.random.default_rng(3).standard_normal((2, 3, 20), dtype=np.float32)
    want = packed_linear.reference(x, packed, bias, out_features=64)
    np.testing.assert_allclose(function(x, packed, bias), want, atol=1e-5)


@pytest.mark.parametrize(
    ("weight_shape", "weight_dtype", "bias", "message"),
    [
        (packed_shape(65, 21), "float32", 65, "does not fit"),
        (packed_shape(64, 20), "float32", 65, "does not fit"),
        (packed_shape(65, 20), "int8", 65, "not supported"),
        (packed_shape(65, 20), "float32", 64, "bias"),
    ],
)
def test_refuses_arguments_that_do_not_fit(
    weight_shape: tuple[int, ...], weight_dtype: str, bias: int, message: str
) -> None:
    types = [((4, 20), "float32"), (weight_shape, weight_dtype), ((bias,), "float32")]
    with pytest.raises(Exception, match=message):
        compile_op(packed_linear, types, "llvm", out_features=65)
