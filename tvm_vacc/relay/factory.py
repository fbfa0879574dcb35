"""What `relay.build` returns: it runs, exports, and unpacks as ``graph, lib, params``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tvm

from tvm_vacc.errors import ConfigError
from tvm_vacc.relay import explain
from tvm_vacc.relay.library import assemble_library
from tvm_vacc.runtime.library import OpenedLibrary, open_on
from tvm_vacc.runtime.signature import Signature


@dataclass(frozen=True)
class GraphExecutorFactoryModule:
    """A built model.

    Attributes:
        bytecode: for Relax's virtual machine; imports nothing.
        kernels: the native code that it calls.
        target: what it was compiled for.
        libmod_name: the name by which ``lib[name](device)`` opens it.
        signature: what it takes and returns.
        params: its weights as the kernels read them, by name.
        ir_mod: the module that was compiled, after our passes.
    """

    bytecode: tvm.runtime.Module
    kernels: tuple[tvm.runtime.Module, ...]
    target: tvm.target.Target
    libmod_name: str
    signature: Signature
    params: dict[str, tvm.runtime.Tensor]
    ir_mod: tvm.ir.IRModule

    @cached_property
    def graph_json(self) -> str:
        """The graph; see `Signature.to_json`."""
        return self.signature.to_json()

    @cached_property
    def lib(self) -> tvm.runtime.Module:
        """The library without weights: they are loaded by ``load_params``."""
        return self._library(None)

    @property
    def module(self) -> tvm.runtime.Module:
        """The library with its weights."""
        return self._library(self.params)

    def get_graph_json(self) -> str:
        """Return the graph as JSON, for `graph_executor.create`."""
        explain.lines("graph = executable.as_text()")
        return self.graph_json

    def get_executor_config(self) -> str:
        """See `get_graph_json`."""
        return self.get_graph_json()

    def get_lib(self) -> tvm.runtime.Module:
        """Return the library without weights."""
        explain.lines("lib = executable.mod")
        return self.lib

    def get_params(self) -> dict[str, tvm.runtime.Tensor]:
        """Return the weights by name, packed as the kernels read them."""
        explain.lines("# the weights are constants of mod: executable holds them")
        return self.params

    def export_library(self, file_name: str | Path, **kwargs: Any) -> Any:
        """Write library and weights to one file that `tvm.runtime.load_module` reads.

        Args:
            file_name: ends in ``.so``, or in ``.tar`` where no C++ compiler is at hand.
            kwargs: as TVM's own ``export_library`` takes them, such as ``fcompile`` or ``cc``.
        """
        explain.lines(f"executable.export_library({str(file_name)!r})")
        return self.module.export_library(str(file_name), **kwargs)

    def __getitem__(self, name: str) -> Any:
        if name != self.libmod_name:
            raise ConfigError(f"the library has no {name!r}", f"it has {self.libmod_name!r}")
        return self._open

    def __iter__(self) -> Iterator[Any]:
        return iter((self.get_graph_json(), self.get_lib(), self.get_params()))

    def _open(self, *devices: tvm.runtime.Device) -> OpenedLibrary:
        explain.lines("# GraphModule, which comes next, makes the virtual machine")
        return open_on(self.graph_json, self.lib, *devices, weights=list(self.params.values()))

    def _library(self, weights: dict[str, tvm.runtime.Tensor] | None) -> tvm.runtime.Module:
        return assemble_library(
            self.bytecode, self.kernels, self.target, self.libmod_name, self.graph_json, weights
        )
