from __future__ import annotations

import math

import pytest

from tvm_vacc.errors import RequestError
from tvm_vacc.runtime.sampling import SamplingParams


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("top_k", -1),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(RequestError, match=name):
        SamplingParams(**{name: value})


def test_limits_themselves_are_allowed() -> None:
    SamplingParams(temperature=0, top_p=1, top_k=0, seed=0)
