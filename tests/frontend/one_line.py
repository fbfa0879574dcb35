"""What every refusal must look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tvm_vacc.errors import CheckpointError, VaccError


def one_line_error(
    call: Callable[[], Any], *, names: str, kind: type[VaccError] = CheckpointError
) -> str:
    """Demand that `call` raises `kind` with one readable line that has `names` in it; return it."""
    with pytest.raises(kind) as caught:
        call()
    line = str(caught.value)
    assert names in line
    assert "\n" not in line
    assert len(line) < 1000
    return line
