"""ONNX's If, Loop and Scan: a branch in a function of its own, and loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import onnx
from tvm import ir, relax, tirx

from tvm_vacc.frontend.lifted_functions import branch, lift
from tvm_vacc.frontend.loops import ENDLESS, Loop, named_dims, of_length, run_loop, take_step

_Bb: TypeAlias = relax.BlockBuilder
_Exprs: TypeAlias = list[relax.Expr]
_Attributes: TypeAlias = dict[str, Any]

Body: TypeAlias = Callable[[onnx.GraphProto, Sequence[relax.Expr]], _Exprs]
"""Emits a graph's nodes with its inputs bound to the given values; returns its outputs."""

IF = "tvm_vacc::If"
"""Operator type that the importer gives ONNX's If."""


def convert_if(
    bb: _Bb, body: Body, inputs: Sequence[Any], attributes: _Attributes, opset: int
) -> _Exprs:
    """Emit the side that a constant condition takes, or a call of a function that branches."""
    condition = _as_scalar(bb, inputs[0], "bool")
    sides = [attributes[name] for name in ("then_branch", "else_branch")]
    if isinstance(inputs[0], ir.GenericConst):
        return body(sides[not inputs[0].value.numpy().item()], [])
    param = relax.Var("condition", condition.ty)
    count = len(sides[0].output)

    def build() -> _Exprs:
        then, otherwise = (lambda: body(sides[0], [])), (lambda: body(sides[1], []))
        taken = branch(bb, param, then, otherwise)
        return [bb.emit(relax.TupleGetItem(taken, i)) for i in range(count)]

    lifted = lift(bb, "branch", [param], build, straight=False)
    results = bb.emit(lifted.call(condition))
    return [named_dims(bb, bb.emit(relax.TupleGetItem(results, i))) for i in range(count)]


def convert_loop(
    bb: _Bb, body: Body, inputs: Sequence[Any], attributes: _Attributes, opset: int
) -> _Exprs:
    """Emit a Loop: the values it carries, then those it collects, stacked on axis 0."""
    limit, condition, *carried = inputs
    graph: onnx.GraphProto = attributes["body"]
    count = len(carried)

    def step(
        number: relax.Expr, go: relax.Expr, values: _Exprs
    ) -> tuple[relax.Expr, _Exprs, _Exprs]:
        again, *results = body(graph, [number, go, *values])
        return _as_scalar(bb, again, "bool"), results[:count], results[count:]

    steps: int | relax.Expr = ENDLESS
    if isinstance(limit, ir.GenericConst):
        steps = int(limit.value.numpy().item())
    elif limit is not None:
        steps = _as_scalar(bb, limit, "int64")
    go = relax.const(True) if condition is None else condition
    starts = isinstance(go, ir.GenericConst) and bool(go.value.numpy().item())
    goes_on = starts and _keeps_condition(graph)
    loop = Loop(step, steps, _as_scalar(bb, go, "bool"), carried, goes_on)
    values, collected = run_loop(bb, loop)
    return [*values, *collected]


def _keeps_condition(graph: onnx.GraphProto) -> bool:
    """Whether a step that is begun says that the loop goes on, whatever it computes."""
    made_by = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name: tensor for tensor in graph.initializer}
    name = graph.output[0].name
    while name in made_by and made_by[name].op_type == "Identity":
        name = made_by[name].input[0]
    if name == graph.input[1].name:
        return True
    tensor = stored.get(name)
    if name in made_by and made_by[name].op_type == "Constant":
        tensor = next((a.t for a in made_by[name].attribute if a.name == "value"), None)
    return tensor is not None and bool(onnx.numpy_helper.to_array(tensor).item())


def convert_scan(
    bb: _Bb, body: Body, inputs: Sequence[Any], attributes: _Attributes, opset: int
) -> _Exprs:
    """Emit a Scan: the values it carries, then those it collects, each along its axis.

    Raises:
        NotImplementedError: it is one of opset 8, which has a batch of scans.
    """
    if opset < 9:
        raise NotImplementedError("Scan of opset 8: export with opset 9 or newer")
    graph: onnx.GraphProto = attributes["body"]
    width = int(attributes["num_scan_inputs"])
    count = len(inputs) - width
    carried, scanned = list(inputs[:count]), inputs[count:]
    made = len(graph.output) - count

    def listed(name: str, length: int) -> list[int]:
        return list(attributes.get(name) or [0] * length)

    axes = [
        axis % len(values.ty.shape)
        for axis, values in zip(listed("scan_input_axes", width), scanned, strict=True)
    ]
    ways = listed("scan_input_directions", width)

    def step(
        number: relax.Expr, go: relax.Expr, values: _Exprs
    ) -> tuple[relax.Expr, _Exprs, _Exprs]:
        rows = [
            take_step(bb, source, number, axis, backwards=bool(way))
            for source, axis, way in zip(scanned, axes, ways, strict=True)
        ]
        results = body(graph, [*values, *rows])
        return go, results[:count], results[count:]

    length = scanned[0].ty.shape[axes[0]]
    steps = int(length) if isinstance(length, int | tirx.IntImm) else _size(bb, length)
    loop = Loop(step, steps, relax.const(True), carried, unconditional=True)
    values, collected = run_loop(bb, loop)
    if not isinstance(steps, int):
        collected = [of_length(bb, rows, length) for rows in collected]
    ends = zip(
        collected,
        listed("scan_output_axes", made),
        listed("scan_output_directions", made),
        strict=True,
    )
    return [*values, *(_laid_out(bb, *end) for end in ends)]


def _laid_out(bb: _Bb, rows: relax.Expr, axis: int, backwards: int) -> relax.Expr:
    """Put the rows, which stand along axis 0, along `axis`, the last one first if `backwards`."""
    rank = len(rows.ty.shape)
    if backwards:
        rows = bb.emit(relax.op.flip(rows, 0))
    if axis % rank == 0:
        return rows
    order = list(range(1, rank))
    order.insert(axis % rank, 0)
    return bb.emit(relax.op.permute_dims(rows, order))


def _size(bb: _Bb, dim: Any) -> relax.Expr:
    sizes = bb.emit(relax.op.shape_to_tensor(bb.normalize(relax.ShapeExpr([dim]))))
    return bb.emit(relax.op.reshape(sizes, []))


def _as_scalar(bb: _Bb, value: Any, dtype: str) -> relax.Expr:
    """Return one number, of shape ``[]`` or ``[1]`` or of a shape's arithmetic, as a scalar."""
    if ir.is_prim_expr(value):
        return _size(bb, value)
    if isinstance(value, ir.GenericConst):
        return relax.const(value.value.numpy().reshape(()), dtype)
    scalar = value if len(value.ty.shape) == 0 else bb.emit(relax.op.reshape(value, []))
    return scalar if scalar.ty.dtype == dtype else bb.emit(relax.op.astype(scalar, dtype))


CONTROL_FLOW: dict[str, Callable[..., _Exprs]] = {
    IF: convert_if,
    "Loop": convert_loop,
    "Scan": convert_scan,
}
"""By operator type, as the importer has it."""
