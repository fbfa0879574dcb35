"""From tensors in files to the tensors that kernels read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from relay_passes.weight_plan import (
    CODES,
    LINEAR_INT4,
    LINEAR_INT8,
    PLAIN,
    MadeTensor,
    PackedWeight,
    Quantized,
    Source,
)
from schedules import linear_int4, linear_int8
from tvm_vacc.artifact.manifest import StoredWeights
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.steps.stored_weights import pack_weight, storage_report

IN = 64
ROWS = 70


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, TensorRef]:
    rng = np.random.default_rng(0)
    shapes = {"a": (ROWS, IN), "b": (IN, 5), "c": (3,), "d": (4,)}
    refs = {}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape).astype(ml_dtypes.bfloat16)
        (tmp_path / name).write_bytes(array.tobytes())
        refs[name] = TensorRef(name, tmp_path / name, 0, shape, "bfloat16")
    return refs


def matrix(sources: dict[str, TensorRef]) -> np.ndarray:
    """``a`` and, below it, the transpose of ``b``."""
    return np.concatenate([sources["a"].read(), sources["b"].read().T]).astype(np.float64)


def entry(layout: str, scheme: str, group: int, *sources: Source) -> PackedWeight:
    made = MadeTensor("x", (1,), "int8")
    how = Quantized("round_to_nearest", scheme, group)
    return PackedWeight("linear", sources, layout, (made, made), how)


BOTH = Source("a"), Source("b", transposed=True)


def test_eight_bits_of_joined_sources(sources: dict[str, TensorRef]) -> None:
    packed, scale = pack_weight(entry(LINEAR_INT8, "w8a16", IN, *BOTH), sources)
    assert packed.shape == linear_int8.packed_shape(ROWS + 5, IN)
    codes = linear_int8.unpack_linear_int8(packed, ROWS + 5, IN)
    assert (scale.shape, scale.flags.c_contiguous) == ((ROWS + 5,), True)
    difference = codes * scale[:, None].astype(np.float64) - matrix(sources)
    assert np.all(np.abs(difference) <= scale[:, None] * 0.5001)


def test_four_bits_of_joined_sources(sources: dict[str, TensorRef]) -> None:
    packed, scale = pack_weight(entry(LINEAR_INT4, "w4a16", 32, *BOTH), sources)
    assert (packed.shape, scale.shape) == linear_int4.packed_shapes(ROWS + 5, IN, 32)
    codes, scales = linear_int4.unpack_linear_int4(packed, scale, ROWS + 5)
    spread = np.repeat(scales.astype(np.float64), 32, axis=1)
    wanted = np.minimum(matrix(sources) / spread, 7)
    assert np.all(np.abs(codes - wanted) <= 0.5001)


def test_rows_of_a_table(sources: dict[str, TensorRef]) -> None:
    codes, scales = pack_weight(entry(CODES, "w8a16", IN, Source("a")), sources)
    assert (codes.shape, scales.shape) == ((ROWS, IN), (ROWS, 1))
    table = sources["a"].read().astype(np.float64)
    assert np.all(np.abs(codes * scales.astype(np.float64) - table) <= scales * 0.5001)


def test_joined_vectors(sources: dict[str, TensorRef]) -> None:
    made = MadeTensor("x", (7,), "float32")
    weight = PackedWeight("other", (Source("c"), Source("d")), PLAIN, (made,))
    [array] = pack_weight(weight, sources)
    assert array.dtype == np.float32
    wanted = np.concatenate([sources["c"].read(), sources["d"].read()])
    np.testing.assert_array_equal(array, wanted.astype(np.float32))


@pytest.mark.parametrize(("layout", "scheme"), [(LINEAR_INT8, "w8a8"), (LINEAR_INT4, "w4a16")])
def test_blocks_of_rows_are_blocks_of_the_result(
    layout: str, scheme: str, sources: dict[str, TensorRef]
) -> None:
    weight = entry(layout, scheme, IN, Source("a"))
    whole = pack_weight(weight, sources)
    parts = [
        pack_weight(weight, {"a": sources["a"].rows(start, stop)})
        for start, stop in ((0, 64), (64, ROWS))
    ]
    for index, array in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[index] for part in parts]), array)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "a holds a NaN"), (np.inf, "a holds an infinity")]
)
def test_what_is_not_finite_names_file_and_tensor(
    value: float, message: str, sources: dict[str, TensorRef]
) -> None:
    array = sources["a"].read().copy()
    array[69, 3] = value
    sources["a"].file.write_bytes(array.tobytes())
    with pytest.raises(CheckpointError, match=message) as caught:
        pack_weight(entry(LINEAR_INT8, "w8a16", IN, Source("a")), sources)
    assert str(caught.value).startswith(f"{sources['a'].file}: ")


def test_storage_is_reported_by_kind(sources: dict[str, TensorRef]) -> None:
    linear = replace(
        entry(LINEAR_INT4, "w4a16", 32, *BOTH),
        tensors=(MadeTensor("x", (2, 8, 256), "uint8"), MadeTensor("y", (2, 2, 64), "float16")),
    )
    bias = PackedWeight("other", (Source("c"),), PLAIN, (MadeTensor("c", (3,), "float32"),))
    table = entry(CODES, "w8a16", IN, Source("a"))
    table = replace(table, kind="embedding", tensors=(MadeTensor("t", (ROWS, IN), "int8"),))
    weights = ROWS * IN + IN * 5
    assert storage_report([bias, linear, table], sources) == (
        StoredWeights("linear", "w4a16", "round_to_nearest", 32, 2, weights, 4096 + 512),
        StoredWeights("embedding", "w8a16", "round_to_nearest", 0, 1, ROWS * IN, ROWS * IN),
        StoredWeights("other", "fp32", "", 0, 1, 3, 12),
    )
