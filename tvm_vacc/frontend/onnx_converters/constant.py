"""ONNX Constant: stock TVM reads the attribute `value` only."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock

_DTYPES = {
    "value_int": "int64",
    "value_ints": "int64",
    "value_float": "float32",
    "value_floats": "float32",
}


class Constant(stock.Constant):
    """Adds the number and list forms of opset 12: ``value_int(s)`` and ``value_float(s)``."""

    @classmethod
    def _impl_v13(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        for name, dtype in _DTYPES.items():
            if name in attr:
                return relax.const(np.asarray(attr[name], dtype), dtype)
        return super()._impl_v13(bb, inputs, attr, params)
