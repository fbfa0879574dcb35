"""A checkpoint of random weights: the shapes and the size of a real one, made at disk speed.

Weights are bf16 numbers of random sign and mantissa, their exponent drawn of four: a few integer
operations on random bits, so that the disk is what takes the time. They are scaled by their row
length (Glorot and Bengio, 2010), so activations stay finite through any number of layers, and
differ from row to row, so that greedy text varies.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from math import log2, prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.room import require_room
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.checkpoint import read_spec
from tvm_vacc.frontend.glm_layout import EMBEDDING, tensor_shapes
from tvm_vacc.progress import Progress
from tvm_vacc.safe_io import fsync_directory

SHARD_BYTES = 5_000_000_000
"""Bytes of weights a file: the default of transformers' save_pretrained, as GLM-4-9B has it."""

CHUNK_BYTES = 1 << 24
"""Bytes made and written at a time; some of them are in memory."""

CHUNKS_AHEAD = 4
"""Chunks made while others are written."""

LOGIT_SCALE = 4.0
"""Deviation of the logits: enough for the most probable token to stand out."""

BIAS_DEVIATION = 0.1
"""Of the biases of q, k and v."""

_ITEM = 2
"""Bytes of a bf16 number."""

_KEPT_BITS = np.uint64(0x81FF_81FF_81FF_81FF)
"""Sign, mantissa, and the lowest two bits of the exponent."""

_RMS = sqrt(7 / 3 * (1 + 4 + 16 + 64) / 4)
"""Root mean square of 2^e * m, e of 0 to 3 and m from 1 to 2, both evenly distributed."""

_ONE = 0x3F80
"""1.0 in bf16."""

_NORM_BITS = np.uint64(0x000F_000F_000F_000F)
"""Mantissa bits of a norm's weights that are random: values from 1 to 1.12."""

_LANES = np.uint64(0x0001_0001_0001_0001)
"""Times a 16-bit number: that number in all four places of a 64-bit one."""


