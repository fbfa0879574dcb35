"""ONNX SequenceAt: stock TVM's, with a position of shape ``[1]`` taken for a scalar."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter


class SequenceAt(OnnxOpConverter):
    """Raises: NotImplementedError where the position is not a constant."""

    @classmethod
    def _impl_v11(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        sequence, position = inputs[0], inputs[1]
        if not isinstance(position, tvm.ir.GenericConst):
            raise NotImplementedError("SequenceAt with a position that is not constant")
        return sequence[int(position.value.numpy().item())]
