"""Compiles kernels in a process of their own, beside other work.

Usage: python -m tvm_vacc.steps.kernels_process DIRECTORY
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_vacc.child_process import Child, ChildEndedError, do_work
from tvm_vacc.errors import TargetError
from tvm_vacc.light_tvm import torch_hidden

if TYPE_CHECKING:
    import tvm

    from tvm_vacc.codegen.linker import Linker
    from tvm_vacc.codegen.options import BuildOptions
    from tvm_vacc.progress import Report

_TASK = "task.json"
_NAMES = "names.json"


@contextmanager
def start_kernels(
    module: tvm.ir.IRModule,
    target: tvm.target.Target,
    linker: Linker | None,
    options: BuildOptions,
    directory: Path,
) -> Iterator[Callable[[], tuple[str, ...]]]:
    """Have another process do what `write_kernels` does while the body works.

    Yields:
        What waits for it, and returns the names of the files. A process that nobody has waited for
        is ended.

    Raises:
        VaccError: by the waiting: whatever `write_kernels` raises.
        TargetError: by the waiting: the process ended by a fault.
    """
    from tvm.ir import save_json

    task = {
        "module": save_json(module),
        "target": str(target),
        "linker": None if linker is None else [linker.program, linker.options],
        "opt_level": options.opt_level,
        "disabled": options.disabled,
        "pass_config": dict(options.pass_config),
        "tuning": None if options.tuning is None else str(options.tuning.directory),
    }
    (directory / _TASK).write_text(json.dumps(task), "utf-8")
    with Child(__name__, str(directory)) as child:

        def names() -> tuple[str, ...]:
            try:
                child.wait()
            except ChildEndedError as ended:
                problem = f"target {target}: making its kernels ended: {ended}"
                raise TargetError(problem, "please report it") from ended
            return tuple(json.loads((directory / _NAMES).read_text("utf-8")))

        yield names


def _write(directory: Path, report: Report) -> None:
    with torch_hidden():
        import tvm
    from tvm_vacc.codegen.linker import Linker
    from tvm_vacc.codegen.options import BuildOptions, BuildWatch
    from tvm_vacc.steps.write_kernels import write_kernels
    from tvm_vacc.target import autoload
    from tvm_vacc.tuning_records import TuningRecords

    autoload()  # TVM may have been told not to
    task = json.loads((directory / _TASK).read_text("utf-8"))
    target = tvm.target.Target(json.loads(task["target"]))
    tuning = None if task["tuning"] is None else TuningRecords.open(task["tuning"], target)
    options = BuildOptions(task["opt_level"], tuple(task["disabled"]), task["pass_config"], tuning)
    program, arguments = task["linker"] or (None, ())
    linker = None if program is None else Linker(program, tuple(arguments))
    module = tvm.ir.load_json(task["module"])
    names = write_kernels(module, target, linker, directory, report, options, BuildWatch())
    (directory / _NAMES).write_text(json.dumps(names), "utf-8")


if __name__ == "__main__":
    sys.exit(do_work(lambda report: _write(Path(sys.argv[1]), report)))
