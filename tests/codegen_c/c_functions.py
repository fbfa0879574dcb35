"""Makes C libraries of small graphs, and calls their functions with NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx

from tests.codegen_c.c_build import arguments_type, build, pointer
from tvm_vacc.codegen.kernels import plan_memory
from tvm_vacc.codegen_c.package import print_package
from tvm_vacc.target_string import make_target

Build = Callable[..., Any]
OK, NO_MEMORY = 0, 1


@dataclass(frozen=True)
class Case:
    """One function: what it computes, of which arrays, and what it must answer.

    Attributes:
        make: builds the Relax expression of its parameters.
        arrays: the arguments.
        want: the result, from NumPy in fp64 or an operator's reference.
        tolerance: largest difference, of the largest value.
        free: whether the first dimension of the first argument, and of those of as many rows, is
            known at run time only.
    """

    make: Build
    arrays: Sequence[np.ndarray]
    want: np.ndarray
    tolerance: float = 1e-5
    free: bool = True


def module_of(cases: dict[str, Case]) -> tvm.ir.IRModule:
    """Return a module with a function for each case."""
    builder = relax.BlockBuilder()
    for name, case in cases.items():
        length = tirx.Var("length", "int64")
        shapes: list[list[Any]] = [list(array.shape) for array in case.arrays]
        if case.free:
            rows = shapes[0][0]
            for shape in shapes:
                shape[0] = length if shape[0] == rows else shape[0]
        params = [
            relax.Var(f"arg{i}", relax.TensorType(shape, str(array.dtype)))
            for i, (shape, array) in enumerate(zip(shapes, case.arrays, strict=True))
        ]
        with builder.function(name, params):
            with builder.dataflow():
                result = builder.emit_output(case.make(*params))
            builder.emit_func_output(result)
    return builder.get()


def write(cases: dict[str, Case], directory: Path) -> Path:
    """Print the sources of `cases` to `directory`."""
    module = plan_memory(module_of(cases), make_target("tvm_vacc/c"))
    for name, text in print_package(module).files.items():
        (directory / name).write_text(text)
    return directory


def call(library: Path, sources: Path, name: str, case: Case, status: int = OK) -> np.ndarray:
    """Run a case, which must return `status`; its scratch and its result begin as NaN."""
    struct = arguments_type((sources / "vacc_model.h").read_text(), f"vacc_{name}")
    result = np.frombuffer(b"\xff" * max(case.want.nbytes, 1), np.uint8).copy()
    values: dict[str, Any] = {f"arg{i}": pointer(a) for i, a in enumerate(case.arrays)}
    if case.free:
        values["length"] = len(case.arrays[0])
    arguments = struct(**values, output=pointer(result))
    code = ctypes.CDLL(str(library))
    measure = getattr(code, f"vacc_{name}_workspace")
    measure.restype = ctypes.c_size_t
    workspace = np.full(measure(ctypes.byref(arguments)) + 64, 0xFF, np.uint8)
    start = workspace.ctypes.data + -workspace.ctypes.data % 64
    function = getattr(code, f"vacc_{name}")
    assert function(ctypes.byref(arguments), ctypes.c_void_p(start)) == status
    return result.view(case.want.dtype).reshape(case.want.shape)


def check(library: Path, sources: Path, cases: dict[str, Case]) -> None:
    """Compare every case with what it must answer."""
    for name, case in cases.items():
        got = call(library, sources, name, case).astype(np.float64)
        want = case.want.astype(np.float64)
        limit = case.tolerance * max(1.0, float(np.abs(want[np.isfinite(want)]).max()))
        np.testing.assert_allclose(got, want, rtol=0, atol=limit, err_msg=name)


class CountedMemory:
    """Stands in for a library's hooks of memory; fails at the call that is chosen.

    Attributes:
        asked: calls so far.
        fails_at: the call that gives nothing; 0: none.
        held: addresses that were not given back.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self.asked = self.fails_at = 0
        self.held: set[int] = set()
        self._system = ctypes.CDLL(None)
        self._system.malloc.restype = ctypes.c_void_p
        self._hooks = {
            "vacc_allocate": ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t)(self._allocate),
            "vacc_release": ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._release),
        }
        for name, function in self._hooks.items():
            place = ctypes.c_void_p.in_dll(library, name)
            place.value = ctypes.cast(function, ctypes.c_void_p).value

    def _allocate(self, size: int) -> int | None:
        self.asked += 1
        if self.asked == self.fails_at:
            return None
        address = int(self._system.malloc(ctypes.c_size_t(size)))
        self.held.add(address)
        return address

    def _release(self, address: int | None) -> None:
        if address is not None:
            self.held.remove(address)
            self._system.free(ctypes.c_void_p(address))


def check_memory(library: Path, sources: Path, cases: dict[str, Case]) -> None:
    """Let each allocation of every case fail in turn.

    The function must say so, and give back all that it got. The library's hooks are spoilt then.
    """
    memory = CountedMemory(ctypes.CDLL(str(library)))
    for name, case in cases.items():
        memory.asked = memory.fails_at = 0
        call(library, sources, name, case)
        for turn in range(1, memory.asked + 1):
            memory.asked, memory.fails_at = 0, turn
            call(library, sources, name, case, NO_MEMORY)
            assert not memory.held


__all__ = ["Case", "build", "call", "check", "check_memory", "write"]
