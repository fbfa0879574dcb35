"""What ``lib["default"](device)`` returns, be `lib` in memory or loaded from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import relax

from tvm_vacc.errors import ConfigError
from tvm_vacc.relay.library import OPENER, open_library, weights_of
from tvm_vacc.relay.signature import Signature
from tvm_vacc.runtime.executable import set_threads


@dataclass(frozen=True)
class OpenedLibrary:
    """A library, ready to run: what ``lib["default"](device)`` returns.

    Attributes:
        signature: what it takes and returns.
        machine: runs it.
        weights: those that travelled along, in the order of the signature; empty for none.
    """

    signature: Signature
    machine: relax.VirtualMachine
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


tvm_ffi.register_global_func(OPENER, open_on, override=True)
