"""A compiled model: `TVMCPackage` of the Python API."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_vacc.light_tvm import torch_hidden

if TYPE_CHECKING:
    from tvm_vacc.runtime.graph import Graph
    from tvm_vacc.runtime.model import Model


class TVMCPackage:
    """What ``tvmc compile`` writes: a directory, a tar file, or a shared library.

    Args:
        package_path: of it; it is opened when it is first used.
        made_of: the model in whose directory it lies; stays as long as this does.

    Attributes:
        package_path: of it.
    """

    def __init__(self, package_path: str | Path, made_of: object = None) -> None:
        self.package_path = str(package_path)
        self._made_of = made_of

    @cached_property
    def model(self) -> Model | Graph:
        """The loaded artefact. Errors: `tvm_vacc.load`."""
        with torch_hidden():
            import tvm_vacc

            return tvm_vacc.load(self.package_path)

    @property
    def executor_type(self) -> str:
        """What runs it: always Relax's virtual machine."""
        return "vm"
