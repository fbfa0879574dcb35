"""A small random GLM with the demo's tokenizer: what a passport needs, compiled in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.frontend.glm_factory import make_glm_checkpoint

DEMO = Path(__file__).parents[2] / "demo" / "checkpoint"


def make_speaking_checkpoint(directory: Path, **config: Any) -> Path:
    """Write a random checkpoint as large as the demo's tokenizer demands; return its directory."""
    make_glm_checkpoint(directory, vocab_size=4096, **config)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, directory / name)
    return directory
