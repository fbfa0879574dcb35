from __future__ import annotations

import contextlib
import gc
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.artifact.test_weights_file import arrays, write
from tvm_vacc.artifact.manifest import Manifest
from tvm_vacc.artifact.mapped_weights import map_parameters, map_weights
from tvm_vacc.errors import ArtifactError
from tvm_vacc.limits import WEIGHT_ALIGNMENT


def mappings_of(path: Path) -> list[range]:
    """Return the address ranges at which this process maps `path`."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith(str(path))]
    return [range(int(low, 16), int(high, 16)) for low, high in spans]


def test_the_mapping_holds_what_was_written(tmp_path: Path) -> None:
    tensors = arrays()
    path = tmp_path / "w"
    write(path, tensors)
    mapped = map_weights(path)
    assert list(mapped) == list(tensors)
    raw = path.read_bytes()
    for name, array in tensors.items():
        tensor = mapped[name]
        assert (tensor.shape, tensor.dtype) == (array.shape, array.dtype.name)
        assert tensor.offset % WEIGHT_ALIGNMENT == 0
        assert raw[tensor.offset : tensor.offset + array.nbytes] == array.tobytes()
        np.testing.assert_array_equal(tensor.numpy(), array)
        assert not tensor.numpy().flags.writeable


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells no mappings")
def test_tvm_tensors_are_views_that_keep_the_mapping_alive(tmp_path: Path) -> None:
    tensors = arrays()
    path = tmp_path / "weights"
    write(path, tensors)
    mapped = map_weights(path)
    views = {name: tensor.to_tvm() for name, tensor in mapped.items()}
    del mapped
    gc.collect()
    (span,) = mappings_of(path)
    for name, array in tensors.items():
        view = views[name]
        assert (tuple(view.shape), str(view.dtype)) == (array.shape, array.dtype.name)
        assert view.data_ptr() in span
        assert view.data_ptr() % WEIGHT_ALIGNMENT == 0
        np.testing.assert_array_equal(view.numpy(), array)
    last = views["float32"]
    views.clear()
    del view
    gc.collect()
    assert mappings_of(path)
    np.testing.assert_array_equal(last.numpy(), tensors["float32"])
    del last
    gc.collect()
    assert not mappings_of(path)


def test_compiled_code_reads_a_mapped_tensor(tmp_path: Path) -> None:
    import tvm
    from tvm import relax

    array = np.arange(-20, 20, dtype=np.float32).reshape(5, 8)
    write(tmp_path / "w", {"first": np.ones(3, np.int8), "second": array})
    tensor = map_weights(tmp_path / "w")["second"].to_tvm()
    x = relax.Var("x", relax.TensorType((5, 8), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.add(x, x)))
    machine = relax.VirtualMachine(tvm.compile(builder.get(), target="llvm"), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tensor).numpy(), array + array)


def test_a_replaced_file_stays_mapped(tmp_path: Path) -> None:
    write(tmp_path / "w", {"a": np.full(9, 1, np.int8)})
    mapped = map_weights(tmp_path / "w")["a"]
    write(tmp_path / "new", {"a": np.full(9, 2, np.int8)})
    (tmp_path / "new").rename(tmp_path / "w")
    assert mapped.numpy().tolist() == [1] * 9


def test_truncation_is_refused_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "w"
    write(path, {"a": np.ones(5, np.int8), "b": np.ones(5, np.float32)})
    data = path.read_bytes()
    for length in [*range(20), 4095, 4096, 4097, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ArtifactError) as caught:
            map_weights(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).endswith("compile it again")
    path.write_bytes(data + b"\0")
    with pytest.raises(ArtifactError, match="damaged"):
        map_weights(path)


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ArtifactError, match="cannot be read"):
            map_weights(path)


def test_parameters_come_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    tensors = arrays()
    write(tmp_path / "w.safetensors", tensors)
    wanted = tuple(reversed(tensors))
    manifest = Manifest(
        kind="graph", name="m", target="", dtype="", weights=("w.safetensors",), parameters=wanted
    )
    assert [tensor.name for tensor in map_parameters(tmp_path, manifest)] == list(wanted)
    with pytest.raises(ArtifactError, match="the weight nosuch is missing; compile"):
        map_parameters(tmp_path, replace(manifest, parameters=("nosuch",)))


def test_a_file_that_is_not_aligned_is_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.ones(5, np.int8)}, tmp_path / "w")
    with pytest.raises(ArtifactError, match=r"a: starts at byte .* no multiple of 4096"):
        map_weights(tmp_path / "w")


def with_header(path: Path, header: Any, data: bytes) -> Path:
    text = (header if isinstance(header, str) else json.dumps(header)).encode().ljust(4088)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4], **changes}}


LYING_HEADERS = {
    "list": [],
    "text": "no JSON",
    "twice": '{"a": 1, "a": 2}',
    "entry": {"a": 1},
    "more keys": entry(more=1),
    "dtype": entry(dtype="F8"),
    "dtype type": entry(dtype=["I8"]),
    "shape": entry(shape=4),
    "negative": entry(shape=[-4]),
    "bool": entry(shape=[True]),
    "float": entry(shape=[4.0]),
    "deep": entry(shape=[1] * 33 + [4]),
    "huge": entry(shape=[10**18, 10**18], data_offsets=[0, 10**36]),
    "offset": entry(data_offsets=[1, 5]),
    "offsets": entry(data_offsets=[0]),
    "short": entry(shape=[3], data_offsets=[0, 3]),
    "long": entry(shape=[5], data_offsets=[0, 5]),
    "overlap": entry() | {"b": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]}},
}


def test_the_honest_header_is_taken(tmp_path: Path) -> None:
    assert list(map_weights(with_header(tmp_path / "w", entry(), b"1234"))) == ["a"]


@pytest.mark.parametrize("case", LYING_HEADERS)
def test_lying_headers_are_refused(tmp_path: Path, case: str) -> None:
    path = with_header(tmp_path / "w", LYING_HEADERS[case], b"1234")
    with pytest.raises(ArtifactError) as caught:
        map_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(position=st.integers(0, 300), junk=st.binary(min_size=1, max_size=8))
def test_whatever_a_header_holds_only_our_error_escapes(
    tmp_path: Path, position: int, junk: bytes
) -> None:
    path = tmp_path / "w"
    if not path.exists():
        write(path, {"a": np.ones(5, np.int8), "b": np.ones(5, np.float32)})
    data = bytearray(path.read_bytes())
    data[position : position + len(junk)] = junk
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data)
    with contextlib.suppress(ArtifactError):
        map_weights(damaged)
