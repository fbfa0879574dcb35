"""Compiles a Relax module to machine code and stores it in an artefact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tvm

from tvm_vacc.artifact.kernel_files import BYTECODE, KERNELS_IR, SHARED_LIBRARY
from tvm_vacc.codegen.context import build_context
from tvm_vacc.codegen.dump_code import dump_kernels
from tvm_vacc.codegen.instruments import ModuleKeeper, PassCounter, TunedKernels
from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.codegen.linker import Linker
from tvm_vacc.codegen.options import BuildOptions, BuildWatch
from tvm_vacc.codegen.pipeline import build_passes, plan_passes


def build_kernels(
    module: tvm.ir.IRModule,
    target: tvm.target.Target,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    build: BuildOptions | None = None,
    watch: BuildWatch | None = None,
    tuned: TunedKernels | None = None,
) -> tvm.runtime.Executable:
    """Compile `module` for `target` by the pipeline of the ``tvm_vacc`` tag.

    Args:
        module: after all passes of the model's pipeline.
        target: what for.
        progress: is told the steps done and in all: the pipeline's passes, then machine code.
        build: how TVM's passes run.
        watch: what is to be seen of it.
        tuned: notes which kernels the tuning records of `build` have scheduled.

    Raises:
        ConfigError: it fails without the passes that `build` leaves out.
    """
    build, watch = build or BuildOptions(), watch or BuildWatch()
    names = [item.info.name for item in build_passes().passes if item.info.name]
    names = [name for name in names if name not in build.disabled]
    total = len(names) + 1
    keeper = ModuleKeeper(names[-1])
    noting = [] if tuned is None else [tuned]
    with build_context(build, watch, PassCounter(names, progress, total), keeper, *noting):
        executable = tvm.compile(module, target=target, tir_pipeline=NAME)
    progress(total, total)
    dump_kernels(keeper.module, executable, watch)
    return executable


def plan_memory(module: tvm.ir.IRModule, target: tvm.target.Target) -> tvm.ir.IRModule:
    """Return `module` as calls of scheduled kernels in planned memory: what C is printed from."""
    with target:
        return plan_passes()(module)


def store_kernels(
    executable: tvm.runtime.Executable, directory: Path, linker: Linker | None
) -> tuple[str, ...]:
    """Write the compiled code to `directory`; return the names of the files.

    With a linker this is one shared library; without, LLVM IR that is compiled when the artefact
    is loaded, which takes a second or two there.

    Raises:
        ConfigError: the linker fails.
    """
    if linker is not None:
        linker.link(executable, directory / SHARED_LIBRARY)
        return (SHARED_LIBRARY,)
    bytecode = executable.mod
    kernels = [item for item in bytecode.imports if item.kind == "llvm"]
    [library] = kernels
    library.write_to_file(str(directory / KERNELS_IR), "ll")
    bytecode.write_to_file(str(directory / BYTECODE))
    return (BYTECODE, KERNELS_IR)
