from __future__ import annotations

import pytest

from tests.cross.arm64_root import Arm64, make


@pytest.fixture(scope="session")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Arm64:
    return make(tmp_path_factory.mktemp("arm64"))
