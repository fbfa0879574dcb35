"""``relay.frontend``: ONNX models to Relax."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import tvm
from tvm import ir

from tvm_vacc.errors import ConfigError, OnnxError, VaccError
from tvm_vacc.frontend.import_onnx import import_onnx
from tvm_vacc.relay import elsewhere, explain
from tvm_vacc.relay.onnx_model import copy_model, set_dtypes, set_open_dims, set_opset, store
from tvm_vacc.runtime.tensors import to_tvm
from tvm_vacc.steps.bound_weights import BoundModule


def from_onnx(
    model: onnx.ModelProto | str | Path,
    shape: Mapping[str, Sequence[Any]] | None = None,
    dtype: str | Mapping[str, str] = "float32",
    opset: int | None = None,
    freeze_params: bool = True,
) -> tuple[ir.IRModule, dict[str, tvm.runtime.Tensor]]:
    """Import an ONNX model.

    Args:
        model: the model, or the path of its file.
        shape: dimensions of inputs, for any of them: ints, and `relay.Any()` for those that are
            to stay open. The others are as the model declares them.
        dtype: of inputs, by name, where it is not the one that the model declares. A text says
            nothing, as ever: every ONNX model declares dtypes.
        opset: read the model as if it named this version of the operators.
        freeze_params: weights become constants of the module, and the model is simplified first.
            Otherwise those of floats, scalars aside, become parameters of ``main``, after the
            inputs.

    Returns:
        The module, whose ``main`` takes the inputs in the model's order, and the weights by
        parameter name: empty where they are frozen.

    Raises:
        ConfigError: `shape` or `dtype` names no input, or does not fit it; or there is no such
            opset.
        OnnxError: the model is missing, damaged, or holds operators that cannot be compiled.
    """
    if not isinstance(model, (onnx.ModelProto, str, Path)):
        raise OnnxError(
            f"from_onnx takes an ONNX model, not {type(model).__name__}",
            "pass an onnx.ModelProto, or the path of an .onnx file",
        )
    name = "the ONNX model" if isinstance(model, onnx.ModelProto) else str(model)
    own = copy_model(model)
    inputs = _input_names(own)
    dtypes = {} if isinstance(dtype, str) else dtype
    for argument, given in (("shape", shape or {}), ("dtype", dtypes)):
        if unknown := sorted(set(given) - set(inputs)):
            raise ConfigError(
                f"from_onnx: {argument} names {unknown[0]!r}, {name} has no such input",
                f"its inputs are {', '.join(inputs)}",
            )
    set_dtypes(own, dtypes)
    fixed = set_open_dims(own, shape or {})
    if opset is not None:
        if not 1 <= opset <= (newest := onnx.defs.onnx_opset_version()):
            raise ConfigError(
                f"from_onnx: opset is {opset}", f"give 1 to {newest}, or leave it out"
            )
        set_opset(own, opset)
    with tempfile.TemporaryDirectory() as directory:
        path = store(own, Path(directory), all_weights=not freeze_params)
        try:
            imported = import_onnx(path, input_shapes=fixed, simplify=freeze_params)
        except VaccError as error:
            message = error.message.replace(str(path), name).replace("frontend.shape.", "shape of ")
            raise type(error)(message, error.cure.replace(str(path), name)) from error
        bound = BoundModule(imported.module, dict(imported.weights))
        params = {} if freeze_params else {n: to_tvm(r.read()) for n, r in bound.weights.items()}
        module = bound.frozen() if freeze_params else bound.module
    _explain(model, shape, freeze_params)
    return module, params


def _input_names(model: onnx.ModelProto) -> list[str]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in weights]


def _explain(
    model: onnx.ModelProto | str | Path, shape: Mapping[str, Sequence[Any]] | None, freeze: bool
) -> None:
    if not isinstance(model, onnx.ModelProto):
        explain.lines("import onnx", f"model = onnx.load({str(model)!r})")
    numbers = {
        name: list(dims)
        for name, dims in (shape or {}).items()
        if all(type(d) is int for d in dims)
    }
    arguments = f"model, shape_dict={numbers or None}, keep_params_in_input={not freeze}"
    explain.lines(
        "from tvm.relax.frontend.onnx import from_onnx",
        f"mod = from_onnx({arguments})",
    )
    if not freeze:
        explain.lines(
            "mod, params = relax.frontend.detach_params(mod)",
            'params = dict(zip([p.name for p in mod["main"].params[-len(params["main"]):]], '
            'params["main"]))',
        )


def __getattr__(name: str) -> Any:
    raise elsewhere.missing("relay.frontend", name, "frontend")
