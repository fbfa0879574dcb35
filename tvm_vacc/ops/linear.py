"""``relax.tvm_vacc.linear``: a projection by a weight as the checkpoint holds it.

The logical operator: fusion makes it, `pack_weights` turns it into `packed_linear`. Where nothing
packs (a plain model, a test) it lowers to stock matmul.
"""

from __future__ import annotations

import numpy as np
from tvm import relax

from tvm_vacc.ops._registry import as_float32, register_op, tensor_type


def linear_reference(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None
) -> np.ndarray:
    """``x @ weight.T + bias`` in fp32.

    Args:
        x: ``[..., in]`` fp32.
        weight: ``[out, in]``, any float type.
        bias: ``[out]`` fp32, or None.
    """
    out = as_float32(x) @ as_float32(weight).T
    return out if bias is None else out + as_float32(bias)


def _infer(call: relax.Call) -> relax.TensorType:
    x, weight = tensor_type(call.args[0]), tensor_type(call.args[1], rank=2)
    out_features, in_features = weight.shape
    if int(x.shape[-1]) != int(in_features):
        raise TypeError(f"linear: weight {weight} does not fit {x}")
    if len(call.args) == 3:
        bias = tensor_type(call.args[2], rank=1)
        if int(bias.shape[0]) != int(out_features):
            raise TypeError(f"linear: bias {bias} does not fit weight {weight}")
    return relax.TensorType([*list(x.shape)[:-1], out_features], "float32")


def _legalize(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    x, weight = call.args[0], call.args[1]
    if weight.ty.dtype != "float32":
        weight = builder.emit(relax.op.astype(weight, "float32"))
    out = relax.op.matmul(x, builder.emit(relax.op.permute_dims(weight, [1, 0])))
    if len(call.args) == 2:
        return out
    return relax.op.add(builder.emit(out), call.args[2])


linear = register_op(
    "linear",
    describe="Linear: x [..., in], weight [out, in], optional bias [out].",
    infer_type=_infer,
    legalize=_legalize,
    reference=linear_reference,
)
