"""Repeats the one traced decoder layer in an ONNX graph: layers differ in their weights only.

Tracing a layer symbolically takes torch a second or two; copying its nodes takes a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

_CACHES = ("key", "value")


def stack_layers(model: ir.Model, layers: int) -> None:
    """Turn a model of one layer into one of `layers`, in place.

    The graph's names are those of `export_onnx`. The layer is what lies between its first norm's
    input and the last norm's input; whatever it reads that does not depend on either that input or
    a weight of the layer (mask, cosines, sizes) stays shared. New initialisers have no data yet.
    """
    graph = model.graph
    final_norm = _norm_of(graph, "model.norm.weight")
    entry = _norm_of(graph, "model.layers.0.input_layernorm.weight").inputs[0]
    leave = final_norm.inputs[0]
    weights = [value for name, value in graph.initializers.items() if _is_of_first_layer(name)]
    present = [_output(graph, f"present.0.{kind}") for kind in _CACHES]
    region = _between(graph, [entry, *weights], [leave, *present])
    position, hidden = leave.producer(), leave
    for i in range(1, layers):
        copied = {entry: hidden}
        for weight in weights:
            copied[weight] = _new_like(weight, _of_layer(weight, i))
            graph.initializers.add(copied[weight])
        for kind in _CACHES:
            past = _input(graph, f"past_key_values.0.{kind}")
            copied[past] = _new_like(past, _of_layer(past, i))
            graph.inputs.append(copied[past])
        nodes = [_copy_node(node, copied, i) for node in region]
        graph.insert_after(position, nodes)
        for value in present:
            copied[value].name = _of_layer(value, i)
            graph.outputs.append(copied[value])
        position, hidden = nodes[-1], copied[leave]
    final_norm.replace_input_with(0, hidden)


def _is_of_first_layer(name: str) -> bool:
    return name.startswith("model.layers.0.")


def _of_layer(value: ir.Value, i: int) -> str:
    """Return the name that `value` of layer 0 has in layer i: our own names, `a.0.b` -> `a.i.b`."""
    return str(value.name).replace(".0.", f".{i}.", 1)


def _norm_of(graph: ir.Graph, weight: str) -> ir.Node:
    """Return the RMSNormalization that `weight` scales, by way of its Cast if there is one."""
    (reader,) = graph.initializers[weight].consumers()
    if reader.op_type == "Cast":
        (reader,) = reader.outputs[0].consumers()
    return reader


def _input(graph: ir.Graph, name: str) -> ir.Value:
    return next(value for value in graph.inputs if value.name == name)


def _output(graph: ir.Graph, name: str) -> ir.Value:
    return next(value for value in graph.outputs if value.name == name)


def _between(
    graph: ir.Graph, sources: Iterable[ir.Value], sinks: Iterable[ir.Value]
) -> list[ir.Node]:
    """Return the nodes that depend on a source and that a sink depends on, in the graph's order."""
    reached = set(sources)
    downstream = []
    for node in graph:
        if any(value in reached for value in node.inputs):
            reached.update(node.outputs)
            downstream.append(node)
    needed = set(sinks)
    region = []
    for node in reversed(downstream):
        if any(value in needed for value in node.outputs):
            needed.update(value for value in node.inputs if value is not None)
            region.append(node)
    return region[::-1]


def _copy_node(node: ir.Node, copied: dict[ir.Value, ir.Value], i: int) -> ir.Node:
    outputs = [_new_like(value, f"{value.name}_layer{i}") for value in node.outputs]
    copied.update(zip(node.outputs, outputs, strict=True))
    return ir.Node(
        node.domain,
        node.op_type,
        [value if value is None else copied.get(value, value) for value in node.inputs],
        node.attributes.values(),
        outputs=outputs,
        name=f"{node.name}_layer{i}",
    )


def _new_like(value: ir.Value, name: str) -> ir.Value:
    return ir.Value(name=name, shape=value.shape, type=value.type)
