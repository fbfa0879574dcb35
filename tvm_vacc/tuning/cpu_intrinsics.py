"""Imports the tensor intrinsics that MetaSchedule uses on CPUs, and no others."""

from __future__ import annotations

import importlib
import importlib.util
import sys

_PACKAGE = "tvm.s_tir.tensor_intrin"
_OF_CPUS = ("x86", "arm_cpu", "riscv_cpu")


def import_cpu_intrinsics() -> None:
    """Register the tensor intrinsics of CPUs.

    MetaSchedule imports `_PACKAGE`, whose own code parses the intrinsics of every GPU: 24 to 43 s,
    against 2. So the package is put in its place without that code; a module of it that is imported
    later by its name is found, as ever.
    """
    if _PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(_PACKAGE)
    assert spec is not None
    sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    for name in _OF_CPUS:
        importlib.import_module(f"{_PACKAGE}.{name}")
