"""Compiles a checkpoint in the types that are compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import tvm_vacc
from tvm_vacc.config import RELAX_DTYPES
from tvm_vacc.errors import ConfigError

PREFILL, CONTEXT = 256, 512
"""Tokens of a step and of a sequence."""


def compile_type(checkpoint: Path, kind: str, dtype: str, target: str, workspace: Path) -> Path:
    """Compile a checkpoint as a config says that is written to the workspace.

    Args:
        checkpoint: its directory.
        kind: ``fp16``, ``bf16``, ``fp32``, or what `frontend.quantize.type` takes, with other keys
            of that section behind a colon: ``w4a16:group_size=32,head=8bit``.
        dtype: of what a quantised type leaves.
        target: of the kernels.
        workspace: gets the config and the artefact, both named for `kind`.

    Raises:
        ConfigError: a key has no value.
        VaccError: the type is none, or cannot be compiled.
    """
    name, _, keys = kind.partition(":")
    frontend: dict[str, Any] = {
        "checkpoint": str(checkpoint.absolute()),
        "type": "huggingface",
        "shape": {"input_ids": [[PREFILL], [CONTEXT]]},
    }
    if name not in RELAX_DTYPES:
        frontend["quantize"] = {
            "type": name,
            **dict(map(_key_and_value, filter(None, keys.split(",")))),
        }
    artefact = "-".join(re.split("[:,=]", kind))
    document = {
        "name": artefact,
        "frontend": frontend,
        "backend": {"type": "tvm_vacc", "dtype": name if name in RELAX_DTYPES else dtype},
        "workspace": {"path": str(workspace.absolute())},
    }
    workspace.mkdir(parents=True, exist_ok=True)
    config = workspace / f"{artefact}.yaml"
    config.write_text(json.dumps(document), "utf-8")  # JSON is YAML
    return tvm_vacc.compile(config, target=target)


def _key_and_value(setting: str) -> tuple[str, int | str]:
    key, equals, value = setting.partition("=")
    if not equals:
        raise ConfigError(f"--type: {setting!r} has no value", "write options as NAME=VALUE")
    return key, int(value) if value.isdecimal() else value
