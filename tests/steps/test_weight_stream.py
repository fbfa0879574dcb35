"""Slices, put together, are what packing the whole weight gives; no slice is large."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from relay_passes.weight_plan import LINEAR, PLAIN, MadeTensor, PackedWeight, Quantized, Source
from schedules.linear_float import packed_shape
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.steps import weight_stream
from tvm_vacc.steps.stored_weights import pack_weight
from tvm_vacc.steps.weight_stream import stream_weights

BF16 = np.dtype(ml_dtypes.bfloat16)


class Files:
    """Tensors in a raw file, one behind the other."""

    def __init__(self, directory: Path, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.refs: dict[str, TensorRef] = {}
        offset = 3
        file = directory / "weights.bin"
        with file.open("wb") as stream:
            stream.write(b"abc")
            for name, array in arrays.items():
                stream.write(array.tobytes())
                self.refs[name] = TensorRef(name, file, offset, array.shape, array.dtype.name)
                offset += array.nbytes


def linear(names: Sequence[str], rows: int, columns: int, transposed: bool = False) -> PackedWeight:
    made = MadeTensor("+".join(names) + ".linear", packed_shape(rows, columns), "bfloat16")
    return PackedWeight(
        "linear", tuple(Source(name, transposed) for name in names), LINEAR, (made,)
    )


def plain(name: str, shape: tuple[int, ...]) -> PackedWeight:
    return PackedWeight("other", (Source(name),), PLAIN, (MadeTensor(name, shape, "bfloat16"),))


def whole(weight: PackedWeight, files: Files) -> np.ndarray:
    """Return what the packer, whose own tests say that it is right, makes of all rows at once."""
    [array] = pack_weight(weight, files.refs)
    return array


def streamed(
    plan: list[PackedWeight], files: Files, workers: int = 2, finished: int = 0
) -> tuple[dict[str, np.ndarray], int, int, int]:
    """Return the tensors, the number of slices, the bytes read, and the weights that ended."""
    parts: dict[str, list[np.ndarray]] = {}
    slices = read = ended = 0
    for part in stream_weights(plan, files.refs, workers, finished=finished):
        parts.setdefault(part.name, []).append(part.array)
        slices += 1
        read += part.read
        ended += part.ends_weight
    return {name: np.concatenate(found) for name, found in parts.items()}, slices, read, ended


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 1000])
def test_slices_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, workers: int
) -> None:
    monkeypatch.setattr(weight_stream, "SLICE_BYTES", 20_000)
    rng = np.random.default_rng(rows)
    a, b, table, norm = (
        rng.standard_normal(shape).astype(BF16)
        for shape in ((rows, 33), (70, 33), (301, 40), (50,))
    )
    files = Files(tmp_path, {"a": a, "b": b, "table": table, "norm": norm})
    plan = [
        linear(["a"], rows, 33),
        plain("norm", (50,)),
        linear(["b", "a"], 70 + rows, 33),
        plain("table", table.shape),
    ]
    found, slices, read, ended = streamed(plan, files, workers)
    np.testing.assert_array_equal(found["a.linear"], whole(plan[0], files))
    np.testing.assert_array_equal(found["b+a.linear"], whole(plan[2], files))
    np.testing.assert_array_equal(found["table"], table)
    np.testing.assert_array_equal(found["norm"], norm)
    assert list(found) == ["a.linear", "norm", "b+a.linear", "table"]
    assert read == 2 * a.nbytes + b.nbytes + table.nbytes + norm.nbytes
    assert ended == 4
    assert slices > 4


def test_a_transposed_weight_is_packed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_stream, "SLICE_BYTES", 1000)
    stored = np.random.default_rng(0).standard_normal((33, 200)).astype(BF16)
    files = Files(tmp_path, {"a": stored})
    weight = linear(["a"], 200, 33, transposed=True)
    found, slices, _, _ = streamed([weight], files)
    np.testing.assert_array_equal(found["a.linear"], whole(weight, files))
    assert slices == 1


def test_codes_that_are_chosen_already_are_cut_with_their_scales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_stream, "SLICE_BYTES", 2000)
    rng = np.random.default_rng(2)
    rows = {"a": 100, "b": 90}
    codes = {n: rng.integers(-127, 128, (r, 20)).astype(np.int8) for n, r in rows.items()}
    scales = {f"{n}.scale": rng.random((r, 1)).astype(BF16) for n, r in rows.items()}
    files = Files(tmp_path, {**codes, **scales})
    weight = PackedWeight(
        "linear",
        tuple(map(Source, codes)),
        "codes",
        (MadeTensor("c", (190, 20), "int8"), MadeTensor("s", (190, 1), "float32")),
        Quantized("gptq", "w8a16", 20),
        tuple(map(Source, scales)),
    )
    found, slices, _, _ = streamed([weight], files)
    np.testing.assert_array_equal(found["c"], np.concatenate(list(codes.values())))
    want = np.concatenate(list(scales.values())).astype(np.float32)
    np.testing.assert_array_equal(found["s"], want)
    assert slices > 2


def fake_codes(weight: PackedWeight, sources: dict[str, TensorRef]) -> tuple[np.ndarray, ...]:
    """Codes and scales of rows, as quantising makes them."""
    matrix = np.concatenate([sources[source.name].read() for source in weight.sources])
    made = matrix.astype(np.int8), np.abs(matrix).max(axis=1, keepdims=True).astype(np.float32)
    assert tuple(array.shape for array in made) == tuple(t.shape for t in weight.tensors)
    return made


@pytest.mark.parametrize("finished", [0, 1, 2, 3, 4])
def test_scales_stand_behind_their_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    monkeypatch.setattr(weight_stream, "SLICE_BYTES", 2000)
    monkeypatch.setattr(weight_stream, "pack_weight", fake_codes)
    rng = np.random.default_rng(1)
    arrays = {name: (rng.standard_normal((200, 7)) * 9).astype(np.float32) for name in "ab"}
    files = Files(tmp_path, arrays)
    quantized = Quantized("round_to_nearest", "w8a16", 32)
    plan = [
        PackedWeight(
            "linear",
            (Source(name),),
            "codes",
            (
                MadeTensor(f"{name}.c", (200, 7), "int8"),
                MadeTensor(f"{name}.s", (200, 1), "float32"),
            ),
            quantized,
        )
        for name in "ab"
    ]
    found, slices, read, ended = streamed(plan, files, finished=finished)
    names = ["a.c", "a.s", "b.c", "b.s"]
    assert list(found) == names[finished:]
    assert read == sum(arrays[name].nbytes for name in "ab"[finished // 2 :])
    assert ended == 2 - finished // 2
    for name in names[finished:]:
        array = arrays[name[0]]
        want = array.astype(np.int8) if name[2] == "c" else np.abs(array).max(1, keepdims=True)
        np.testing.assert_array_equal(found[name], want)
    assert slices > 2 or finished >= 3


@pytest.mark.parametrize("block", [16, 32, 64])
def test_blocks_of_every_layout_stay_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    def pack(weight: PackedWeight, sources: dict[str, TensorRef]) -> tuple[np.ndarray, ...]:
        matrix = sources["a"].read()
        blocks = -(-len(matrix) // block)
        padded = np.zeros((blocks * block, 7), np.float32)
        padded[: len(matrix)] = matrix
        return padded.reshape(blocks, block, 7), padded.sum(axis=1)

    monkeypatch.setattr(weight_stream, "SLICE_BYTES", 2000)
    monkeypatch.setattr(weight_stream, "pack_weight", pack)
    array = np.random.default_rng(0).standard_normal((203, 7)).astype(np.float32)
    files = Files(tmp_path, {"a": array})
    blocks = -(-203 // block)
    made = (
        MadeTensor("c", (blocks, block, 7), "float32"),
        MadeTensor("s", (blocks * block,), "float32"),
    )
    plan = [PackedWeight("linear", (Source("a"),), "blocks", made)]
    found, slices, _, _ = streamed(plan, files)
    want = pack(plan[0], files.refs)
    np.testing.assert_array_equal(found["c"], want[0])
    np.testing.assert_array_equal(found["s"], want[1])
    assert slices == 8


def test_rows_that_depend_on_each_other_are_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_stream, "SLICE_BYTES", 2000)
    monkeypatch.setattr(weight_stream, "pack_weight", fake_codes)
    files = Files(tmp_path, {"a": np.ones((200, 7), np.float32)})
    made = (MadeTensor("c", (200, 7), "int8"), MadeTensor("s", (200, 1), "float32"))
    plan = [PackedWeight("linear", (Source("a"),), "codes", made, Quantized("gptq", "w8a16", 32))]
    assert streamed(plan, files)[1] == 2


def test_an_error_in_a_thread_reaches_the_caller(tmp_path: Path) -> None:
    files = Files(tmp_path, {"a": np.full((3, 2), 7e4, np.float32)})
    weight = PackedWeight("other", (Source("a"),), PLAIN, (MadeTensor("a", (3, 2), "float16"),))
    with pytest.raises(CheckpointError, match="holds 70000"):
        streamed([weight], files)
