"""ONNX Split: stock TVM's, and sizes that are computed when the model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._run_time_shape import is_computed
from tvm_vacc.frontend.onnx_converters.slice_computed import slice_computed


class Split(stock.Split):
    """Inputs: data, the size of each part ``[parts]`` int64."""

    @classmethod
    def _impl_v13(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        data, sizes = inputs[0], inputs[1]
        if not is_computed(sizes):
            return super()._impl_v13(bb, inputs, attr, params)
        axes = relax.const(np.array([int(attr.get("axis", 0))]), "int64")
        ends = bb.emit(relax.op.cumsum(sizes, 0))
        starts = bb.emit(relax.op.subtract(ends, sizes))

        def part(index: int) -> relax.Expr:
            start, end = (
                bb.emit(relax.op.strided_slice(bounds, [0], [index], [index + 1]))
                for bounds in (starts, ends)
            )
            return slice_computed(bb, data, start, end, axes, None)

        return relax.Tuple([part(index) for index in range(attr["tvm_custom"]["num_outputs"])])
