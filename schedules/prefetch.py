"""Asks for memory before it is needed."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T


def prefetch(element: Any, locality: int) -> None:
    """Emit the prefetch, for reading data, of the cache line that holds `element`.

    Beyond the end of a buffer it does nothing.

    Args:
        element: of a buffer, as it is read.
        locality: of ``llvm.prefetch``: 3 into all caches, 2 into the second level and further out,
            1 into the third, which processors may take for the second.
    """
    hints = (T.int32(0), T.int32(locality), T.int32(1))
    T.evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", T.address_of(element), *hints))
