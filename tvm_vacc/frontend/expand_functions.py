"""Expands ONNX operators into the function that the standard defines them by.

Half of the newer operators (losses, windows, FlexAttention, SwiGLU) are functions of older ones.
Those that have no converter of their own are replaced by their body, so that primitives stay.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
import onnx.inliner
from onnx.shape_inference import InferenceError


def expand_functions(
    model: onnx.ModelProto, supported: Collection[tuple[str, str]]
) -> onnx.ModelProto:
    """Return `model` with the functions among its operators expanded.

    Args:
        model: with the shapes and types that its nodes need where a body depends on them.
        supported: domain and name of the operators that stay as they are.

    An operator that is neither supported nor a function stays too. Where ONNX cannot expand one
    (its body depends on types that are not known), all stay, to be refused by their names.
    """
    names = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}
    used = _operators(model.graph)
    if not (used - set(supported)) & names:
        return model
    # Bodies may depend on the types of values in the middle of the graph.
    try:
        typed = onnx.shape_inference.infer_shapes(model)
        return onnx.inliner.inline_selected_functions(
            typed, sorted(supported), exclude=True, inline_schema_functions=True
        )
    except (RuntimeError, InferenceError):  # the first are assertions of onnx's C++ code
        return model


def _operators(graph: onnx.GraphProto) -> set[tuple[str, str]]:
    found = set()
    for node in graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        found.add((domain, node.op_type))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _operators(attribute.g)
    return found
