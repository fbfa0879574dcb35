"""Compiles a Relax module to machine code and stores it in an artefact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import tvm
from tvm.ir.instrument import pass_instrument

from tvm_vacc.artifact.kernel_files import BYTECODE, KERNELS_IR, SHARED_LIBRARY
from tvm_vacc.build_pipeline import build_passes, plan_passes
from tvm_vacc.linker import Linker


def build_kernels(
    module: tvm.ir.IRModule,
    target: tvm.target.Target,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tvm.runtime.Executable:
    """Compile `module` for `target` by the pipeline of the ``tvm_vacc`` tag.

    Args:
        module: after all passes of the model's pipeline.
        target: what for.
        progress: is told the steps done and in all: the pipeline's passes, then machine code.
    """
    total = len(build_passes().passes) + 1
    counter = _PassCounter([item.info.name for item in build_passes().passes], progress, total)
    with tvm.transform.PassContext(instruments=[counter]):
        executable = tvm.compile(module, target=target)
    progress(total, total)
    return executable


def plan_memory(module: tvm.ir.IRModule, target: tvm.target.Target) -> tvm.ir.IRModule:
    """Return `module` as calls of scheduled kernels in planned memory: what C is printed from."""
    with target:
        return plan_passes()(module)


@pass_instrument
class _PassCounter:
    """Counts the passes of the build pipeline as they end."""

    def __init__(
        self, names: Sequence[str], progress: Callable[[int, int], None], total: int
    ) -> None:
        self._left = list(names)
        self._progress = progress
        self._total = total

    def run_after_pass(self, _module: tvm.ir.IRModule, info: tvm.transform.PassInfo) -> None:
        """Called by TVM, of nested passes too."""
        if self._left and info.name == self._left[0]:
            self._left.pop(0)
            self._progress(self._total - 1 - len(self._left), self._total)


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
