"""Marks the calls of an imported graph with the node of the model that each comes from.

The mark is the call's span, whose source is the node's label. Passes hand it on
(`relay_passes.rewriter.with_span`), so that at their end one can tell what became of each node.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx
from tvm import ir, relax


class Node(NamedTuple):
    """A node of an ONNX graph.

    Attributes:
        label: its operator and name, or its first output where it has no name.
        inputs: names of what it reads.
        outputs: names of what it makes.
    """

    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @staticmethod
    def of(node: onnx.NodeProto) -> Node:
        """Describe `node`."""
        name = node.name or next(iter(node.output), "")
        kind = node.op_type.removeprefix("tvm_vacc::")  # what the importer gives types of its own
        return Node(f"{kind} {name}", tuple(node.input), tuple(node.output))


def marked(expr: relax.Expr, label: str) -> relax.Expr:
    """Return `expr`, where it is a call without a mark or a tuple of such, marked with `label`."""
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([marked(field, label) for field in expr.fields])
    if not isinstance(expr, relax.Call) or expr.span is not None:
        return expr
    span = ir.Span(ir.SourceName(label), 0, 0, 0, 0)
    return relax.Call(expr.op, expr.args, expr.attrs, expr.ty_args, span)


def mark_rest(module: ir.IRModule) -> ir.IRModule:
    """Return `module` with every call of ``main`` marked.

    A call without a mark belongs to what reads it: a node became several calls, and the last of
    them is marked. Where none is, as in a module that is no import, each call is its own origin.
    A function with control flow is returned as it is.
    """
    main = module["main"]
    blocks = main.body.blocks
    if len(blocks) != 1:
        return module
    builder = relax.BlockBuilder()
    labels: dict[relax.Var, str] = {}
    bindings = list(blocks[0].bindings)
    for index in reversed(range(len(bindings))):
        binding = bindings[index]
        value = binding.value if isinstance(binding, relax.VarBinding) else None
        label = labels.get(binding.var, "")
        if isinstance(value, relax.Call):
            label = origin_of(value) or label or f"{_operator(value)} {binding.var.name}"
            bindings[index] = relax.VarBinding(binding.var, builder.normalize(marked(value, label)))
        for var in relax.analysis.free_vars(binding.value) if label else ():
            labels.setdefault(var, label)
    body = relax.SeqExpr([type(blocks[0])(bindings)], main.body.body)
    result = ir.IRModule(dict(module.functions_items()), attrs=module.attrs)
    result["main"] = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    return relax.transform.Normalize()(result)


def origin_of(call: relax.Call) -> str:
    """Return the label that `call` is marked with; empty where it has none."""
    return "" if call.span is None else str(call.span.source_name.name)


def _operator(call: relax.Call) -> str:
    name = call.op.name if isinstance(call.op, ir.Op) else type(call.op).__name__
    return str(name).removeprefix("relax.")
