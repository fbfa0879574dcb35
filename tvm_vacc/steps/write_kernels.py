"""Writes the kernels of a module: machine code, or C where that is the target."""

from __future__ import annotations

from pathlib import Path

import tvm
from pydantic import TypeAdapter
from tvm import ir

from tvm_vacc.artifact.manifest import PassReport
from tvm_vacc.codegen.context import build_context
from tvm_vacc.codegen.dump_code import dump_kernels
from tvm_vacc.codegen.instruments import TunedKernels
from tvm_vacc.codegen.kernels import build_kernels, plan_memory, store_kernels
from tvm_vacc.codegen.linker import Linker
from tvm_vacc.codegen.options import BuildOptions, BuildWatch
from tvm_vacc.codegen_c.package import write_sources
from tvm_vacc.progress import Progress, Report
from tvm_vacc.target import emits_c

REPORTS = "reports.json"
"""The file that says what there is to be reported of the kernels."""

_REPORTS = TypeAdapter(tuple[PassReport, ...])


def write_kernels(
    module: ir.IRModule,
    target: tvm.target.Target,
    linker: Linker | None,
    directory: Path,
    report: Report,
    options: BuildOptions,
    watch: BuildWatch,
) -> tuple[str, ...]:
    """Write the kernels to `directory`, and `REPORTS`; return the names of the files.

    Args:
        module: after all passes.
        target: what for.
        linker: of machine code; None: it stays LLVM IR.
        directory: is there.
        report: takes the progress.
        options: how TVM's passes run.
        watch: what is to be seen of them.

    Raises:
        ConfigError: the linker fails, or TVM does without the passes that are left out.
    """

    def tell(done: int, total: int) -> None:
        report(Progress("kernels", done, total, "steps"))

    tuned = TunedKernels()
    if emits_c(target):
        tell(0, 1)
        with build_context(options, watch, tuned):
            planned = plan_memory(module, target)
            names = write_sources(planned, directory)
        dump_kernels(planned, None, watch)
    else:
        kernels = build_kernels(module, target, tell, build=options, watch=watch, tuned=tuned)
        names = store_kernels(kernels, directory, linker)
    (directory / REPORTS).write_bytes(_REPORTS.dump_json(tuning_reports(options, tuned)))
    return (*names, REPORTS)


def read_reports(directory: Path) -> tuple[PassReport, ...]:
    """Return what `write_kernels` has noted in `directory`."""
    return _REPORTS.validate_json((directory / REPORTS).read_bytes())


def tuning_reports(options: BuildOptions, tuned: TunedKernels) -> tuple[PassReport, ...]:
    """Return which kernels were scheduled by tuning records, where there were some."""
    if options.tuning is None:
        return ()
    note = ", ".join(tuned.names) or "no kernel of this model gains by these records"
    return (PassReport("apply_tuning_records", len(tuned.names), None, tuned.seconds, note),)