def write_checkpoint(
    directory: Path, config: dict[str, Any], *, seed: int, report: Callable[[Progress], None]
) -> Path:
    """Write a checkpoint of the `glm` layout in bf16; shards that are there already stay.

    Args:
        directory: is made where it is missing.
        config: the content of config.json.
        seed: of the weights; the same seed makes the same bytes.
        report: is told the bytes done.

    Raises:
        ConfigError: the directory holds another checkpoint, or the disk has not the room.
        CheckpointError: the config is none of a GLM.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _write_config(directory / "config.json", config)
    spec = read_spec(directory, "bfloat16")
    tensors = [
        _Tensor(name, shape, number) for number, (name, shape) in enumerate(tensor_shapes(spec))
    ]
    shards = _shards(tensors)
    files = [
        _Shard(directory / f"model-{index:05}-of-{len(shards):05}.safetensors", shard, seed)
        for index, shard in enumerate(shards, start=1)
    ]
    missing = [file for file in files if not file.is_there()]
    require_room(
        directory,
        sum(file.nbytes for file in missing),
        "free some space, choose another disk, or give fewer --layers",
    )
    _write_index(directory, files)
    total = sum(file.nbytes for file in files)
    done = total - sum(file.nbytes for file in missing)
    report(Progress("weights", done, total, "bytes"))
    for file in missing:
        for written in file.write():
            done += written
            report(Progress("weights", done, total, "bytes"))
    fsync_directory(directory)
    return directory


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    number: int

    @property
    def nbytes(self) -> int:
        return _ITEM * prod(self.shape)

    def chunks(self, seed: int) -> Iterator[Callable[[], np.ndarray]]:
        """Yield what makes each piece of the tensor, in order: bf16 values as uint16."""
        for index, start in enumerate(range(0, self.nbytes, CHUNK_BYTES)):
            count = min(CHUNK_BYTES, self.nbytes - start) // _ITEM
            yield partial(self._values, (seed, self.number, index), count)

    def _values(self, seeds: tuple[int, ...], count: int) -> np.ndarray:
        random = np.random.Generator(np.random.SFC64(seeds))
        words = random.integers(0, 1 << 64, -(-count // 4), np.uint64)
        if len(self.shape) == 1 and self.name.endswith("norm.weight"):
            words &= _NORM_BITS
            words |= _LANES * np.uint64(_ONE)
        else:
            words &= _KEPT_BITS
            # Four exponents from this one on, its lowest two bits are those of the random ones.
            words += _LANES * np.uint64(self._lowest_exponent() << 7)
        return words.view(np.uint16)[:count]

    def _lowest_exponent(self) -> int:
        deviation = 1 / sqrt(self.shape[-1]) if len(self.shape) == 2 else BIAS_DEVIATION
        if self.name == "lm_head.weight":
            deviation *= LOGIT_SCALE
        elif self.name == EMBEDDING:
            deviation = 1.0
        return 127 + round(log2(deviation / _RMS))


def _shards(tensors: list[_Tensor]) -> list[list[_Tensor]]:
    """Split the tensors, in order, into files of at most `SHARD_BYTES`, one tensor at least."""
    shards: list[list[_Tensor]] = [[]]
    for tensor in tensors:
        if shards[-1] and sum(t.nbytes for t in shards[-1]) + tensor.nbytes > SHARD_BYTES:
            shards.append([])
        shards[-1].append(tensor)
    return shards


@dataclass(frozen=True)
class _Shard:
    path: Path
    tensors: list[_Tensor]
    seed: int

    @cached_property
    def header(self) -> bytes:
        """The safetensors header, its length before it; tells the seed, so that reuse is safe."""
        entries: dict[str, Any] = {"__metadata__": {"format": "pt", "seed": str(self.seed)}}
        end = 0
        for tensor in self.tensors:
            begin, end = end, end + tensor.nbytes
            entries[tensor.name] = {
                "dtype": "BF16",
                "shape": list(tensor.shape),
                "data_offsets": [begin, end],
            }
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @cached_property
    def nbytes(self) -> int:
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)

    def is_there(self) -> bool:
        """Tell whether the file was written whole, with the same seed."""
        if not self.path.is_file() or self.path.stat().st_size != self.nbytes:
            return False
        with self.path.open("rb") as stream:
            return stream.read(len(self.header)) == self.header

    def write(self) -> Iterator[int]:
        """Write the file, and yield the bytes of every piece; its name appears when it is whole."""
        unfinished = self.path.with_name(f"{self.path.name}.part")
        chunks = (chunk for tensor in self.tensors for chunk in tensor.chunks(self.seed))
        with unfinished.open("wb") as stream:
            yield stream.write(self.header)
            for values in _made_ahead(chunks):
                yield stream.write(values.data)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(self.path)


def _made_ahead(makers: Iterator[Callable[[], np.ndarray]]) -> Iterator[np.ndarray]:
    """Yield what the makers make, in order, made by threads a few ahead."""
    with ThreadPoolExecutor(CHUNKS_AHEAD) as pool:
        due: deque[Future[np.ndarray]] = deque()
        for maker in makers:
            due.append(pool.submit(maker))
            if len(due) > CHUNKS_AHEAD:
                yield due.popleft().result()
        while due:
            yield due.popleft().result()


def _write_config(path: Path, config: dict[str, Any]) -> None:
    text = json.dumps(config, indent=2) + "\n"
    if path.exists() and path.read_text("utf-8") != text:
        raise ConfigError(f"{path}: is of another model", "give a directory of its own")
    path.write_text(text, "utf-8")


def _write_index(directory: Path, files: list[_Shard]) -> None:
    index = {
        "metadata": {"total_size": sum(t.nbytes for file in files for t in file.tensors)},
        "weight_map": {t.name: file.path.name for file in files for t in file.tensors},
    }
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps(index, indent=2) + "\n", "utf-8")
