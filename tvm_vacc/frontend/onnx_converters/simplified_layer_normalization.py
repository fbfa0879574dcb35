"""ONNX Runtime's names for RMS normalisation, with and without a residual added first.

Source: ONNX Runtime, docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from tvm import relax
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

_Bb: TypeAlias = relax.BlockBuilder


class SimplifiedLayerNormalization(OnnxOpConverter):
    """Inputs: X ``[..., hidden]``, scale ``[hidden]``.

    Raises:
        NotImplementedError: another axis than the last one is asked for.
    """

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x, scale = inputs[0], inputs[1]
        last = int(attr.get("axis", -1)) in (-1, len(x.ty.shape) - 1)
        if not last:
            raise NotImplementedError("SimplifiedLayerNormalization with an axis")
        return relax.Tuple([_normalized(bb, x, scale, attr)] * attr["tvm_custom"]["num_outputs"])


class SkipSimplifiedLayerNormalization(OnnxOpConverter):
    """Inputs: X, skip ``[..., hidden]``, gamma ``[hidden]``, optional bias ``[hidden]``.

    The fourth output is the sum that is normalised; the two before it are refused where they are
    read.
    """

    @classmethod
    def _impl_v1(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x, skip, gamma, bias = (inputs[i] for i in range(4))
        total = bb.emit(relax.op.add(x, skip))
        if bias is not None:
            total = bb.emit(relax.op.add(total, bias))
        output = _normalized(bb, total, gamma, attr)
        return relax.Tuple([output, total, total, total])


def _normalized(bb: _Bb, x: relax.Expr, scale: relax.Expr, attr: dict[str, Any]) -> relax.Expr:
    dtype = x.ty.dtype
    if dtype == "float16":  # squares of activations overflow it
        x, scale = (bb.emit(relax.op.astype(value, "float32")) for value in (x, scale))
    result = bb.emit(relax.op.nn.rms_norm(x, scale, [-1], float(attr.get("epsilon", 1e-5))))
    return result if dtype != "float16" else bb.emit(relax.op.astype(result, dtype))
