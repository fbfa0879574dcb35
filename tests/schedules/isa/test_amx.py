"""What a kernel does where the system denies AMX."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schedules.isa import isa_of
from tests.schedules.kernel_harness import HOST_TARGETS

# Linux refuses the registers where a thread's stack for signals could not hold them.
DENIED = """
import ctypes
import numpy as np
import tvm
from tests.schedules.quantized_kernels import int8_kernel

class Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

memory = ctypes.create_string_buffer(4096)
assert not ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, 4096)), 0)
call = int8_kernel(64, 32, "native", "int8")
try:
    call(np.ones((8, 64), np.float32), np.zeros((1, 16, 128), np.uint8), np.ones(32, np.float32))
except Exception as error:
    print(error)
"""


@pytest.mark.skipif(
    not isa_of(HOST_TARGETS["native"]).tiles, reason="this CPU has no AMX, or it is masked"
)
def test_denied_tiles_are_one_error_with_a_cure() -> None:
    run = subprocess.run([sys.executable, "-c", DENIED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "the system gives this process no AMX tiles" in run.stdout
    assert "-mattr=-amx-tile" in run.stdout
