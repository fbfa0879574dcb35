"""The code of a model in readable forms, on its way from Relax to the machine."""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import tirx

from tvm_vacc.codegen.options import BuildWatch
from tvm_vacc.codegen_c.package import print_package
from tvm_vacc.errors import ConfigError
from tvm_vacc.target import C_TAG, emits_c

FORMATS = ("relax", "tir", "ll", "asm", "c")
"""The graph after our passes; the scheduled kernels; LLVM IR and assembly; C99 sources."""

MACHINE_FORMATS = ("ll", "asm")
"""Of these, those that only machine code has."""


def check_formats(formats: tuple[str, ...], target: tvm.target.Target) -> None:
    """Refuse a format that there is not, or not for `target`.

    Raises:
        ConfigError: names those that there are.
    """
    for name in formats:
        if name == "relay":
            raise ConfigError("there is no code in Relay", "ask for relax: the graph's IR of today")
        if name not in FORMATS:
            raise ConfigError(f"there is no code in the form {name!r}", f"choose of {_known()}")
        if name in MACHINE_FORMATS and emits_c(target):
            raise ConfigError(
                f"the target {C_TAG} has no {name}", "ask for c, or let your compiler print it"
            )


def dump_graph(module: tvm.ir.IRModule, watch: BuildWatch, plan: Callable[..., object]) -> None:
    """Hand out what is to be seen of a graph after our passes: ``relax``, and ``c``.

    Args:
        module: that graph.
        watch: takes the texts; of ``c`` one a file, as ``c/vacc_model.h``.
        plan: `tvm_vacc.codegen.kernels.plan_memory`.
    """
    if "relax" in watch.formats:
        watch.dump("relax", module.script())
    if "c" in watch.formats:
        for name, text in print_package(plan(module, tvm.target.Target(C_TAG))).files.items():
            watch.dump(f"c/{name}", text)


def dump_kernels(
    lowered: tvm.ir.IRModule | None, executable: tvm.runtime.Executable | None, watch: BuildWatch
) -> None:
    """Hand out what is to be seen of compiled kernels: ``tir``, ``ll``, ``asm``.

    Args:
        lowered: holds the scheduled kernels.
        executable: holds the machine code; None where there is none.
        watch: takes the texts.
    """
    if "tir" in watch.formats and lowered is not None:
        kernels = {
            gvar: function
            for gvar, function in lowered.functions_items()
            if isinstance(function, tirx.PrimFunc)
        }
        watch.dump("tir", tvm.ir.IRModule(kernels).script())
    if executable is None:
        return
    for name in MACHINE_FORMATS:
        if name in watch.formats:
            code = [part for part in executable.mod.imports if part.kind == "llvm"]
            watch.dump(name, "\n".join(part.inspect_source(name) for part in code))


def _known() -> str:
    return ", ".join(FORMATS)
