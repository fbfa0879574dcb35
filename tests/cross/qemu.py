"""Runs programs of other processors by qemu-user."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

import pytest

TIMEOUT = 1800


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where one of `programs` is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(
    command: Sequence[object], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `command` and return what it printed; qemu's own remarks are left out."""
    done = subprocess.run(
        list(map(str, command)),
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    lines = done.stderr.splitlines(keepends=True)
    done.stderr = "".join(line for line in lines if not line.startswith("qemu-"))
    return done
