"""Finds every tensor of a safetensors checkpoint by its headers; reads no weight.

The format (https://huggingface.co/docs/safetensors): eight bytes of header length, little-endian;
that many bytes of JSON; then the tensors' bytes, back to back. A sharded checkpoint has an index
that names the shard of every tensor.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

from tvm_vacc.dtypes import FORMAT_DTYPES
from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.limits import MAX_SAFETENSORS_HEADER
from tvm_vacc.safe_io import parse_json_object, read_json_object

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_DTYPE_NAMES = {code: dtype.name for code, dtype in FORMAT_DTYPES.items()}
_LENGTH_BYTES = 8
_DAMAGED = "the file is damaged: download it again"


def read_checkpoint_index(directory: Path) -> dict[str, TensorRef]:
    """Return every tensor of the checkpoint in `directory`, by its name in the files.

    Raises:
        CheckpointError: no safetensors there, or any file of them damaged, missing or lying.
    """
    if (directory / SINGLE_FILE).exists():
        return read_safetensors_header(resolve_inside(directory, SINGLE_FILE))
    if (directory / INDEX_FILE).exists():
        return _read_shards(directory)
    pickles = sorted(p.name for p in directory.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        raise CheckpointError(
            f"{directory / pickles[0]}: pickled weights can run code and are not read",
            "convert the checkpoint where you trust it: load it in transformers and"
            " model.save_pretrained(new_directory, safe_serialization=True)",
        )
    raise CheckpointError(
        f"{directory}: neither {SINGLE_FILE} nor {INDEX_FILE} is there",
        "give the directory of a Hugging Face checkpoint with its weights",
    )


def resolve_inside(directory: Path, name: str) -> Path:
    """Return the real path of the file `name` of the checkpoint in `directory`.

    A link must stay inside the directory, or inside the `blobs` of the Hugging Face cache when
    the directory is one of its `snapshots`.

    Raises:
        CheckpointError: `name` is a path, leads out of the checkpoint, or is no file.
    """
    if name in ("", ".", "..") or "\0" in name or os.path.basename(name) != name or "\\" in name:
        raise CheckpointError(f"{directory}: {name!r} is not the plain name of a file beside it")
    root = directory.resolve()
    try:
        real = (root / name).resolve()
    except RuntimeError:  # what pathlib before 3.13 makes of a loop
        raise CheckpointError(f"{directory / name}: links to itself", "copy the file") from None
    roots = [root]
    if root.parent.name == "snapshots":
        roots.append(root.parent.parent / "blobs")
    if not any(real.is_relative_to(allowed) for allowed in roots):
        raise CheckpointError(
            f"{directory / name}: links to {real}, outside the checkpoint", "copy the file itself"
        )
    if not real.is_file():
        raise CheckpointError(f"{directory / name}: no such file", "the checkpoint is incomplete")
    return real


def read_safetensors_header(path: Path) -> dict[str, TensorRef]:
    """Return the tensors of one safetensors file, in the order of their bytes.

    Raises:
        CheckpointError: truncated or oversized, no valid header, or offsets that overlap, leave
            holes, run past the end or contradict dtype and shape.
    """
    header, start, size = _read_header(path)
    header.pop("__metadata__", None)
    refs = [_tensor_ref(path, name, entry, start) for name, entry in header.items()]
    refs.sort(key=lambda ref: (ref.offset, ref.nbytes))
    end = start
    for ref in refs:
        if ref.offset != end:
            fault = "overlaps the tensor before it" if ref.offset < end else "leaves a hole"
            raise CheckpointError(f"{path}: {ref.name} {fault}", _DAMAGED)
        end += ref.nbytes
    if end != size:
        fault = "truncated" if end > size else "longer than its tensors"
        raise CheckpointError(f"{path}: {fault}, {size} bytes instead of {end}", _DAMAGED)
    return {ref.name: ref for ref in refs}


def _read_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """Return the parsed header, the offset of the first tensor byte, and the file's size."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
                raise CheckpointError(f"{path}: too short for its header", _DAMAGED)
            if length > MAX_SAFETENSORS_HEADER:
                raise CheckpointError(
                    f"{path}: a header of {length} bytes, at most {MAX_SAFETENSORS_HEADER} are read"
                )
            text = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if not text.startswith(b"{"):
        raise CheckpointError(f"{path}: not a safetensors file", _DAMAGED)
    header = parse_json_object(text, where=str(path), error=CheckpointError, cure=_DAMAGED)
    return header, _LENGTH_BYTES + length, size


def _tensor_ref(path: Path, name: str, entry: object, start: int) -> TensorRef:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{path}: {name} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPE_NAMES:
        raise CheckpointError(
            f"{path}: {name} has dtype {dtype!r}", f"known ones are {', '.join(_DTYPE_NAMES)}"
        )
    if not _are_sizes(shape):
        raise CheckpointError(f"{path}: {name} has shape {shape!r}", _DAMAGED)
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{path}: {name} has data_offsets {offsets!r}", _DAMAGED)
    nbytes = prod(shape) * FORMAT_DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != nbytes:
        raise CheckpointError(
            f"{path}: {name} takes {offsets[1] - offsets[0]} bytes, {dtype} {shape} needs {nbytes}",
            _DAMAGED,
        )
    return TensorRef(name, path, start + offsets[0], tuple(shape), _DTYPE_NAMES[dtype])


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _read_shards(directory: Path) -> dict[str, TensorRef]:
    index = directory / INDEX_FILE
    weight_map = read_json_object(
        resolve_inside(directory, INDEX_FILE), error=CheckpointError, cure=_DAMAGED
    ).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: no weight_map")
    if wrong := [name for name, shard in weight_map.items() if not isinstance(shard, str)]:
        raise CheckpointError(f"{index}: weight_map names no file for {wrong[0]}")
    found: dict[str, TensorRef] = {}
    for shard in dict.fromkeys(weight_map.values()):
        for name, ref in read_safetensors_header(resolve_inside(directory, shard)).items():
            if weight_map.get(name) != shard:
                wanted = weight_map.get(name, "no file")
                raise CheckpointError(
                    f"{directory / shard}: holds {name}, which the index puts in {wanted}"
                )
            found[name] = ref
    if missing := [name for name in weight_map if name not in found]:
        raise CheckpointError(
            f"{directory / weight_map[missing[0]]}: lacks {missing[0]}, which the index puts there"
        )
    return found
