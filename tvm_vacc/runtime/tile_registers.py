"""Asks Linux for the tile registers of AMX, which it gives a process on request only.

Kernels ask too, since artefacts also run without this package; asked here, a refusal is known
before anything is loaded. Source: Documentation/arch/x86/xstate.rst of the kernel.
"""

from __future__ import annotations

import ctypes
from typing import Final

FEATURE: Final = "amx-tile"
"""LLVM's name of what code needs that uses them."""

_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18


def granted() -> bool:
    """Ask for the registers, for all threads of this process; asking again is no harm.

    They are refused by kernels before 5.16, and where a thread has a stack for signals that is too
    small to save them.
    """
    syscall = ctypes.CDLL(None).syscall
    return not syscall(
        *map(ctypes.c_long, (_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA))
    )
