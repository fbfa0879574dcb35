"""ONNX ReverseSequence, which stock TVM lacks: the first elements of each row in reverse order."""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter


class ReverseSequence(OnnxOpConverter):
    """Inputs: data, sequence_lens ``[batch]`` int64. Attributes: `batch_axis`, `time_axis`."""

    @classmethod
    def _impl_v10(
        cls, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        batch_axis, time_axis = int(attr.get("batch_axis", 1)), int(attr.get("time_axis", 0))

        def reverse(x: te.Tensor, lengths: te.Tensor) -> te.Tensor:
            def element(*at: tirx.Var) -> tirx.Expr:
                length, time = lengths[at[batch_axis]], at[time_axis]
                place = list(at)
                place[time_axis] = tirx.if_then_else(time < length, length - 1 - time, time)
                return x(*place)

            return te.compute(x.shape, element, name="reverse_sequence")

        return bb.emit_te(reverse, inputs[0], inputs[1])
