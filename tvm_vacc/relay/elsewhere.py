"""Where Relax keeps what `tvm_vacc.relay` does not bring back."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from tvm import relax

RENAMED = {
    "leaky_relu": "leakyrelu",
    "upsampling": "resize2d",
    "gather": "gather_elements",
    "layer_normalization": "layer_norm",
    "copy_shape_of": "shape_of",
    "reverse": "flip",
    "scatter_add": "scatter_elements",
    "build_config": "PassContext",
    "create_executor": "VirtualMachine",
    "from_pytorch": "from_exported_program",
}
"""Operators that Relax spells in a way that no search would find."""


def missing(where: str, name: str, room: str = "") -> AttributeError:
    """Return the error for the name that `where` does not have.

    Args:
        where: the module as the user spelt it, such as ``relay.nn``.
        name: what it was asked for.
        room: the part of Relax to look at first, such as ``nn`` or ``transform``.
    """
    if name.startswith("__"):
        return AttributeError(f"module {where!r} has no attribute {name!r}")
    known = dict(reversed(list(_names(room))))  # the first of a name counts
    wanted = RENAMED.get(name, name)
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.75)
    if wanted in known:
        cure = f"use {known[wanted]}"
    elif near:
        cure = f"the nearest in Relax is {known[near[0]]}"
    else:
        cure = "Relax has none either: see docs/decisions/0003-relay-on-relax.md"
    return AttributeError(f"{where}.{name} is not brought back by tvm_vacc; {cure}", name=name)


def _names(room: str) -> Iterator[tuple[str, str]]:
    for module, path in _rooms(room):
        for key in dir(module):
            thing = getattr(module, key)
            if not key.startswith("_") and (callable(thing) or isinstance(thing, ModuleType)):
                yield key, f"{path}.{key}"


def _rooms(first: str) -> Iterator[tuple[ModuleType, str]]:
    """The modules to look at: the one of the same name, then operators, passes and the rest."""
    paths = ["relax.op", *_packages(relax.op, "relax.op")]
    if first == "frontend":
        paths = list(_packages(relax.frontend, "relax.frontend"))
    paths += ["relax.transform", "relax.analysis", "relax", "tvm.ir.transform"]
    paths.sort(key=lambda path: path.rpartition(".")[2] != first)
    for path in paths:
        with contextlib.suppress(ImportError):  # a frontend whose framework is not installed
            yield importlib.import_module(f"tvm.{path.removeprefix('tvm.')}"), path


def _packages(parent: ModuleType, path: str) -> Iterator[str]:
    return (f"{path}.{info.name}" for info in pkgutil.iter_modules(parent.__path__) if info.ispkg)
