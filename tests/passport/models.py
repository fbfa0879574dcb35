"""A small random GLM with the demo's tokenizer: what a passport needs, compiled in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.frontend.glm_factory import make_glm_checkpoint
from tvm_vacc.artifact.manifest import read_manifest
from tvm_vacc.artifact.passport import Passport

DEMO = Path(__file__).parents[2] / "demo" / "checkpoint"
TOKENS = 90


def make_speaking_checkpoint(directory: Path, **config: Any) -> Path:
    """Write a random checkpoint as large as the demo's tokenizer demands; return its directory."""
    make_glm_checkpoint(directory, vocab_size=4096, **config)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, directory / name)
    return directory


def config_of(checkpoint: Path, workspace: Path, **accuracy: object) -> Path:
    path = workspace / "glm.yaml"
    document = {
        "name": "glm",
        "frontend": {
            "checkpoint": str(checkpoint),
            "type": "huggingface",
            "shape": {"input_ids": [[48], [256]]},
        },
        "backend": {"type": "tvm_vacc", "dtype": "fp16"},
        "workspace": {"path": str(workspace)},
        "accuracy": {"tokens": TOKENS, **accuracy},
    }
    path.write_text(json.dumps(document))  # which is YAML, too
    return path


def passport_of(artefact: Path) -> Passport:
    passport = read_manifest(artefact / "manifest.json").passport
    assert passport is not None
    return passport
