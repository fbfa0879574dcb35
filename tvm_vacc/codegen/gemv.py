"""TVM's CPU schedule of products with a vector."""

from __future__ import annotations

from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.target import Target


class Gemv(dlight.cpu.GEMV):
    """The rule, which leaves alone the products of one element a sum.

    TVM's own asserts that there is an axis to sum over, and takes a depthwise convolution of one
    pixel, or a batch of products with one key, for such a product: no code came of them.
    """

    def apply(
        self, func: tirx.PrimFunc, target: Target, tunable: bool
    ) -> s_tir.Schedule | list[s_tir.Schedule] | None:
        """Return the schedule of `func`, or nothing where the rule has none."""
        try:
            return super().apply(func, target, tunable)
        except AssertionError:
            return None
