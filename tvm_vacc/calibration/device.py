"""Whether the device that calibration is to run on is there, asked before anything else is done.

python -m tvm_vacc.calibration.device NAME
"""

from __future__ import annotations

import sys

from tvm_vacc.child_process import do_work, run_child
from tvm_vacc.errors import ConfigError


def require_device(device: str) -> None:
    """Refuse a device that this machine, or this torch, does not have.

    Where torch is not imported, a process of its own asks it.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: it is not there.
        ChildEndedError: torch cannot be imported.
    """
    if device == "cpu":
        return
    if sys.modules.get("torch") is None:
        run_child(__name__, device)
    else:
        _require(device)


def _require(device: str) -> None:
    import torch

    kind, _, number = device.partition(":")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(number or 0) >= there:
        raise ConfigError(
            f"frontend.quantize.device: no {device} here, torch finds {there} CUDA devices",
            "write device: cpu",
        )


if __name__ == "__main__":
    sys.exit(do_work(lambda _: _require(sys.argv[1])))
