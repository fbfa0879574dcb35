"""Loops that run in parallel where the work is worth the launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm.tirx.script import builder as T

PARALLEL_BYTES = 1 << 18
"""Bytes of memory traffic from which a parallel launch (3.5 to 7 us) pays: 20 us of one core."""


def for_each(extent: Any, bytes_each: int, body: Callable[[Any], None]) -> None:
    """Emit ``for i in range(extent): body(i)``, in parallel when the loop moves much memory.

    Args:
        extent: number of iterations, symbolic or not.
        bytes_each: bytes one iteration reads and writes.
    """
    if bytes_each >= PARALLEL_BYTES:
        for_each_where(True, extent, body)
    else:
        for_each_where(extent >= -(-PARALLEL_BYTES // bytes_each), extent, body)


def for_each_where(parallel: Any, extent: Any, body: Callable[[Any], None]) -> None:
    """Emit ``for i in range(extent): body(i)``, in parallel where `parallel` is true.

    Args:
        parallel: True, or an expression that is known when the kernel runs.
        extent: number of iterations, symbolic or not.
    """
    if parallel is True:
        with T.parallel(0, extent) as i:
            body(i)
        return
    with T.If(parallel):
        with T.Then(), T.parallel(0, extent) as i:
            body(i)
        with T.Else(), T.serial(0, extent) as i:
            body(i)


def for_lanes(extent: Any, lanes: int, body: Callable[[Any], None]) -> None:
    """Emit `body` for every index below `extent`: vectors of `lanes` first, then one by one.

    `body` gets an index expression, a ramp of `lanes` or a scalar, and emits stores.

    Args:
        extent: number of indices, symbolic or not.
        lanes: of the vectors.
        body: emits what is done for one index or one vector of them.
    """
    whole, rest = extent // lanes, extent % lanes
    if not isinstance(whole, int) or whole:
        with T.serial(0, whole) as i:
            body(T.ramp(i * lanes, 1, lanes))
    if not isinstance(rest, int) or rest:
        with T.serial(0, rest) as i:
            body(whole * lanes + i)
