"""A value that TVM's simplifier leaves alone."""

from __future__ import annotations

from typing import Any

from tvm.tirx.script import builder as T

from schedules.scratch import scratch


def opaque(value: Any) -> Any:
    """Bind an integer to a variable that is not replaced by its expression wherever it is used.

    TVM inlines every bound integer that nothing is read for. Where one is made of others, and each
    is used a few times, expressions grow by powers, and passes take seconds for one kernel. What
    is read from a buffer stays, and LLVM makes a register of it.
    """
    place = scratch((1,), str(value.ty.dtype))
    T.buffer_store(place, value, [0])
    return T.bind(place[0])
