"""A model in one shared library: opened to what ``lib["default"](device)`` returns.

How such a library is made, and what is in it: `tvm_vacc.relay.library`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

GRAPH = "graph"
"""Name of the function that returns what a library takes and returns, as JSON."""

_BYTECODE = "relax.VMExecutable"


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
    [parcel] = [part for part in library.imports if part.kind == _BYTECODE]
    [bytecode] = parcel.imports
    machine = LibraryMachine(bytecode, library, tvm.cpu())
    if weights is None:
        weights = list(VirtualMachine(parcel, tvm.cpu())[WEIGHTS]())
    return OpenedLibrary(signature, machine, weights)


def check_device(device: tvm.runtime.Device) -> None:
    """Refuse a device that is no CPU.

    Raises:
        ConfigError: it is none.
    """
    if device.dlpack_device_type() != tvm.cpu().dlpack_device_type():
        raise ConfigError(f"the device is {device}", "tvm_vacc runs on CPUs: give tvm.cpu()")


class LibraryMachine(VirtualMachine):
    """Runs a library's bytecode, here or, where all arguments are of a session of RPC, there.

    A machine looks its kernels up in what its bytecode imports, when it starts. The kernels of a
    library import the bytecode, and modules must not import each other in a circle, so it is the
    machine that imports them.

    Args:
        bytecode: that imports nothing, or a module that imports it.
        library: holds the kernels.
        device: a CPU.
    """

    def __init__(
        self,
        bytecode: tvm.runtime.Module,
        library: tvm.runtime.Module,
        device: tvm.runtime.Device,
    ) -> None:
        self._library = library
        super().__init__(bytecode, device)

    def _setup_device(self, dev: tvm.runtime.Device, memory_cfg: Any) -> None:
        self.module.import_module(self._library)
        super()._setup_device(dev, memory_cfg)


tvm_ffi.register_global_func(OPENER, open_on, override=True)
