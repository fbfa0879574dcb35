"""Memory for what is measured: on huge pages, and enough of it that no cache holds it all."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tvm

from tvm_vacc.dtypes import NUMPY_DTYPES

MIN_COLD_BYTES = 256 << 20
"""Bytes that are taken to exceed every cache where the system does not tell their sizes."""

LARGEST_CACHE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")

CACHED_BYTES = 1 << 20
"""Activations of fewer bytes are found in the second-level cache by the kernel that follows."""

RANDOM_BLOCK = 1 << 20
"""Values that `random_tensor` draws."""

Item = TypeVar("Item")


def cold_bytes() -> int:
    """Return how many bytes must lie between two uses of the same data: twice the largest cache."""
    with suppress(OSError, ValueError):
        kilobytes = int(LARGEST_CACHE.read_text().strip().removesuffix("K"))
        return max(MIN_COLD_BYTES, 2 * kilobytes << 10)
    return MIN_COLD_BYTES


def cold(make: Callable[[], Item], nbytes: int, among: int | None = None) -> Iterator[Item]:
    """Return copies of something of `nbytes` in turn, each cold when it comes again.

    Where it is a part of `among` bytes that are used in turn, and these fit into a cache, as warm
    as it is there.
    """
    apart = cold_bytes() if among is None else min(among, cold_bytes())
    return cycle([make() for _ in range(-(-apart // nbytes))])


def activations(*shapes: tuple[int, ...]) -> tuple[Iterator[list[tvm.runtime.Tensor]], int]:
    """Return fp32 tensors that a step hands from kernel to kernel, and their bytes from memory.

    A few rows stay in the caches, as they do in a model: always the same tensors, and no bytes.
    Those of a long prompt do not.
    """

    def make() -> list[tvm.runtime.Tensor]:
        return [random_tensor(shape, "float32") for shape in shapes]

    nbytes = sum(4 * prod(shape) for shape in shapes)
    if nbytes < CACHED_BYTES:
        return cycle([make()]), 0
    return cold(make, nbytes), nbytes


def large_tensor(shape: tuple[int, ...], dtype: str) -> tvm.runtime.Tensor:
    """Return a tensor of zeros, on huge pages where the system has them."""
    return _tensor(_zeros(prod(shape) * NUMPY_DTYPES[dtype].itemsize), shape, dtype)


def random_tensor(
    shape: tuple[int, ...], dtype: str, *, seed: int = 0, scale: float = 1.0
) -> tvm.runtime.Tensor:
    """Return `large_tensor` filled with normal numbers of deviation `scale`, or with random bytes.

    The values repeat after `RANDOM_BLOCK`: what is measured does not depend on them, and random
    numbers are made more slowly than a benchmark wants to wait.
    """
    kind = NUMPY_DTYPES[dtype]
    count = min(prod(shape), RANDOM_BLOCK)
    rng = np.random.default_rng(seed)
    if kind.kind in "iu":
        block = np.frombuffer(rng.bytes(count * kind.itemsize), np.uint8)
    else:
        block = (scale * rng.standard_normal(count, np.float32)).astype(kind).view(np.uint8)
    flat = _zeros(prod(shape) * kind.itemsize)
    for start in range(0, len(flat), len(block)):
        part = flat[start : start + len(block)]
        part[:] = block[: len(part)]
    return _tensor(flat, shape, dtype)


def _zeros(nbytes: int) -> np.ndarray[Any, Any]:
    """Return zero bytes that were written: reading others reads one page of zeros for ever."""
    mapping = mmap.mmap(-1, nbytes)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # advice: a kernel may have none
            mapping.madvise(mmap.MADV_HUGEPAGE)
    flat = np.frombuffer(mapping, np.uint8)
    flat.fill(0)
    return flat


def _tensor(flat: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: str) -> tvm.runtime.Tensor:
    return tvm.runtime.from_dlpack(flat)._create_view(shape, dtype)
