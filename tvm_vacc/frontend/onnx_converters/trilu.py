"""ONNX Trilu: stock TVM's, and a diagonal that is computed when the model runs."""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock

from tvm_vacc.frontend.onnx_converters._run_time_shape import is_computed


class Trilu(stock.Trilu):
    """Inputs: ``[..., rows, columns]``, the diagonal ``[]`` or ``[1]`` int64."""

    @classmethod
    def _impl_v14(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        x, diagonal = inputs[0], inputs[1]
        if not is_computed(diagonal):
            return super()._impl_v14(bb, inputs, attr, params)
        upper = bool(attr.get("upper", 1))

        def trilu(x: te.Tensor, k: te.Tensor) -> te.Tensor:
            def element(*at: tirx.Var) -> tirx.Expr:
                right = at[-1] - at[-2]
                kept = right >= k[0] if upper else right <= k[0]
                return tirx.if_then_else(kept, x(*at), tirx.const(0, x.dtype))

            return te.compute(x.shape, element, name="trilu")

        return bb.emit_te(trilu, x, bb.emit(relax.op.reshape(diagonal, [1])))
