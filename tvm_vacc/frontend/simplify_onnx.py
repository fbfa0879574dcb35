"""Runs onnxsim over a graph that someone else has exported, without its weights.

onnxsim works on a model in memory, within protobuf's 2 GB, and folds what it can into new weights.
So external and large initialisers, and codes of quantised matrices, which it would make floats of,
stand aside as inputs of the graph and come back as they were: their names, layouts and places on
disk stay, and what is folded is the arithmetic of shapes.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from tvm_vacc.errors import VaccWarning
from tvm_vacc.frontend.onnx_quantized import quantized_operands
from tvm_vacc.limits import MAX_FOLDED_BYTES

_Dim = str | int


@dataclass(frozen=True)
class Simplification:
    """What onnxsim has made of a graph.

    Attributes:
        nodes_before: of the graph as it was read.
        nodes_after: of the graph that is compiled.
        seconds: time it took.
        remark: what onnxsim could not do, and what is compiled instead; mostly nothing.
    """

    nodes_before: int
    nodes_after: int
    seconds: float
    remark: str = ""


def simplify_onnx(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Simplification]:
    """Return the simplified model, and what was done; `model` itself stays as it is.

    Where onnxsim's optimiser fails, its folding of constants is tried alone. Where that fails too,
    or gives a graph with other inputs or outputs, the model is returned as it is: the passes do
    without onnxsim, and a graph that cannot be compiled is refused by what it holds.

    Warns:
        VaccWarning: onnxsim could not do all of it; `Simplification.remark` says the same.
    """
    start = time.perf_counter()
    before = len(model.graph.node)
    codes = quantized_operands(model.graph).weights
    aside = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name in codes or _stands_aside(tensor)
    ]
    lean = _without(model, aside)
    faults = []
    for optimize in (True, False):
        try:
            model = _with(_run_onnxsim(lean, optimize), model.graph, aside)
            break
        except Exception as error:  # of whatever class: onnxsim passes on those of its C++ parts
            faults.append(next(iter(str(error).strip().splitlines()), type(error).__name__))
    remark = ""
    if faults:
        left = "folds constants only" if len(faults) == 1 else "leaves the graph as it was read"
        remark = f"onnxsim {left}: {faults[-1]}"
        warnings.warn(remark, VaccWarning, stacklevel=1)
    seconds = time.perf_counter() - start
    return model, Simplification(before, len(model.graph.node), seconds, remark)


def _stands_aside(tensor: TensorProto) -> bool:
    """Whether it is a weight: folding would copy it, and lose where it came from."""
    external = bool(tensor.data_location == TensorProto.EXTERNAL)
    return external or tensor.ByteSize() > MAX_FOLDED_BYTES


def _run_onnxsim(lean: onnx.ModelProto, optimize: bool) -> onnx.ModelProto:
    import onnxsim

    with contextlib.redirect_stdout(io.StringIO()):  # it tells its developers how it went
        simplified, _not_compared = onnxsim.simplify(lean, perform_optimization=optimize)
    _check_signature(lean.graph, simplified.graph)
    return simplified


def _without(model: onnx.ModelProto, aside: list[TensorProto]) -> onnx.ModelProto:
    """Return a copy of `model` in which the tensors of `aside` are inputs."""
    graph = model.graph
    names = {tensor.name for tensor in aside}
    weights = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in aside
    ]
    initializers = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    lean = helper.make_graph(
        list(graph.node),
        graph.name,
        [*inputs, *weights],
        list(graph.output),
        [tensor for tensor in graph.initializer if tensor.name not in names],
        value_info=list(graph.value_info),
        sparse_initializer=list(graph.sparse_initializer),
    )
    # Before IR version 4 an initialiser had to be listed as an input too.
    return helper.make_model(
        lean, opset_imports=list(model.opset_import), ir_version=max(4, model.ir_version)
    )


def _with(
    simplified: onnx.ModelProto, original: onnx.GraphProto, aside: list[TensorProto]
) -> onnx.ModelProto:
    """Put the tensors of `aside` back, and the inputs and outputs as they were declared."""
    graph = simplified.graph
    graph.initializer.extend(aside)
    for field in ("input", "output"):
        graph.ClearField(field)
        getattr(graph, field).extend(getattr(original, field))
    return simplified


def _check_signature(before: onnx.GraphProto, after: onnx.GraphProto) -> None:
    """Refuse a graph with other inputs or outputs, or the same in another order."""
    for kind in ("input", "output"):
        old, new = ([_signature(v) for v in getattr(graph, kind)] for graph in (before, after))
        if [name for name, _, _ in old] != [name for name, _, _ in new]:
            raise ValueError(f"it changed the names or the order of the {kind}s")
        for (name, old_type, old_dims), (_, new_type, new_dims) in zip(old, new, strict=True):
            if old_type != new_type or not _refines(old_dims, new_dims):
                raise ValueError(f"it changed the type of the {kind} {name}")


def _signature(value: onnx.ValueInfoProto) -> tuple[str, int, tuple[_Dim, ...] | None]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return value.name, tensor.elem_type, None
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim
    )
    return value.name, tensor.elem_type, dims


def _refines(old: tuple[_Dim, ...] | None, new: tuple[_Dim, ...] | None) -> bool:
    """Whether `new` says what `old` does; a dimension that was symbolic may have got a number."""
    if old is None:
        return True
    same_rank = new is not None and len(new) == len(old)
    return same_rank and all(
        a == b or isinstance(a, str) for a, b in zip(old, new or (), strict=True)
    )
