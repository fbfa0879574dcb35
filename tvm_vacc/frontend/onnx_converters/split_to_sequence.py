"""ONNX SplitToSequence: stock TVM's, with a chunk size of shape ``[1]`` taken for a scalar."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend as stock


class SplitToSequence(stock.SplitToSequence):
    """PyTorch's exporter writes the chunk size as a vector of one."""

    @classmethod
    def _impl_v11(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        split = inputs[1]
        if isinstance(split, tvm.ir.GenericConst) and split.value.numpy().shape == (1,):
            inputs[1] = relax.const(split.value.numpy()[0], split.ty.dtype)
        return super()._impl_v11(bb, inputs, attr, params)
