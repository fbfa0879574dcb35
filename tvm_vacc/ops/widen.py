"""``relax.tvm_vacc.widen``: a weight that is stored in 16 bits, as the fp32 that it is read as.

Stock operators compute in fp32. A cast would be folded, and the weight stored in fp32 after all;
so this becomes one only when constants are folded (`legalize_widen`, in `fuse_passes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from tvm_vacc.ops._registry import as_float32, register_op, tensor_type


def widen_reference(weight: np.ndarray) -> np.ndarray:
    """Return `weight`, fp16 or bf16 of any shape, in fp32."""
    return as_float32(weight)


def _infer(call: relax.Call) -> relax.TensorType:
    weight = tensor_type(call.args[0])
    if str(weight.dtype) not in ("float16", "bfloat16"):
        raise TypeError(f"widen takes fp16 or bf16, got {weight}")
    return relax.TensorType(weight.shape, "float32")


def legalize_widen(builder: relax.BlockBuilder, call: relax.Call) -> Any:
    """Return the cast that `call` stands for, as a call of its kernel."""
    cast = builder.normalize(relax.op.astype(call.args[0], "float32"))
    return cast.op.get_attr("FLegalize")(builder, cast)


widen = register_op(
    "widen",
    describe="A weight of fp16 or bf16 in fp32.",
    infer_type=_infer,
    legalize=None,
    reference=widen_reference,
)
