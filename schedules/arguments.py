"""Arguments of kernels that keep their names: printed code shows them."""

from __future__ import annotations

from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T


def dimension(name: str) -> Any:
    """Return a dimension that is known at run time only, int64."""
    return IRBuilder.name(name, T.int64())


def match_buffer(handle: Any, shape: Any, dtype: str) -> Any:
    """Return the buffer behind an argument, called as the argument is."""
    return IRBuilder.name(handle.name, T.match_buffer(handle, shape, dtype))
