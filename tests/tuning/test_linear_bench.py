from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules.tiles import Linear, alternatives
from tvm_vacc.errors import PassError
from tvm_vacc.machine.setup import Setup
from tvm_vacc.tile_records import Chosen
from tvm_vacc.tuning.linear_bench import LinearBench, weight_bytes

SETUP = Setup.make("tvm_vacc -mcpu=x86-64-v2", 1)
LINEARS = [
    Linear("bfloat16", 64, 65),
    Linear("w8a8", 64, 65, takes="uint8"),
    Linear("w4a16", 64, 65, group_size=32),
]


@pytest.mark.parametrize("linear", LINEARS, ids=str)
def test_kernels_of_every_kind_are_timed(linear: Linear) -> None:
    name, values = next(iter(alternatives(linear, SETUP.isa).items()))
    bench = LinearBench(linear, (1, 5), 3 * weight_bytes(linear), SETUP)
    one, five = bench.compare({name: values[1]}, seconds=0.01)
    assert (one.tokens, five.tokens) == (1, 5)
    for times in (one, five):
        assert min(times.untuned, times.tuned) > 0
        assert 0.05 < times.times < 20  # others may run beside


def test_bytes_are_those_of_whole_blocks() -> None:
    assert [weight_bytes(linear) for linear in LINEARS] == [
        2 * 64 * 128,
        64 * 96 + 4 * 65,
        32 * 96 + 2 * 96 * 2,
    ]


def test_other_results_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(_self: LinearBench, tiles: Chosen) -> Callable[..., None]:
        return lambda *tensors: tensors[-1].copyfrom(np.full((1, 65), len(tiles), np.float32))

    monkeypatch.setattr(LinearBench, "_kernel", kernel)
    bench = LinearBench(LINEARS[0], (1,), 1 << 20, SETUP)
    assert len(bench.compare({}, seconds=0)) == 1
    with pytest.raises(PassError, match=r"bfloat16 64->65: by {'rows': 4} its results are others"):
        bench.compare({"rows": 4}, seconds=0)
