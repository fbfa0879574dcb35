"""Reads and packs the weights in slices, in several threads, and hands them on in order.

No large tensor is in memory whole: a slice is some blocks of output channels, whose rows are
contiguous in the checkpoint and whose packed form is contiguous in the artefact. Reading, packing,
hashing and writing all let other threads run, so they overlap; `SLICE_BYTES` keeps a slice in the
shared cache from one to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from relay_passes.weight_plan import PackedWeight
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.quantize.scheme import ROUND_TO_NEAREST
from tvm_vacc.steps.stored_weights import pack_weight

SLICE_BYTES = 4 << 20
"""Bytes of the checkpoint a slice."""

BLOCKS = (16, 32, 64)
"""Output channels that layouts keep together."""

CUT_ROWS = max(BLOCKS)
"""Slices are multiples of so many rows: whole blocks of every layout."""


class PackedSlice(NamedTuple):
    """The next part of the weights file.

    Attributes:
        name: of the tensor.
        array: the next rows of it along its first axis.
        read: bytes of the checkpoint that were read for it.
        ends_weight: whether it is the last part of its weight.
    """

    name: str
    array: np.ndarray
    read: int
    ends_weight: bool


@dataclass(frozen=True)
class _Part:
    """Some output channels of a weight, as a weight of its own, and its sources cut to them."""

    weight: PackedWeight
    sources: Mapping[str, TensorRef]
    is_last: bool

    def pack(self) -> tuple[np.ndarray, ...]:
        return pack_weight(self.weight, self.sources)


def source_bytes(weight: PackedWeight, sources: Mapping[str, TensorRef]) -> int:
    """Return how many bytes of the checkpoint `weight` is made of."""
    return sum(sources[name].nbytes for name in weight.reads)


def stream_weights(
    plan: Iterable[PackedWeight],
    sources: Mapping[str, TensorRef],
    workers: int,
    *,
    finished: int = 0,
) -> Iterator[PackedSlice]:
    """Yield the slices of all tensors of `plan`, in the order of the weights file.

    Args:
        plan: what is to be made of which tensors.
        sources: the checkpoint's tensors, by name.
        workers: threads that read and pack; the caller's, which writes, comes on top. Each holds a
            slice, and one more waits for the caller.
        finished: tensors that need not be made: they are in the file already.

    Raises:
        CheckpointError: see `pack_weight`.
    """
    parts = (part for weight, _ in _unfinished(plan, finished) for part in _cut(weight, sources))
    packed = _in_order(parts, workers)
    for weight, skip in _unfinished(plan, finished):
        first, *others = weight.tensors
        later: list[tuple[str, np.ndarray]] = []
        read = 0
        for part, arrays in packed:
            read += source_bytes(part.weight, part.sources)
            if not skip:
                yield PackedSlice(first.name, arrays[0], read, part.is_last and not others)
                read = 0
            # Scales are small, and in the file they stand behind all codes.
            later += zip([tensor.name for tensor in others], arrays[1:], strict=True)
            if part.is_last:
                break
        missing = [tensor.name for tensor in weight.tensors[max(skip, 1) :]]
        behind = [(name, array) for wanted in missing for name, array in later if name == wanted]
        for index, (name, array) in enumerate(behind):
            yield PackedSlice(name, array, read, index == len(behind) - 1)
            read = 0


def _unfinished(plan: Iterable[PackedWeight], finished: int) -> Iterator[tuple[PackedWeight, int]]:
    """Yield the weights of which a tensor is missing, and how many of its tensors are not."""
    for weight in plan:
        count = len(weight.tensors)
        if finished < count:
            yield weight, finished
        finished = max(0, finished - count)


def _in_order(
    parts: Iterable[_Part], workers: int
) -> Iterator[tuple[_Part, tuple[np.ndarray, ...]]]:
    """Pack `parts` in threads, a few ahead, and yield them in their order."""
    with ThreadPoolExecutor(workers, "pack") as pool:
        ahead: deque[tuple[_Part, Future[tuple[np.ndarray, ...]]]] = deque()
        try:
            for part in parts:
                ahead.append((part, pool.submit(part.pack)))
                if len(ahead) > workers:
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()
        finally:
            for _, future in ahead:
                future.cancel()


def _cut(weight: PackedWeight, sources: Mapping[str, TensorRef]) -> Iterator[_Part]:
    """Cut a weight into parts of about `SLICE_BYTES`; uncut where its rows depend on each other."""
    used = {name: sources[name] for name in weight.reads}
    if not _can_be_cut(weight, used):
        yield _Part(weight, used, is_last=True)
        return
    matrices = {source.name: used[source.name] for source in weight.sources}
    scales = {source.name: used[source.name] for source in weight.scales}
    rows = sum(ref.shape[0] for ref in matrices.values())
    row_bytes = -(-source_bytes(weight, used) // rows)
    step = CUT_ROWS * max(1, SLICE_BYTES // (CUT_ROWS * row_bytes))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield _Part(
            weight=_rows_of_weight(weight, rows, start, stop),
            sources=_rows_of_sources(matrices, start, stop) | _rows_of_sources(scales, start, stop),
            is_last=stop == rows,
        )


def _can_be_cut(weight: PackedWeight, used: Mapping[str, TensorRef]) -> bool:
    if any(len(ref.shape) != 2 for ref in used.values()):
        return False
    rows = [used[source.name].shape[0] for source in weight.sources]
    chosen = bool(weight.scales) and rows == [used[s.name].shape[0] for s in weight.scales]
    round_to_nearest = (
        weight.quantized is not None and weight.quantized.quantizer == ROUND_TO_NEAREST
    )
    independent = weight.quantized is None or chosen or round_to_nearest
    contiguous = not any(source.transposed for source in (*weight.sources, *weight.scales))
    once = len(used) == len(weight.sources) + len(weight.scales)
    units = _units(sum(rows))
    whole_units = all(tensor.shape[0] in units for tensor in weight.tensors)
    is_long = sum(rows) > CUT_ROWS
    return is_long and independent and contiguous and once and whole_units


def _units(rows: int) -> dict[int, int]:
    """Map what the first dimension of a tensor made of `rows` rows may be to the rows a unit.

    A unit is a block of one of `BLOCKS` channels, or a row, of which the last block may have more.
    """
    filled_up = {-(-rows // block) * block: 1 for block in BLOCKS}
    return filled_up | {-(-rows // block): block for block in BLOCKS} | {rows: 1}


def _rows_of_weight(weight: PackedWeight, rows: int, start: int, stop: int) -> PackedWeight:
    """Return what makes the rows `start` to `stop` of `rows`; the last unit is filled up."""
    tensors = []
    for tensor in weight.tensors:
        a_unit = _units(rows)[tensor.shape[0]]
        end = tensor.shape[0] if stop == rows else stop // a_unit
        tensors.append(replace(tensor, shape=(end - start // a_unit, *tensor.shape[1:])))
    return replace(weight, tensors=tuple(tensors))


def _rows_of_sources(used: Mapping[str, TensorRef], start: int, stop: int) -> dict[str, TensorRef]:
    """Return the rows `start` to `stop` of the sources, which stand one below the other."""
    cut = {}
    position = 0
    for name, ref in used.items():
        first, last = max(start - position, 0), min(stop - position, ref.shape[0])
        kept = ref.rows(first, max(first, last)) if first < ref.shape[0] else ref.rows(0, 0)
        cut[name] = kept
        position += ref.shape[0]
    return cut
