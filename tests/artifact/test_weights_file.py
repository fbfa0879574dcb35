from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tvm_vacc.artifact.weights_file import PADDING_PREFIX, WeightsWriter
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import WEIGHT_ALIGNMENT


def arrays() -> dict[str, np.ndarray]:
    """One array of every dtype, none a multiple of the alignment, and the odd shapes."""
    generator = np.random.default_rng(0)
    result = {
        name: (generator.standard_normal((3, 5 + index)) * 50).astype(dtype)
        for index, (name, dtype) in enumerate(NUMPY_DTYPES.items())
    }
    result["empty"] = np.zeros((0, 4), np.float32)
    result["scalar"] = np.array(7, np.int64)
    result["whole page"] = generator.integers(-9, 9, (2, WEIGHT_ALIGNMENT)).astype(np.int8)
    result["层.0"] = np.ones(3, ml_dtypes.bfloat16)
    return result


def write(path: Path, tensors: dict[str, np.ndarray]) -> WeightsWriter:
    entries = [(name, array.shape, array.dtype.name) for name, array in tensors.items()]
    with WeightsWriter(path, entries) as writer:
        for name, array in tensors.items():
            writer.append(name, array)
    return writer


def test_the_safetensors_library_reads_what_was_written(tmp_path: Path) -> None:
    tensors = arrays()
    write(tmp_path / "w", tensors)
    found = safetensors.numpy.load_file(tmp_path / "w")
    padding = {name for name in found if name.startswith(PADDING_PREFIX)}
    assert found.keys() - padding == tensors.keys()
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert padding
    assert not any(found[name].any() for name in padding)


def test_hash_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    writer = write(tmp_path / "w", arrays())
    data = (tmp_path / "w").read_bytes()
    assert writer.sha256 == hashlib.sha256(data).hexdigest()
    assert writer.nbytes == len(data)


def test_strides_and_byte_order_do_not_matter(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    tensors = {"t": array.T, "swapped": array.astype(">i4"), "step": array[::2]}
    write(tmp_path / "w", tensors)
    found = safetensors.numpy.load_file(tmp_path / "w")
    for name, expected in tensors.items():
        np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("b", np.zeros((2, 3), np.float32)),
        ("a", np.zeros((3, 2), np.float32)),
        ("a", np.zeros((2, 3), np.float16)),
    ],
)
def test_another_tensor_than_announced_is_refused(
    tmp_path: Path, name: str, array: np.ndarray
) -> None:
    entries = [("a", (2, 3), "float32"), ("b", (2, 3), "float32")]
    with (
        pytest.raises(ValueError, match="due is TensorEntry"),
        WeightsWriter(tmp_path / "w", entries) as writer,
    ):
        writer.append(name, array)


def test_one_too_many_and_one_too_few_are_refused(tmp_path: Path) -> None:
    one = np.zeros(1, np.float32)
    with (
        pytest.raises(ValueError, match="due is None"),
        WeightsWriter(tmp_path / "v", []) as writer,
    ):
        writer.append("a", one)
    entries = [("a", (1,), "float32"), ("b", (1,), "float32")]
    with (
        pytest.raises(ValueError, match="b: was announced, never came"),
        WeightsWriter(tmp_path / "w", entries) as writer,
    ):
        writer.append("a", one)
    assert writer.sha256 == ""


@pytest.mark.parametrize("names", [("a", "a"), ("__padding__.3",), ("__metadata__",)])
def test_names_that_the_format_cannot_hold_are_refused(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="twice or is a reserved name"):
        WeightsWriter(tmp_path / "w", [(name, (1,), "int8") for name in names])


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 << 20))
    writer = WeightsWriter(tmp_path / "w", [("a", (9 << 20,), "int8")])
    with pytest.raises(ArtifactError, match="needs 9 MiB, 5 MiB are free; free some space"), writer:
        pass
    assert not (tmp_path / "w").exists()
