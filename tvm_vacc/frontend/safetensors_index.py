"""Finds every tensor of a safetensors checkpoint by its headers; reads no weight.

A sharded checkpoint has an index that names the shard of every tensor.
"""

from __future__ import annotations

import os
from pathlib import Path

from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.safe_io import read_json_object
from tvm_vacc.safetensors_header import HeaderReader

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

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
        CheckpointError: see `HeaderReader.read`.
    """
    return {
        entry.name: TensorRef(entry.name, path, entry.begin, entry.shape, entry.dtype)
        for entry in HeaderReader(CheckpointError, _DAMAGED).read(path)
    }


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
