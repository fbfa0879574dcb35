from __future__ import annotations

import pytest

from benchmarks.tables import memory_text, profile_rows, seconds_text
from tests.benchmarks.made_up import SPEEDS
from tvm_vacc.runtime.profile import KernelProfile, Profile


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.34, "12.3 s"), (0.0123, "12.3 ms"), (4.5e-6, "4.5 us"), (1, "1 s")]
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_memory() -> None:
    assert (memory_text(9_400_000_000), memory_text(380_000_000)) == ("9.40 GB", "380 MB")
    assert (memory_text(7_356_000), memory_text(999_600_000)) == ("7.36 MB", "1.00 GB")


def test_a_profile_is_held_against_the_limits() -> None:
    kernels = (
        KernelProfile("linear", "int8 4 x 4", 2, 4.0, 300, 80),
        KernelProfile("nothing", "", 1, 0.0, 0, 0),
    )
    [row] = profile_rows(Profile(8.0, kernels), SPEEDS, "int8")
    assert row == ("linear", "int8 4 x 4", "2", "4 s", "50.0%", "memory", "0.75")
