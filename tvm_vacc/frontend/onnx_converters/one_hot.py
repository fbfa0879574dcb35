"""ONNX OneHot; stock TVM wants depth and values to be constants."""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._run_time_shape import constant, dims_of


class OneHot(OnnxOpConverter):
    """Inputs: indices of any shape and type, depth ``[]`` or ``[1]``, values (off, on) ``[2]``.

    A negative index counts from `depth`; one beyond it is on nowhere.
    """

    @classmethod
    def _impl_v9(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        indices, depth, values = inputs[0], inputs[1], inputs[2]
        known = constant(depth)
        if known is None:
            depth = bb.emit(relax.op.astype(bb.emit(relax.op.reshape(depth, [1])), "int64"))
            [size] = dims_of(bb, depth)
        else:
            size = tirx.IntImm("int64", int(known.item()))
        axis = int(attr.get("axis", -1)) % (len(indices.ty.shape) + 1)
        indices = bb.emit(relax.op.astype(indices, "int64"))

        def one_hot(index: te.Tensor, value: te.Tensor) -> te.Tensor:
            def element(*at: tirx.Var) -> tirx.Expr:
                own = index(*at[:axis], *at[axis + 1 :])
                place = tirx.Select(own < 0, own + size, own)
                return tirx.Select(place == at[axis], value[1], value[0])

            shape = [*index.shape[:axis], size, *index.shape[axis:]]
            return te.compute(shape, element, name="one_hot")

        return bb.emit_te(one_hot, indices, values)
