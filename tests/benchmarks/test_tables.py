from __future__ import annotations

import pytest

from benchmarks.tables import memory_text, seconds_text


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.34, "12.3 s"), (0.0123, "12.3 ms"), (4.5e-6, "4.5 us"), (1, "1 s")]
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_memory() -> None:
    assert (memory_text(9_400_000_000), memory_text(380_000_000)) == ("9.40 GB", "380 MB")
    assert (memory_text(7_356_000), memory_text(999_600_000)) == ("7.36 MB", "1.00 GB")
