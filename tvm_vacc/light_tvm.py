"""Imports TVM without the parts that a subcommand has no use for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_RUNTIME_ONLY = {"TVM_USE_RUNTIME_LIB": "1", "TVM_DEVICE_BACKEND_AUTOLOAD": "0"}


def import_runtime() -> None:
    """Import TVM's runtime without its compiler: half the time, and 110 MB less.

    Nothing can be compiled in this process then. Where TVM is imported already, it stays.
    """
    before = dict(os.environ)
    os.environ.update(_RUNTIME_ONLY)
    try:
        with torch_hidden():
            import tvm  # noqa: F401
    finally:
        for name in _RUNTIME_ONLY:  # other processes that this one starts may compile
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


@contextmanager
def torch_hidden() -> Iterator[None]:
    """Keep TVM's first import, which is to happen inside, from importing torch.

    tvm-ffi does so where torch is installed, for conversions that nothing here asks for: 1.8 s of
    2.9 s until a prompt can be read, and 200 MB.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment] # Python's own mark: not importable
    try:
        yield
    finally:
        del sys.modules["torch"]
