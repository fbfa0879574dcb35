from __future__ import annotations

from pathlib import Path

import pytest

from tests.artifact.killed_writer import write


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artefact whose files hold 1, with nothing beside it."""
    path = tmp_path / "models" / "model"
    write(path, 1)
    return path
