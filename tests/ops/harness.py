"""Runs one operator through Relax, legalisation and LLVM, as a model's graph would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import relax, tirx
from tvm.target import codegen

from tvm_vacc.codegen.kernel_pipeline import NAME
from tvm_vacc.ops._registry import VaccOp
from tvm_vacc.runtime.tensors import to_numpy, to_tvm

FLOAT_DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def host_targets() -> list[Any]:
    """Return the targets to test on this machine: the generic one, and every wider it can run."""
    host = tvm.target.Target({"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu()})
    cpus = [mcpu for mcpu in ("x86-64-v3", "znver4") if runs(mcpu, host)]
    return ["llvm", *({"kind": "llvm", "mcpu": mcpu} for mcpu in cpus)]


def runs(mcpu: str, host: tvm.target.Target) -> bool:
    """Tell whether `host` has every CPU feature that LLVM gives to `mcpu`."""
    wanted = tvm.target.Target({"kind": "llvm", "mcpu": mcpu})
    features = ("avx512f", "avx512bw", "avx512vnni", "avx512bf16", "avx2", "fma", "f16c", "bmi2")
    needed = [name for name in features if codegen.target_has_features(name, wanted)]
    return bool(codegen.target_has_features(needed, host))


def target_name(target: Any) -> str:
    """Name a target in the ids of parametrised tests."""
    return target if isinstance(target, str) else target["mcpu"]


def compile_op(
    op: VaccOp, types: Sequence[tuple[Sequence[int | str], str]], target: Any, **attrs: Any
) -> Callable[..., Any]:
    """Compile a call of `op` for `target`; return a function of NumPy arrays.

    Args:
        types: shape and dtype of each argument; a name in a shape is a symbolic dimension.
    """
    names = {dim for shape, _ in types for dim in shape if isinstance(dim, str)}
    dims = {name: tirx.Var(name, "int64") for name in names}
    params = [
        relax.Var(f"arg{i}", relax.TensorType([dims.get(dim, dim) for dim in shape], dtype))
        for i, (shape, dtype) in enumerate(types)
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(op(*params, **attrs))
        builder.emit_func_output(result)
    executable = tvm.compile(builder.get(), target=tvm.target.Target(target), tir_pipeline=NAME)
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]

    def run(*arrays: np.ndarray) -> Any:
        result = main(*(to_tvm(array) for array in arrays))
        if isinstance(result, tvm.runtime.Tensor):
            return to_numpy(result)
        return [to_numpy(item) for item in result]

    return run


def run_op(op: VaccOp, arrays: list[np.ndarray], target: Any = "llvm", **attrs: Any) -> Any:
    """Compile ``op(*arrays)`` for `target`, run it, return NumPy results (or a list of them)."""
    types = [(array.shape, str(array.dtype)) for array in arrays]
    return compile_op(op, types, target, **attrs)(*arrays)
