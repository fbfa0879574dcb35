"""Uses of ONNX operators that would be compiled to something else: refused like unknown operators.

A table: operator type to what tells whether a node is such a use, and what it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper, numpy_helper

Constants = Mapping[str, onnx.TensorProto]
"""Tensors of a graph by name."""


@dataclass(frozen=True)
class Use:
    """Where a node stands.

    Attributes:
        constants: what its operands may be.
        read: names of all tensors that something reads.
        directory: where the files of external data are.
    """

    constants: Constants
    read: set[str]
    directory: Path


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the initialisers of `graph`, and what its nodes Constant make."""
    nodes = [node for node in graph.node if node.op_type == "Constant"]
    made = {
        node.output[0]: attribute.t
        for node in nodes
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in graph.initializer}


def refused_use(kind: str, node: onnx.NodeProto, use: Use) -> str:
    """Return what `node` does that cannot be compiled, with its operator type; or nothing.

    Args:
        kind: the operator type, that of a foreign domain with its domain before it.
        node: of that type.
        use: where it stands.
    """
    found = [name for name, applies in _RULES.get(kind, ()) if applies(node, use)]
    return f"{kind} {found[0]}".strip() if found else ""


def _drops(node: onnx.NodeProto, use: Use) -> bool:
    """Since opset 12 inputs are data, ratio (0.5 if left out) and training_mode (false)."""
    if len(node.input) < 3 or not node.input[2]:
        return False

    def is_off(name: str) -> bool:
        tensor = use.constants.get(name)
        return tensor is not None and not numpy_helper.to_array(tensor, str(use.directory)).any()

    return not is_off(node.input[2]) and not is_off(node.input[1])


def _output_read(*positions: int) -> Callable[[onnx.NodeProto, Use], bool]:
    def applies(node: onnx.NodeProto, use: Use) -> bool:
        return any(p < len(node.output) and node.output[p] in use.read for p in positions)

    return applies


def _input_given(*positions: int) -> Callable[[onnx.NodeProto, Use], bool]:
    def applies(node: onnx.NodeProto, _use: Use) -> bool:
        return any(p < len(node.input) and node.input[p] for p in positions)

    return applies


def _has_computed_size(node: onnx.NodeProto, use: Use) -> bool:
    return node.input[0] not in use.constants


def _always(_node: onnx.NodeProto, _use: Use) -> bool:
    return True


def _with_other(name: str, *values: object) -> Callable[[onnx.NodeProto, Use], bool]:
    """Tell nodes whose attribute `name` is given, and none of `values`."""

    def applies(node: onnx.NodeProto, _use: Use) -> bool:
        given = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
        return any(value not in values for value in given)

    return applies


def _with(name: str, *values: object) -> Callable[[onnx.NodeProto, Use], bool]:
    """Tell nodes whose attribute `name` is one of `values`; of any value, where none is given."""

    def applies(node: onnx.NodeProto, _use: Use) -> bool:
        given = [helper.get_attribute_value(a) for a in node.attribute if a.name == name]
        return any(not values or value in values for value in given)

    return applies


_MICROSOFT = "com.microsoft::"
_WINDOW = (("of a computed length", _has_computed_size),)
_INVERSE_DEVIATION = (("whose inv_std_var is read", _output_read(1)),)

_RULES: dict[str, tuple[tuple[str, Callable[[onnx.NodeProto, Use], bool]], ...]] = {
    "BatchNormalization": (("in training mode", _with("training_mode", 1)),),
    "BlackmanWindow": _WINDOW,
    "ConvTranspose": (("with output_shape", _with("output_shape")),),
    "Dropout": (("in training mode", _drops), ("whose mask is read", _output_read(1))),
    "HammingWindow": _WINDOW,
    "HannWindow": _WINDOW,
    # TVM's returns a padded tensor and a count.
    "NonMaxSuppression": (("", _always),),
    "RoiAlign": (("of mode max", _with("mode", b"max")),),
    "SimplifiedLayerNormalization": _INVERSE_DEVIATION,
    "SpaceToDepth": (("of mode CRD", _with("mode", b"CRD")),),
    f"{_MICROSOFT}GroupQueryAttention": (
        ("with a quantised cache", _input_given(12, 13)),
        ("whose scores are read", _output_read(3)),
    ),
    f"{_MICROSOFT}MatMulNBits": (("of other than 2, 4 or 8 bits", _with_other("bits", 2, 4, 8)),),
    f"{_MICROSOFT}MultiHeadAttention": (
        ("with a buffer shared by past and present", _input_given(8, 9)),
        ("whose scores are read", _output_read(3)),
    ),
    f"{_MICROSOFT}RotaryEmbedding": (
        ("with scale", _with_other("scale", 1.0)),
        ("of packed batches", _with_other("is_packed_batching", 0)),
    ),
    f"{_MICROSOFT}SimplifiedLayerNormalization": _INVERSE_DEVIATION,
    f"{_MICROSOFT}SkipSimplifiedLayerNormalization": (
        ("whose mean or inv_std_var is read", _output_read(1, 2)),
    ),
}
