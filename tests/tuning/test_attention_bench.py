from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules.attention_tiles import Attention
from tvm_vacc.errors import PassError
from tvm_vacc.machine import memory
from tvm_vacc.machine.setup import Setup
from tvm_vacc.tile_records import Chosen
from tvm_vacc.tuning import attention_bench
from tvm_vacc.tuning.attention_bench import AttentionBench, Step

SETUP = Setup.make("tvm_vacc -mcpu=x86-64-v2", 1)
STEPS = (Step(1, 1, 40), Step(3, 1, 17), Step(1, 20, 20))


@pytest.fixture(autouse=True)
def few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MIN_COLD_BYTES", 1 << 16)
    monkeypatch.setattr(attention_bench, "cold_bytes", lambda: 1 << 16)


@pytest.mark.parametrize("cache", ["bfloat16", "int8"])
def test_steps_of_every_kind_are_timed(cache: str) -> None:
    bench = AttentionBench(Attention(cache, 4, 2, 16), STEPS, SETUP)
    found = bench.compare({"tile_rows": 16}, seconds=0.01)
    assert [(times.tokens, times.context) for times in found] == [(1, 40), (3, 17), (20, 20)]
    for times in found:
        assert min(times.untuned, times.tuned) > 0


def test_other_results_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(_self: AttentionBench, tiles: Chosen) -> Callable[..., None]:
        return lambda *tensors: tensors[-1].copyfrom(
            np.full(tensors[-1].shape, len(tiles), np.float32)
        )

    monkeypatch.setattr(AttentionBench, "_kernel", kernel)
    bench = AttentionBench(Attention("bfloat16", 4, 2, 16), STEPS[:1], SETUP)
    assert len(bench.compare({}, seconds=0)) == 1
    with pytest.raises(PassError, match=r"4/2 x 16: by {'rows': 2} its results are others"):
        bench.compare({"rows": 2}, seconds=0)
