"""ONNX TensorScatter (opset 24), which stock TVM lacks: new keys or values written into a cache."""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter


class TensorScatter(OnnxOpConverter):
    """Inputs: past_cache ``[batch, ..., total, ...]``, update with a shorter `axis`.

    Optional: write_indices ``[batch]`` int64: where the update begins; with `mode` circular it goes
    on at the start when it reaches the end.
    """

    @classmethod
    def _impl_v24(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        cache, update, begin_B = inputs[0], inputs[1], inputs[2]
        shape = list(cache.ty.shape)
        axis = int(attr.get("axis", -2)) % len(shape)
        total, length = shape[axis], update.ty.shape[axis]
        circular = attr.get("mode", b"linear") in (b"circular", "circular")
        if begin_B is None:
            begin_B = bb.emit(relax.op.zeros([shape[0]], "int64"))

        def write(old: te.Tensor, new: te.Tensor, begin: te.Tensor) -> te.Tensor:
            def element(*at: tirx.Var) -> tirx.Expr:
                step = at[axis] - begin[at[0]]
                if circular:
                    step = tirx.floormod(step, total)
                place = [step if index == axis else one for index, one in enumerate(at)]
                is_new = tirx.all(step >= 0, step < length)
                return tirx.if_then_else(is_new, new(*place), old(*at))

            return te.compute(shape, element, name="tensor_scatter")

        return bb.emit_te(write, cache, update, begin_B)
