from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.frontend.one_line import one_line_error
from tvm_vacc import safetensors_header
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.safetensors_index import (
    INDEX_FILE,
    SINGLE_FILE,
    read_checkpoint_index,
    read_safetensors_header,
)

F32_2 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write_raw(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def test_reads_what_safetensors_writes(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(5, dtype=np.float16),
        "c": np.arange(4, dtype=np.int64).reshape(2, 2, 1),
        "scalar": np.array(7, np.int32),
    }
    save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "pt"})
    refs = read_safetensors_header(tmp_path / "x.safetensors")
    assert refs.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(refs[name].read(), array)
        assert refs[name].read().dtype == array.dtype


MALFORMED: dict[str, tuple[Any, bytes]] = {
    "not JSON": (b"{", b""),
    "not an object": (b"[]", b""),
    "not UTF-8": (b'{"\xff": 1}', b""),
    "duplicate key": (b'{"a": 1, "a": 1}', b""),
    "deeply nested": (b'{"a": ' + b"[" * 100_000, b""),
    "entry is no object": ({"a": 1}, b""),
    "missing dtype": ({"a": {"shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
    "extra field": ({"a": {**F32_2, "stride": 1}}, b"\0" * 8),
    "unknown dtype": ({"a": {**F32_2, "dtype": "F8_E4M3"}}, b"\0" * 8),
    "dtype is a list": ({"a": {**F32_2, "dtype": []}}, b"\0" * 8),
    "negative dim": ({"a": {**F32_2, "shape": [-2]}}, b"\0" * 8),
    "boolean dim": ({"a": {**F32_2, "shape": [True, 2]}}, b"\0" * 8),
    "real dim": ({"a": {**F32_2, "shape": [2.0]}}, b"\0" * 8),
    "wrong size": ({"a": {**F32_2, "shape": [3]}}, b"\0" * 8),
    "reversed offsets": ({"a": {**F32_2, "data_offsets": [8, 0]}}, b"\0" * 8),
    "three offsets": ({"a": {**F32_2, "data_offsets": [0, 4, 8]}}, b"\0" * 8),
    "negative offset": ({"a": {**F32_2, "data_offsets": [-8, 0]}}, b"\0" * 8),
    "beyond the end": ({"a": {**F32_2, "data_offsets": [8, 16]}}, b"\0" * 8),
    "truncated": ({"a": F32_2}, b"\0" * 7),
    "trailing bytes": ({"a": F32_2}, b"\0" * 9),
    "overlap": ({"a": F32_2, "b": {**F32_2, "data_offsets": [4, 12]}}, b"\0" * 12),
    "hole": ({"a": F32_2, "b": {**F32_2, "data_offsets": [12, 20]}}, b"\0" * 20),
    "huge shape": ({"a": {**F32_2, "shape": [2**62, 2**62]}}, b"\0" * 8),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_header_is_one_line(tmp_path: Path, case: str) -> None:
    path = write_raw(tmp_path / SINGLE_FILE, *MALFORMED[case])
    one_line_error(lambda: read_safetensors_header(path), names=SINGLE_FILE)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 8, (2**40).to_bytes(8, "little")])
def test_short_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / SINGLE_FILE
    path.write_bytes(content)
    one_line_error(lambda: read_safetensors_header(path), names="too short for its header")


def test_oversized_header_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_header, "MAX_SAFETENSORS_HEADER", 10)
    path = write_raw(tmp_path / SINGLE_FILE, {"a": F32_2}, b"\0" * 8)
    one_line_error(lambda: read_safetensors_header(path), names="at most 10")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes_give_tensors_in_range_or_one_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Flip, cut or replace parts of a good file: what is accepted lies within the file."""
    header = {"a": F32_2, "b": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8, 16]}}
    text = json.dumps(header).encode()
    good = len(text).to_bytes(8, "little") + text + bytes(16)
    mutated = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        mutated[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(mutated)
    try:
        refs = read_safetensors_header(path)
    except CheckpointError as error:
        message, ends = str(error), [len(mutated)]
    else:
        message, ends = "", [8 + int.from_bytes(mutated[:8], "little")]
        for ref in refs.values():
            assert ref.offset == ends[-1]
            ends.append(ref.offset + ref.nbytes)
    assert ends[-1] == len(mutated)
    assert "\n" not in message


def write_index(directory: Path, weight_map: Any) -> None:
    (directory / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("a", "b"):
        write_raw(directory / f"{name}.safetensors", {name: F32_2}, b"\0" * 8)
    write_index(directory, {"a": "a.safetensors", "b": "b.safetensors"})
    return directory


def test_reads_shards(shards: Path) -> None:
    refs = read_checkpoint_index(shards)
    assert {name: ref.file.name for name, ref in refs.items()} == {
        "a": "a.safetensors",
        "b": "b.safetensors",
    }


@pytest.mark.parametrize(
    ("weight_map", "names"),
    [
        ({"a": "b.safetensors", "b": "a.safetensors"}, "b.safetensors: holds b"),
        ({"a": "a.safetensors"}, None),
        ({"a": "a.safetensors", "b": "a.safetensors"}, "lacks b"),
        ({"a": "a.safetensors", "b": "c.safetensors"}, "c.safetensors: no such file"),
        ({"a": "a.safetensors", "b": "../b.safetensors"}, "'../b.safetensors'"),
        ({"a": "a.safetensors", "b": "/etc/passwd"}, "'/etc/passwd'"),
        ({"a": "a.safetensors", "b": "x\\b.safetensors"}, "plain name"),
        ({"a": "a.safetensors", "b": ""}, "plain name"),
        ({"a": "a.safetensors", "b": ".."}, "plain name"),
        ({"a": "a.safetensors", "b": "b\0.safetensors"}, "plain name"),
        ({"a": "a.safetensors", "b": 1}, "names no file for b"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
def test_lying_index_is_one_line(shards: Path, weight_map: Any, names: str | None) -> None:
    write_index(shards, weight_map)
    if names is None:  # a shard that no entry names is not opened
        assert list(read_checkpoint_index(shards)) == ["a"]
    else:
        one_line_error(lambda: read_checkpoint_index(shards), names=names)


def test_tensor_the_index_does_not_know(shards: Path) -> None:
    both = {"a": F32_2, "c": {**F32_2, "data_offsets": [8, 16]}}
    write_raw(shards / "a.safetensors", both, b"\0" * 16)
    one_line_error(lambda: read_checkpoint_index(shards), names="holds c")


def test_link_out_of_the_checkpoint_is_refused(shards: Path) -> None:
    outside = shards.parent / "outside.safetensors"
    (shards / "b.safetensors").rename(outside)
    (shards / "b.safetensors").symlink_to(outside)
    one_line_error(lambda: read_checkpoint_index(shards), names="outside the checkpoint")


def test_link_to_itself(shards: Path) -> None:
    (shards / "b.safetensors").unlink()
    (shards / "b.safetensors").symlink_to("b.safetensors")
    one_line_error(lambda: read_checkpoint_index(shards), names="b.safetensors")


def test_links_of_the_hugging_face_cache_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123abcd"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    write_raw(blobs / "cafe", {"a": F32_2}, b"\0" * 8)
    (snapshot / SINGLE_FILE).symlink_to("../../blobs/cafe")
    assert read_checkpoint_index(snapshot)["a"].file == (blobs / "cafe").resolve()


def test_pickles_are_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    line = one_line_error(lambda: read_checkpoint_index(tmp_path), names="pytorch_model.bin")
    assert "safe_serialization=True" in line


def test_no_weights_is_one_line(tmp_path: Path) -> None:
    one_line_error(lambda: read_checkpoint_index(tmp_path), names=SINGLE_FILE)
