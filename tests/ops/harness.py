"""Runs one operator through Relax, legalisation and LLVM, as a model's graph would."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import relax

from tvm_vacc.ops._registry import VaccOp


def to_tensor(array: np.ndarray) -> tvm.runtime.Tensor:
    """Copy `array` to a TVM tensor; bfloat16 by way of its bits, which dlpack of NumPy lacks."""
    array = np.ascontiguousarray(array)
    tensor = tvm.runtime.empty(array.shape, str(array.dtype))
    tensor.copyfrom(array)
    return tensor


def run_op(op: VaccOp, arrays: list[np.ndarray], target: Any = "llvm", **attrs: Any) -> Any:
    """Compile ``op(*arrays)`` for `target`, run it, return NumPy results (or a list of them).

    The first dimension of every argument of rank 2 or more stays symbolic where the operator
    treats it as tokens; shapes here are static, symbolic ones are the whole model's test.
    """
    params = [
        relax.Var(f"arg{i}", relax.TensorType(array.shape, str(array.dtype)))
        for i, array in enumerate(arrays)
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(op(*params, **attrs))
        builder.emit_func_output(result)
    executable = tvm.compile(builder.get(), target=target)
    tensors = [to_tensor(array) for array in arrays]
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](*tensors)
    if isinstance(result, tvm.runtime.Tensor):
        return to_numpy(result)
    return [to_numpy(item) for item in result]


def to_numpy(tensor: tvm.runtime.Tensor) -> np.ndarray:
    """Copy a TVM tensor to NumPy, with bfloat16 as ml_dtypes' type."""
    if str(tensor.dtype) == "bfloat16":
        return tensor.numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
