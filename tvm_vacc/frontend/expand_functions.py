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

    An operator that is neither supported nor a function stays too, and so does one whose body
    could not be compiled. Where ONNX cannot expand one
    (its body depends on types that are not known), all stay, to be refused by their names.
    """
    names = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}
    expanded = (_operators(model.graph) - set(supported)) & names
    if not expanded:
        return model
    # Bodies may depend on the types of values in the middle of the graph.
    try:
        typed = onnx.shape_inference.infer_shapes(model)
        _write_defaults(typed, expanded)
        # The inliner asks for the type of inputs that are left out, too.
        typed.graph.value_info.append(
            onnx.helper.make_tensor_value_info("", onnx.TensorProto.FLOAT, None)
        )
        left_alone = {*supported, *_hopeless(typed, expanded, supported)}
        return onnx.inliner.inline_selected_functions(
            typed, sorted(left_alone), exclude=True, inline_schema_functions=True
        )
    except (RuntimeError, InferenceError):  # the first are assertions of onnx's C++ code
        return model


def _hopeless(
    model: onnx.ModelProto,
    functions: Collection[tuple[str, str]],
    supported: Collection[tuple[str, str]],
) -> set[tuple[str, str]]:
    """Return those of `functions` whose bodies come to operators that cannot be compiled either.

    They stay, so that it is they that are refused, by the names that their nodes have.
    """

    def unsupported(left_alone: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        whole = onnx.inliner.inline_selected_functions(
            model, sorted(left_alone), exclude=True, inline_schema_functions=True
        )
        return _operators(whole.graph) - set(supported)

    if not unsupported(supported):
        return set()
    return {
        one
        for one in functions
        if unsupported({*supported, *functions} - {one}) - set(functions)
        != unsupported({*supported, *functions}) - set(functions)
    }


def _write_defaults(model: onnx.ModelProto, operators: Collection[tuple[str, str]]) -> None:
    """Give the nodes of `operators` the attributes that they leave to their defaults.

    A body refers to attributes by name, and the inliner knows of those that are written only.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for node in model.graph.node:
        if (node.domain, node.op_type) not in operators:
            continue
        version = versions.get(node.domain, 1)
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        written = {attribute.name for attribute in node.attribute}
        node.attribute.extend(
            attribute.default_value
            for name, attribute in schema.attributes.items()
            if name not in written and attribute.default_value.name
        )


def _operators(graph: onnx.GraphProto) -> set[tuple[str, str]]:
    found = set()
    for node in graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        found.add((domain, node.op_type))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _operators(attribute.g)
    return found
