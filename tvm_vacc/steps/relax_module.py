"""The first step of a compile of a Relax module: its constants become weights on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tvm
from tvm import ir, relax
from tvm_ffi import structural_walk

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.import_onnx import ImportedModel
from tvm_vacc.frontend.origins import mark_rest
from tvm_vacc.frontend.relax_script import read_script
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.limits import MAX_RELAX_BYTES
from tvm_vacc.safe_io import read_text
from tvm_vacc.steps.bound_weights import BoundModule, bind_weights, main_of

_WEIGHTS = "weights.bin"
_ALIGNMENT = 64
_CURE = "save the module by tvm.ir.save_json, or print it by module.script()"


def read_relax(path: Path) -> ir.IRModule:
    """Return the module in a file: JSON of `tvm.ir.save_json`, or TVMScript (``.py``).

    Reading runs nothing of it. What it is compiled to may run only what it holds itself: functions
    that it calls by name, outside of it, are refused.

    Raises:
        OnnxError: it is no such file, or the module calls other code.
    """
    text = read_text(path, limit=MAX_RELAX_BYTES, error=OnnxError, cure=_CURE)
    if path.suffix == ".py":
        module = read_script(text, path)
    else:
        try:
            module = tvm.ir.load_json(text)
        except Exception as error:  # of TVM's C++ parts, of whatever class
            raise OnnxError(f"{path}: is no module in TVM's JSON", _CURE) from error
    if not isinstance(module, ir.IRModule):
        raise OnnxError(f"{path}: holds a {type(module).__name__}, no module", _CURE)
    for function in module.functions.values():
        if name := _calls_outside(function):
            raise OnnxError(
                f"{path}: calls {name!r}, which is code outside of the module",
                "write it as Relax operators or as a PrimFunc of the module",
            )
    return module


def import_relax(path: Path, directory: Path, *, origins: bool = False) -> ImportedModel:
    """Import the module in the file `path`; its weights are written to `directory`.

    Raises:
        OnnxError: see `read_relax`.
        ConfigError: it has no function ``main`` of tensors.
    """
    bound = bind_weights(read_relax(path), None)
    returned = main_of(bound.module).ret_ty
    count = len(returned.fields) if isinstance(returned, relax.TupleType) else 1
    return ImportedModel(
        module=mark_rest(bound.module) if origins else bound.module,
        weights=_store(bound, directory),
        inputs=tuple(var.name for var in bound.inputs),
        outputs=tuple(f"output{index}" for index in range(count)),
    )


def _store(bound: BoundModule, directory: Path) -> dict[str, TensorRef]:
    """Write the weights to one file and say where each of them is."""
    directory.mkdir(parents=True, exist_ok=True)
    refs, path, part = {}, directory / _WEIGHTS, directory / f"{_WEIGHTS}.part"
    with part.open("wb") as stream:
        for name, weight in bound.weights.items():
            stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
            refs[name] = TensorRef(name, path, stream.tell(), weight.shape, weight.dtype)
            stream.write(weight.read().tobytes())
    os.replace(part, path)
    return refs


def _calls_outside(function: ir.BaseFunc) -> str:
    """Return the name of a function outside of the module that `function` calls, or nothing."""
    found: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, relax.ExternFunc):
            found.append(str(node.global_symbol))
        is_call = isinstance(node, ir.Call) and isinstance(node.op, ir.Op)
        if is_call and node.op.name in _OUTSIDE:
            found.append(str(getattr(node.args[0], "value", node.op.name)))

    if isinstance(function, relax.Function):
        relax.analysis.post_order_visit(function, visit)
    elif isinstance(function, tvm.tirx.PrimFunc):
        structural_walk(function.body, visit)
    else:
        found.append(type(function).__name__)
    return found[0] if found else ""


_OUTSIDE = {
    f"tirx.{name}"
    for name in (
        *("call_extern", "call_pure_extern"),
        *("tvm_call_packed", "tvm_call_cpacked", "tvm_call_packed_lowered"),
        *("tvm_call_cpacked_lowered", "tvm_call_trace_packed", "call_tvm_builtin"),
    )
}
