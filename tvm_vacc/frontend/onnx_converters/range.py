"""ONNX Range: over symbolic lengths as one `arange` whose length the type knows."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock


class Range(stock.Range):
    """Stock TVM computes the length at run time, so that no shape after it can be compared."""

    @classmethod
    def _impl_v12(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        bounds = [_integer(value) for value in inputs[:3]]
        if all(bound is not None for bound in bounds) and bounds[2] == 1:
            start, limit, step = bounds
            return relax.op.arange(start, limit, step, "int64")
        return super()._impl_v12(bb, inputs, attr, params)


def _integer(value: Any) -> Any:
    """Return an int64 scalar as an expression of shapes, or None where it is not one."""
    if isinstance(value, tvm.ir.GenericConst):
        array = value.value.numpy()
        return int(array.item()) if array.size == 1 and array.dtype == "int64" else None
    return value if tvm.ir.is_prim_expr(value) else None
