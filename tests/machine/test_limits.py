from __future__ import annotations

import numpy as np
import pytest

from schedules.isa import Isa
from tests.schedules.kernel_harness import HOST_TARGETS
from tvm_vacc.machine import limits
from tvm_vacc.machine.limits import READ_PATTERNS, Limits, ReadPattern
from tvm_vacc.machine.setup import Setup
from tvm_vacc.runtime.tensors import to_tvm

NATIVE = Setup(HOST_TARGETS["native"], 1)


@pytest.mark.parametrize("pattern", READ_PATTERNS, ids=str)
def test_reading_adds_up_everything(pattern: ReadPattern) -> None:
    lanes, threads, count = NATIVE.isa.lanes, 2, 1024
    data = np.random.default_rng(0).integers(-1000, 1000, (threads, pattern.streams, count))
    out = to_tvm(np.zeros((threads, lanes), np.int32))
    run = NATIVE.build(limits.read_kernel(threads, count, pattern, lanes))
    run(to_tvm(data.astype(np.int32)), out)
    np.testing.assert_array_equal(out.numpy().sum(1), data.sum((1, 2)))


@pytest.mark.parametrize("name", HOST_TARGETS)
def test_peak_kernels_compute_what_they_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS", 3)
    setup = Setup(HOST_TARGETS[name], 1)
    isa, chains = setup.isa, limits.CHAINS
    units = []
    for instruction in limits.instructions(isa):
        units.append(instruction.unit)
        operands = _operands(instruction.unit, isa)
        out = to_tvm(np.zeros((2, isa.lanes), instruction.dtype))
        setup.build(limits.peak_kernel(2, isa.lanes, instruction))(to_tvm(operands), out)
        expected = sum(_chain(instruction.unit, operands, float(start)) for start in range(chains))
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-6)
    assert units == ["fp32", *["bf16"] * isa.dots_bf16, *["int8"] * isa.dots_bytes]


def _operands(unit: str, isa: Isa) -> np.ndarray:
    """Bits ``[2, lanes]`` int32; equal in all lanes, since one operand may be a broadcast."""
    if unit == "fp32":
        return np.full((2, isa.lanes), 0.5, np.float32).view(np.int32)
    if unit == "bf16":
        return np.full((2, isa.lanes), 0x3F80_3F00, np.int32)  # 1.0 and 0.5
    return np.full((2, isa.lanes), 0x01_02_03_04, np.int32)


def _chain(unit: str, operands: np.ndarray, total: float) -> np.ndarray:
    for _ in range(3):
        if unit == "fp32":
            total = total * 0.5 + 0.5
        elif unit == "bf16":
            total += 1.0 + 0.25
        else:
            total += 1 + 4 + 9 + 16
    return np.full(operands.shape, total)


def test_measures_every_limit_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "cold_bytes", lambda: 1 << 22)
    monkeypatch.setattr(limits, "STEPS", 1000)
    monkeypatch.setattr(limits, "ROUNDS_OF_CHOICE", 1)
    machine = Limits(NATIVE)
    speeds = machine.measure()
    assert machine.history == [speeds]
    # Slower than 0.1 or faster than 10,000 thousand millions: no CPU, loaded or not.
    assert 1e8 < speeds.read < 1e13
    assert all(1e8 < peak < 1e13 for peak in speeds.peaks.values())
    assert machine.pattern in READ_PATTERNS
