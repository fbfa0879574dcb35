"""Refuses a disk that has not the room, before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from tvm_vacc.errors import ConfigError

SPARE_BYTES = 1 << 30
"""Bytes that stay free on the disk."""


def require_room(directory: Path, needed: int, cure: str) -> None:
    """Demand room for `needed` bytes in `directory`.

    Raises:
        ConfigError: there is less; the message ends with `cure`.
    """
    free = shutil.disk_usage(directory).free
    if free < needed + SPARE_BYTES:
        raise ConfigError(
            f"{directory}: {needed / 1e9:.1f} GB are to be written, {free / 1e9:.1f} GB are free",
            cure,
        )
