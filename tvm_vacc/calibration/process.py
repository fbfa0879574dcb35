"""Calibrates in a process of its own, so that torch's memory is given back.

python -m tvm_vacc.calibration.process DIRECTORY
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from tvm_vacc.calibration.options import CalibrationOptions, CodesWanted
from tvm_vacc.child_process import do_work, run_child
from tvm_vacc.progress import Report

_SAMPLES = "samples.npy"
_TASK_FILE = "task.json"


@dataclass(frozen=True)
class _Task:
    checkpoint: Path
    wanted: CodesWanted
    options: CalibrationOptions


_TASK = TypeAdapter(_Task)


def run_calibration(
    checkpoint: Path,
    samples: np.ndarray,
    wanted: CodesWanted,
    options: CalibrationOptions,
    directory: Path,
    report: Report,
) -> None:
    """Run `tvm_vacc.calibration.run.calibrate`; where torch is imported already, in this process.

    Raises:
        VaccError: whatever it raises.
        ChildEndedError: the process ended otherwise.
    """
    np.save(directory / _SAMPLES, samples)
    (directory / _TASK_FILE).write_bytes(_TASK.dump_json(_Task(checkpoint, wanted, options)))
    if sys.modules.get("torch") is not None:
        _calibrate(directory, report)
    else:
        run_child(__name__, str(directory), report=report)


def _calibrate(directory: Path, report: Report) -> None:
    from tvm_vacc.calibration.run import calibrate
    from tvm_vacc.frontend.checkpoint import open_checkpoint

    task = _TASK.validate_json((directory / _TASK_FILE).read_bytes())
    samples = np.load(directory / _SAMPLES, allow_pickle=False)
    checkpoint = open_checkpoint(task.checkpoint)
    calibrate(checkpoint, samples, task.wanted, task.options, directory, report)


if __name__ == "__main__":
    sys.exit(do_work(lambda report: _calibrate(Path(sys.argv[1]), report)))
