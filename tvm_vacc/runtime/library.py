"""A model in one shared library: opened to what ``lib["default"](device)`` returns.

How such a library is made, and what is in it: `tvm_vacc.relay.library`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm.runtime.vm import VirtualMachine

from tvm_vacc.errors import ConfigError
from tvm_vacc.runtime.executable import set_threads
from tvm_vacc.runtime.signature import Signature

OPENER = "tvm_vacc.relay.open_library"
"""Name of the global function that a library's entry calls; `tvm_vacc.target` registers it."""

ENTRY = "tvm_vacc_open"
"""Name by which every library opens, whatever other name its entry has."""

WEIGHTS = "weights"
"""Name of the function that returns the weights, one tuple of tensors."""

_FORWARD = "forward"
_BYTECODE = "relax.VMExecutable"
_OPENING = threading.Lock()


@dataclass(frozen=True)
class OpenedLibrary:
    """A library, ready to run: what ``lib["default"](device)`` returns.

    Attributes:
        signature: what it takes and returns.
        machine: runs it.
        weights: those that travelled along, in the order of the signature; empty for none.
    """

    signature: Signature
    machine: VirtualMachine
    weights: Sequence[tvm.runtime.Tensor]


def open_on(
    graph_json: str,
    library: tvm.runtime.Module,
    *devices: tvm.runtime.Device,
    weights: Sequence[tvm.runtime.Tensor] | None = None,
) -> OpenedLibrary:
    """Open `library` on `devices`.

    Args:
        graph_json: what it takes and returns.
        library: bytecode and kernels.
        devices: the CPU.
        weights: of the library; None for those that it carries.

    Raises:
        ConfigError: the graph was not made by `relay.build`, or a device is no CPU.
    """
    for device in devices:
        check_device(device)
    signature = Signature.from_json(graph_json)
    set_threads(None)
    carried = weights_of(library) if weights is None else weights
    return OpenedLibrary(signature, open_library(library), carried)


def check_device(device: tvm.runtime.Device) -> None:
    """Refuse a device that is no CPU.

    Raises:
        ConfigError: it is none.
    """
    if device.dlpack_device_type() != tvm.cpu().dlpack_device_type():
        raise ConfigError(f"the device is {device}", "tvm_vacc runs on CPUs: give tvm.cpu()")


def open_library(library: tvm.runtime.Module) -> VirtualMachine:
    """Return a virtual machine on the bytecode and the kernels of `library`."""
    [bytecode] = [part for part in _bytecodes(library) if part["has_function"](_FORWARD)]
    parts = list(library.imports)
    with _OPENING:
        library.clear_imports()
        try:
            for part in parts:
                if part.kind != _BYTECODE:
                    bytecode.import_module(part)
            bytecode.import_module(library)
            return VirtualMachine(bytecode, tvm.cpu())
        finally:
            bytecode.clear_imports()
            for part in parts:
                library.import_module(part)


def weights_of(library: tvm.runtime.Module) -> list[tvm.runtime.Tensor]:
    """Return the weights that `library` carries, in the order of the graph."""
    found = [part for part in _bytecodes(library) if part["has_function"](WEIGHTS)]
    return list(VirtualMachine(found[0], tvm.cpu())[WEIGHTS]()) if found else []


def _bytecodes(library: tvm.runtime.Module) -> list[tvm.runtime.Module]:
    return [part for part in library.imports if part.kind == _BYTECODE]


tvm_ffi.register_global_func(OPENER, open_on, override=True)
