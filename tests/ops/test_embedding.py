from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.harness import FLOAT_DTYPES, compile_op, host_targets, run_op, target_name
from tvm_vacc.ops import embedding


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("hidden", [1, 15, 16, 17, 100, 4095])
def test_rows_are_exact(hidden: int, dtype: type, target: Any) -> None:
    rng = np.random.default_rng(hidden)
    # Magnitudes from fp16's subnormals to its largest.
    table = (rng.standard_normal((11, hidden)) * 2.0 ** rng.integers(-24, 13, (11, 1))).astype(
        dtype
    )
    table[0, 0], table[1, 0] = np.inf, -np.inf
    types = [(table.shape, str(table.dtype)), (("batch", "seq"), "int64")]
    function = compile_op(embedding, types, target)
    for shape in ((1, 1), (2, 3), (4, 33)):
        ids = rng.integers(0, 11, shape)
        np.testing.assert_array_equal(function(table, ids), table[ids].astype(np.float32))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_ids_outside_read_first_or_last_row(dtype: type) -> None:
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    bounds = np.iinfo(dtype)
    ids = np.array([-1, 4, bounds.min, bounds.max, 2], dtype)
    np.testing.assert_array_equal(run_op(embedding, [table, ids]), table[[0, 3, 0, 3, 2]])
    np.testing.assert_array_equal(embedding.reference(table, ids), table[[0, 3, 0, 3, 2]])


def test_ids_must_be_integers() -> None:
    with pytest.raises(Exception, match="int32 or int64"):
        run_op(embedding, [np.zeros((4, 3), np.float32), np.zeros(2, np.float32)])


@pytest.mark.parametrize("target", host_targets(), ids=target_name)
@pytest.mark.parametrize("hidden", [1, 17, 100])
def test_codes_are_multiplied_by_the_scale_of_their_row(hidden: int, target: Any) -> None:
    rng = np.random.default_rng(hidden)
    codes = rng.integers(-128, 128, (11, hidden), dtype=np.int8)
    scales = rng.uniform(-2, 2, (11, 1)).astype(np.float32)
    types = [(codes.shape, "int8"), (("seq",), "int32"), (scales.shape, "float32")]
    ids = np.array([10, -3, 0, 4, 99], np.int32)
    want = (codes * scales)[[10, 0, 0, 4, 10]]
    np.testing.assert_array_equal(compile_op(embedding, types, target)(codes, ids, scales), want)
    np.testing.assert_array_equal(embedding.reference(codes, ids, scales), want)


@pytest.mark.parametrize(
    ("dtype", "scales", "message"),
    [
        (np.int8, [], "codes have scales"),
        (np.float32, [(4, 1)], "codes"),
        (np.int8, [(3, 1)], "fit"),
    ],
)
def test_scales_must_fit(dtype: type, scales: list[tuple[int, int]], message: str) -> None:
    arrays = [np.zeros((4, 3), dtype), np.zeros(2, np.int32)]
    arrays += [np.zeros(shape, np.float32) for shape in scales]
    with pytest.raises(TypeError, match=message):
        run_op(embedding, arrays)
