"""Memory for intermediate results of a kernel, on the heap."""

from __future__ import annotations

from math import prod
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T


def scratch(shape: tuple[Any, ...], dtype: str) -> tirx.Buffer:
    """Allocate a buffer that TVM leaves as it is.

    Behind a pointer: TVM otherwise shrinks an allocation, its padding too, to what it finds to be
    used, and spends seconds on the bounds of every access in a tile.
    """
    size = prod(shape)
    memory = T.alloc_buffer((size,), dtype)
    # Both ends are used, or TVM would cut them off.
    T.buffer_store(memory, tirx.const(0, dtype), [size - 1])
    pointer = T.bind(T.address_of(memory[0]))
    return T.decl_buffer(shape, dtype, data=pointer)
