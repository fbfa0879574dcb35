"""Memory for intermediate results of a kernel."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T


def scratch(shape: tuple[Any, ...], dtype: str) -> tirx.Buffer:
    """Allocate a buffer that TVM leaves as it is.

    Through a second buffer on the same memory: TVM shrinks an allocation, its padding too, to what
    it finds to be used, and spends seconds on the bounds of every access in a tile. (Through a
    pointer to its first element, TVM would take the memory for free after that one use, and give
    it to the next buffer of the same dtype.)
    """
    allocated = T.alloc_buffer(shape, dtype)
    return T.decl_buffer(shape, dtype, data=allocated.data)
