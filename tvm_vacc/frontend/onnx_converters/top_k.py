"""ONNX TopK: stock TVM's, and a number of elements that is computed when the model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._run_time_shape import is_computed
from tvm_vacc.frontend.onnx_converters.slice_computed import slice_computed

_ALL = -1
"""What Relax takes for K to sort a whole axis."""


class TopK(stock.TopK):
    """Inputs: X, K ``[1]`` int64. Elements that need no order (`sorted` 0) have one too."""

    @classmethod
    def _impl_v11(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        data, count = inputs[0], inputs[1]
        if not is_computed(count):
            return super()._impl_v11(bb, inputs, {**attr, "sorted": 1}, params)
        axis, largest = int(attr.get("axis", -1)), bool(attr.get("largest", 1))
        ordered = bb.emit(relax.op.topk(data, _ALL, axis, "both", largest, "int64"))
        zero, axes = (relax.const(np.array([value]), "int64") for value in (0, axis))
        count = bb.emit(relax.op.reshape(count, [1]))
        both = [bb.emit(relax.TupleGetItem(ordered, index)) for index in range(2)]
        return relax.Tuple([slice_computed(bb, x, zero, count, axes, None) for x in both])
