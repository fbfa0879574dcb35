from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tvm_vacc.cache import key as key_module
from tvm_vacc.cache.key import Key, digest_of, tensor_parts, tool_parts
from tvm_vacc.frontend.tensor_ref import TensorRef


def test_the_digest_depends_on_names_and_values_not_on_their_order() -> None:
    assert Key({"a": "1", "b": "2"}).digest == Key({"b": "2", "a": "1"}).digest
    different = [{"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "2"}, {"a": "12"}]
    assert len({Key(parts).digest for parts in different}) == len(different)
    assert digest_of([1, 2]) != digest_of([2, 1])


def tensor(path: Path, value: int) -> TensorRef:
    array = np.full(9000, value, np.int32)
    path.write_bytes(b"head" + array.tobytes())
    return TensorRef("t", path, 4, array.shape, "int32")


def test_tensors_differ_by_place_shape_dtype_and_content(tmp_path: Path) -> None:
    ref = tensor(tmp_path / "f", 1)
    base = tensor_parts({"t": ref})
    assert base == tensor_parts({"t": ref})
    for changed in (
        replace(ref, offset=8),
        replace(ref, shape=(8999,)),
        replace(ref, dtype="int8"),
    ):
        assert tensor_parts({"t": changed}) != base
    other = tensor(tmp_path / "g", 2)
    assert tensor_parts({"t": other})["tensor t"] != base["tensor t"]


def test_a_file_written_again_counts_as_another(tmp_path: Path) -> None:
    ref = tensor(tmp_path / "f", 1)
    before = tensor_parts({"t": ref})
    time.sleep(0.01)
    tensor(tmp_path / "f", 1)
    assert tensor_parts({"t": ref}) != before


def test_other_content_under_equal_times_and_size_is_noticed(tmp_path: Path) -> None:
    """Archives and container layers are unpacked with times of their own choice."""
    ref = tensor(tmp_path / "f", 1)
    os.utime(tmp_path / "f", ns=(1, 1))
    before = tensor_parts({"t": ref})
    tensor(tmp_path / "f", 2)
    os.utime(tmp_path / "f", ns=(1, 1))
    after = tensor_parts({"t": ref})
    assert before["file f"] == after["file f"]
    assert before != after


def test_sources_of_the_compiler_count_and_those_of_the_runtime_do_not(
    tmp_path: Path, monkeypatch
) -> None:
    package = tmp_path / "tvm_vacc"
    for name in ("__init__.py", "a.py", "runtime/b.py", "ops/c.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("1")

    class Spec:
        origin = str(package / "__init__.py")

    monkeypatch.setattr(key_module, "_SOURCES", ("tvm_vacc",))
    monkeypatch.setattr(key_module, "find_spec", lambda _name: Spec)

    def digest() -> str:
        tool_parts.cache_clear()
        return tool_parts("numpy")["tvm_vacc sources"]

    try:
        first = digest()
        (package / "runtime" / "b.py").write_text("2")
        assert digest() == first
        (package / "ops" / "c.py").write_text("2")
        second = digest()
        assert second != first
        (package / "ops" / "d.py").write_text("")
        assert digest() != second
        assert tool_parts("numpy")["numpy"] == np.__version__
    finally:
        tool_parts.cache_clear()
