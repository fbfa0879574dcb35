from __future__ import annotations

from tests.benchmarks.made_up import SPEEDS
from tvm_vacc.machine.speeds import Speeds, Work


def test_the_slower_limit_binds() -> None:
    assert SPEEDS.bound(200, 10, "fp32") == (2.0, "memory")
    assert SPEEDS.bound(50, 10, "fp32") == (1.0, "fp32")
    assert SPEEDS.bound(50, 40, "int8") == (1.0, "int8")


def test_a_unit_that_is_missing_is_computed_in_fp32() -> None:
    assert SPEEDS.bound(0, 20, "bf16") == (2.0, "fp32")


def test_mean() -> None:
    other = Speeds(300.0, {"fp32": 30.0, "int8": 40.0})
    assert SPEEDS.mean(other) == Speeds(200.0, {"fp32": 20.0, "int8": 40.0})


def test_parts_are_done_one_after_the_other() -> None:
    memory, products = Work(300, 10, "fp32"), Work(50, 40, "int8")
    assert SPEEDS.bound_of([memory, products]) == (4.0, "memory")
    assert SPEEDS.bound_of([products, products, memory]) == (5.0, "memory")
    assert SPEEDS.bound_of([products] * 4 + [memory]) == (7.0, "int8")
