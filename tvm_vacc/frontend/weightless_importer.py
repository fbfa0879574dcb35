"""TVM's importer of ONNX graphs, as the tvm_vacc importer needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import tvm
from onnx import AttributeProto
from tvm import ir, relax, tirx
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.onnx_control_flow import CONTROL_FLOW
from tvm_vacc.frontend.onnx_converters import converter_map
from tvm_vacc.frontend.onnx_narrow_types import widened
from tvm_vacc.frontend.origins import Node, marked
from tvm_vacc.frontend.tensor_ref import TensorRef


def converters() -> dict[str, Any]:
    """Return the converter of each operator by its type, as the importer has it."""
    return {
        f"{domain}::{name}" if domain else name: converter
        for (domain, name), converter in converter_map().items()
    }


_TAKE_SHAPES = {
    *("Cast", "CastLike", "Concat", "ConstantOfShape", "Equal", "Expand", "Gather", "Reshape"),
    *("Resize", "Shape", "Slice", "Squeeze", "Where"),
}
"""Operators whose converters know shapes; the list is stock TVM's."""


class WeightlessImporter(ONNXGraphImporter):
    """TVM's importer with external initialisers as parameters and our converters in front."""

    def __init__(
        self, path: Path, weights: dict[str, TensorRef], stored: frozenset[str], origins: bool
    ) -> None:
        super().__init__(shape_dict={}, dtype_dict={}, sanitize=False)
        self._path = path
        self._weights = weights
        self._stored = stored
        self._origins = origins
        self._nodes: dict[str, Any] = {}
        self._converters = converters()

    @property
    def input_names(self) -> list[str]:
        """Names of the graph's inputs, weights aside."""
        return self._input_names

    def convert(self, graph: onnx.GraphProto, opset: int) -> ir.IRModule:
        """Convert `graph`; whatever TVM trips over becomes an `OnnxError`."""
        try:
            return self.from_onnx(graph, opset)
        except Exception as error:
            # Left open, the block would make the builder warn on the terminal when it is freed.
            with contextlib.suppress(tvm.error.InternalError):
                self.bb._end_block()
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> OnnxError:
        if isinstance(error, OnnxError):
            return error
        if isinstance(error, KeyError):
            return OnnxError(
                f"{self._path}: a node or output reads {error}, which nothing makes",
                "the file is damaged: export it again",
            )
        return OnnxError(
            f"{self._path}: cannot be imported: {_reason(error)}",
            "check it with onnx.checker, or simplify it with onnxsim",
        )

    def _parse_graph_initializers(self, graph: onnx.GraphProto) -> None:
        for initializer in graph.initializer:
            ref = self._weights.get(initializer.name)
            if ref is None:
                self._nodes[initializer.name] = relax.const(self._parse_array(initializer))
            else:
                self._nodes[initializer.name] = self._new_var(ref.name, ref.shape, ref.dtype)
        for name, ref in self._weights.items():
            if name in self._stored:
                self._nodes[name] = self._new_var(name, ref.shape, "float32")

    def _parse_graph_input(self, graph: onnx.GraphProto) -> None:
        for value in graph.input:
            dims = value.type.tensor_type.shape.dim
            # Stock TVM reads a size of zero as an unknown one.
            if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in dims):
                self._shape[value.name] = [
                    dim.dim_value if dim.HasField("dim_value") else tirx.Var(dim.dim_param, "int64")
                    for dim in dims
                ]
        super()._parse_graph_input(graph)
        # Before IR version 4 an initialiser was listed as an input too.
        names = [*self._input_names, *self._weights]
        self._inputs = {name: self._nodes[name] for name in names}

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        for node in graph.node:
            self._node = node
            if node.op_type not in _TAKE_SHAPES:
                self._make_tensors([name for name in node.input if name])
            if node.op_type in CONTROL_FLOW:
                self._convert_control_flow(node)
            else:
                super()._construct_nodes(onnx.GraphProto(node=[node]))

    def _convert_control_flow(self, node: onnx.NodeProto) -> None:
        inputs = [self._nodes[name] if name else None for name in node.input]
        attributes = self._parse_attr(node.attribute)
        try:
            results = CONTROL_FLOW[node.op_type](
                self.bb, self._convert_body, inputs, attributes, self.opset
            )
        except Exception as error:
            raise self._failed(node.op_type, node.name, error) from error
        self._nodes |= {
            name: value for name, value in zip(node.output, results, strict=False) if name
        }

    def _convert_body(
        self, graph: onnx.GraphProto, arguments: Sequence[relax.Expr]
    ) -> list[relax.Expr]:
        """Emit the nodes of a branch or a loop's body, which sees all that stands round it."""
        outer = self._nodes
        inner = {value.name: arg for value, arg in zip(graph.input, arguments, strict=True)}
        inner |= {
            tensor.name: relax.const(self._parse_array(tensor)) for tensor in graph.initializer
        }
        self._nodes = {**outer, **inner}
        try:
            self._construct_nodes(graph)
            names = [output.name for output in graph.output]
            self._make_tensors(names)
            return [self._as_declared(output) for output in graph.output]
        finally:
            self._nodes = outer

    def _as_declared(self, output: onnx.ValueInfoProto) -> relax.Expr:
        """Return an output of a body, of the shape that it is declared to have, where one is."""
        value, dims = self._nodes[output.name], output.type.tensor_type.shape.dim
        if not isinstance(value, relax.Expr) or not isinstance(value.ty, relax.TensorType):
            return value
        sizes = [dim.dim_value for dim in dims if dim.HasField("dim_value")]
        if len(sizes) != len(dims) or not output.type.tensor_type.HasField("shape"):
            return value
        declared = relax.TensorType(sizes, value.ty.dtype)
        if value.ty.ndim != len(sizes) or value.ty == declared:
            return value
        known = value.ty.shape is not None and all(
            isinstance(dim, tirx.IntImm) for dim in value.ty.shape
        )
        return value if known else self.bb.match_cast(value, declared)

    def _make_tensors(self, names: Sequence[str]) -> None:
        """Turn shapes, which stock TVM refuses to compute with, into tensors."""
        for name in names:
            value = self._nodes[name]
            if isinstance(value, relax.Expr) and isinstance(value.ty, relax.ShapeType):
                self._nodes[name] = self.bb.emit(relax.op.shape_to_tensor(value))

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        """Done before anything is converted, with the nodes' names."""

    def _parse_attr(self, attr_proto: Any) -> dict[str, Any]:
        lists = (AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS)
        empty = {
            attribute.name: ()
            for attribute in attr_proto
            if attribute.type in lists
            and not (attribute.ints or attribute.floats or attribute.strings)
        }
        return empty | super()._parse_attr([a for a in attr_proto if a.name not in empty])

    def _parse_array(self, tensor_proto: onnx.TensorProto) -> tvm.runtime.Tensor:
        array = widened(np.asarray(onnx.numpy_helper.to_array(tensor_proto), order="C"))
        if array.dtype != ml_dtypes.bfloat16:
            return tvm.runtime.tensor(array)
        tensor = tvm.runtime.empty(array.shape, "bfloat16")
        return tensor.copyfrom(array)

    def _convert_operator(
        self, op_name: str, inputs: Any, attrs: dict[str, Any], opset: int
    ) -> relax.Expr:
        convert = self._converters[op_name].get_converter(opset)
        attrs["tvm_custom"]["outputs"] = list(self._node.output)
        try:
            expr = convert(self.bb, inputs, attrs, [self._nodes, self._params])
            if not isinstance(expr, relax.Expr):
                return expr
            if self._origins:
                expr = marked(expr, Node.of(self._node).label)
            expr = self.bb.normalize(expr)
            # Bound once: each reader of a call would compute it again.
            is_tensor = isinstance(expr, relax.Call) and isinstance(expr.ty, relax.TensorType)
            return self.bb.emit(expr) if is_tensor else expr
        except Exception as error:
            raise self._failed(op_name, attrs["tvm_custom"]["name"], error) from error

    def _failed(self, op_name: str, node: str, error: Exception) -> OnnxError:
        if isinstance(error, OnnxError):  # of a node in the body of this one
            return error
        return OnnxError(
            f"{self._path}: node {node or 'unnamed'} ({op_name.rpartition('::')[2]}) cannot be "
            f"converted: {_reason(error)}",
            "simplify the model with onnxsim, or export it with another opset",
        )


def _reason(error: Exception) -> str:
    """Return the last line of an error: TVM puts its own stack before it."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
