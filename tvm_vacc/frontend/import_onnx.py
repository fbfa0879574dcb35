"""ONNX to Relax with no weight loaded.

TVM's own importer does the work; what it lacks is added in `onnx_converters`. An initialiser kept
as external data, and every matrix that a product takes on the right, becomes a function parameter
that a `TensorRef` describes, another inline one a constant: the largest model imports in the time
its graph takes.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from tvm_vacc.frontend.bind_shapes import bind_shapes
from tvm_vacc.frontend.expand_functions import expand_functions
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.onnx_converters import converter_map
from tvm_vacc.frontend.onnx_external_data import external_tensors
from tvm_vacc.frontend.onnx_inline_data import inline_matrices
from tvm_vacc.frontend.onnx_narrow_casts import hold_in_bytes
from tvm_vacc.frontend.onnx_narrow_types import (
    note_quantized_types,
    refuse_narrow_tensors,
    widened,
)
from tvm_vacc.frontend.onnx_quantized import with_codes_unpacked
from tvm_vacc.frontend.origins import Node, mark_rest, marked
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.frontend.refuse_operators import refuse_unsupported, subgraphs
from tvm_vacc.frontend.simplify_onnx import Simplification, simplify_onnx
from tvm_vacc.frontend.tensor_ref import TensorRef


@dataclass(frozen=True)
class ImportedModel:
    """A model in Relax, its weights on disk.

    Attributes:
        module: holds `main`; attribute ``num_input`` counts the parameters that are no weights.
        weights: by parameter name, in the order of the parameters. Of one that is quantised, the
            codes; the scales stand behind all parameters.
        inputs: names of the graph's inputs, in order.
        outputs: names of its outputs, in order.
        simplification: what onnxsim did; None where it was not asked to.
        nodes: of the graph that was imported; none, unless its origins were asked for.
    """

    module: ir.IRModule
    weights: dict[str, TensorRef]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    simplification: Simplification | None = None
    nodes: tuple[Node, ...] = ()


def import_onnx(
    path: str | Path,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    simplify: bool = False,
    stored: Mapping[str, StoredCodes] | None = None,
    origins: bool = False,
) -> ImportedModel:
    """Import the ONNX file at `path`.

    Args:
        path: the file.
        input_shapes: static shapes of inputs, for any of them; the others stay as declared.
        simplify: run onnxsim first. For graphs of foreign exporters: ours come simplified.
        stored: the inputs that are weights, by name: what a quantised checkpoint holds of them.
        origins: mark each call with the node that it comes from (`tvm_vacc.frontend.origins`).

    Raises:
        ConfigError: `input_shapes` does not fit the graph.
        OnnxError: the file is missing, is no ONNX model, is damaged, refers to bytes that are not
            there or lie outside its directory, or holds operators that cannot be compiled (all
            of them are named at once).
    """
    path = Path(path)
    model = load_onnx(path)
    weights = external_tensors(model, path)
    bind_shapes(model.graph, input_shapes or {}, path)
    model = expand_functions(model, _kept_operators())
    simplification = None
    if simplify:
        model, simplification = simplify_onnx(model)
    weights = with_codes_unpacked(model.graph, weights | inline_matrices(model, path))
    stored = stored or {}
    weights |= {name: matrix.codes for name, matrix in stored.items()}
    _name_total_length(model.graph)
    _tag_domains(model.graph)
    refuse_unsupported(model.graph, {*_converters(), "If", "Constant"}, path)
    hold_in_bytes(model.graph)
    refuse_narrow_tensors(model.graph, path)
    note_quantized_types(model.graph)
    importer = _WeightlessImporter(path, weights, frozenset(stored), origins)
    # Stock TVM prints the operator that failed and warns of names; our error says both.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importer.convert(model.graph, _opset(model))
    return ImportedModel(
        module=mark_rest(module) if origins else module,
        weights=weights | {matrix.scales.name: matrix.scales for matrix in stored.values()},
        inputs=tuple(importer.input_names),
        outputs=tuple(output.name for output in model.graph.output),
        simplification=simplification,
        nodes=tuple(map(Node.of, model.graph.node)) if origins else (),
    )


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=1)


def _name_total_length(graph: onnx.GraphProto) -> None:
    """Give ``attention_mask [batch, total]`` the length ``past + seq``.

    Exporters give it a symbol of its own, and no shape that depends on it would meet the others.
    The input names are those that transformers and Optimum use.
    """
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    past = next((dim for name, dim in inputs.items() if name.startswith("past_key_values.")), None)
    mask, ids = inputs.get("attention_mask"), inputs.get("input_ids")
    if past is None or mask is None or ids is None:
        return
    if len(past) == 4 and len(mask) == 2 and len(ids) == 2 and mask[1].dim_param:
        past_name, seq_name = past[2].dim_param, ids[1].dim_param
        if past_name and seq_name:
            mask[1].dim_param = f"{past_name}+{seq_name}"


def _tag_domains(graph: onnx.GraphProto) -> None:
    """Prefix operators of foreign domains with the domain, which stock TVM overlooks."""
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            node.op_type = f"{node.domain}::{node.op_type}"
        for subgraph in subgraphs(node):
            _tag_domains(subgraph)


def _converters() -> dict[str, Any]:
    return {
        f"{domain}::{name}" if domain else name: converter
        for (domain, name), converter in converter_map().items()
    }


def _kept_operators() -> set[tuple[str, str]]:
    """Domain and name of what is not expanded."""
    return {*converter_map(), *((domain, "If") for domain in ("", "ai.onnx")), ("", "Constant")}


_TAKE_SHAPES = {
    *("Cast", "CastLike", "Concat", "ConstantOfShape", "Equal", "Expand", "Gather", "Reshape"),
    *("Resize", "Shape", "Slice", "Squeeze", "Where"),
}
"""Operators whose converters know shapes; the list is stock TVM's."""


class _WeightlessImporter(ONNXGraphImporter):
    """TVM's importer with external initialisers as parameters and our converters in front."""

    def __init__(
        self, path: Path, weights: dict[str, TensorRef], stored: frozenset[str], origins: bool
    ) -> None:
        super().__init__(shape_dict={}, dtype_dict={}, sanitize=False)
        self._path = path
        self._weights = weights
        self._stored = stored
        self._origins = origins
        self._converters = _converters()

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
            super()._construct_nodes(onnx.GraphProto(node=[node]))

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
            expr = self.bb.normalize(expr) if isinstance(expr, relax.Expr) else expr
            if self._origins and isinstance(expr, relax.Expr):
                expr = self.bb.normalize(marked(expr, Node.of(self._node).label))
            return expr
        except Exception as error:
            node = attrs["tvm_custom"]["name"] or "unnamed"
            raise OnnxError(
                f"{self._path}: node {node} ({op_name}) cannot be converted: {_reason(error)}",
                "simplify the model with onnxsim, or export it with another opset",
            ) from error


def _reason(error: Exception) -> str:
    """Return the last line of an error: TVM puts its own stack before it."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
