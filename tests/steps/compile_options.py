"""What a config would say of a small checkpoint, for tests of single steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tvm_vacc.config import CompileOptions


def small_options(checkpoint: Path, **changes: Any) -> CompileOptions:
    """Return options that make bf16 of `checkpoint` beside it, with `changes` of the fields."""
    values: dict[str, Any] = {
        "name": "small",
        "checkpoint": checkpoint,
        "type": "huggingface",
        "prefill": 16,
        "context": 32,
        "input_shapes": {},
        "dtype": "bf16",
        "tp": 1,
        "merge_params": True,
        "workspace": checkpoint.parent,
        "workers": 1,
    }
    return CompileOptions(**values | changes)
