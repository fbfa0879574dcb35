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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import tvm
from onnx import AttributeProto
from tvm import ir, relax
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.bind_shapes import bind_shapes
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.onnx_converters import converter_map
from tvm_vacc.frontend.onnx_external_data import external_tensors
from tvm_vacc.frontend.onnx_inline_data import inline_matrices
from tvm_vacc.frontend.simplify_onnx import Simplification, simplify_onnx
from tvm_vacc.frontend.tensor_ref import TensorRef


@dataclass(frozen=True)
class ImportedModel:
    """A model in Relax, its weights on disk.

    Attributes:
        module: holds `main`; attribute ``num_input`` counts the parameters that are no weights.
        weights: by parameter name, in the order of the parameters.
        inputs: names of the graph's inputs, in order.
        outputs: names of its outputs, in order.
        simplification: what onnxsim did; None where it was not asked to.
    """

    module: ir.IRModule
    weights: dict[str, TensorRef]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    simplification: Simplification | None = None


def import_onnx(
    path: str | Path,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    simplify: bool = False,
) -> ImportedModel:
    """Import the ONNX file at `path`.

    Args:
        path: the file.
        input_shapes: static shapes of inputs, for any of them; the others stay as declared.
        simplify: run onnxsim first. For graphs of foreign exporters: ours come simplified.

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
    simplification = None
    if simplify:
        model, simplification = simplify_onnx(model)
    weights |= inline_matrices(model, path)
    _name_total_length(model.graph)
    _tag_domains(model.graph)
    _refuse_unsupported(model.graph, path)
    importer = _WeightlessImporter(path, weights)
    # Stock TVM prints the operator that failed and warns of names; our error says both.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importer.convert(model.graph, _opset(model))
    return ImportedModel(
        module=module,
        weights=weights,
        inputs=tuple(importer.input_names),
        outputs=tuple(output.name for output in model.graph.output),
        simplification=simplification,
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


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _tag_domains(graph: onnx.GraphProto) -> None:
    """Prefix operators of foreign domains with the domain, which stock TVM overlooks."""
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            node.op_type = f"{node.domain}::{node.op_type}"
        for subgraph in _subgraphs(node):
            _tag_domains(subgraph)


def _converters() -> dict[str, Any]:
    return {
        f"{domain}::{name}" if domain else name: converter
        for (domain, name), converter in converter_map().items()
    }


def _refuse_unsupported(graph: onnx.GraphProto, path: Path) -> None:
    supported = {*_converters(), "If", "Constant"}
    missing: dict[str, list[str]] = {}

    def visit(nodes: onnx.GraphProto) -> None:
        for node in nodes.node:
            if node.op_type not in supported:
                label = node.name or f"output {', '.join(node.output)}"
                missing.setdefault(node.op_type, []).append(label)
            for subgraph in _subgraphs(node):
                visit(subgraph)

    visit(graph)
    if missing:
        listed = "; ".join(f"{op} (nodes {', '.join(names)})" for op, names in missing.items())
        raise OnnxError(
            f"{path}: operators that cannot be compiled: {listed}",
            "export with standard operators of opset 23 or older",
        )


class _WeightlessImporter(ONNXGraphImporter):
    """TVM's importer with external initialisers as parameters and our converters in front."""

    def __init__(self, path: Path, weights: dict[str, TensorRef]) -> None:
        super().__init__(shape_dict={}, dtype_dict={}, sanitize=False)
        self._path = path
        self._weights = weights
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

    def _parse_graph_input(self, graph: onnx.GraphProto) -> None:
        super()._parse_graph_input(graph)
        # Before IR version 4 an initialiser was listed as an input too.
        names = [*self._input_names, *self._weights]
        self._inputs = {name: self._nodes[name] for name in names}

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
        array = np.ascontiguousarray(onnx.numpy_helper.to_array(tensor_proto))
        if array.dtype != ml_dtypes.bfloat16:
            return tvm.runtime.tensor(array)
        tensor = tvm.runtime.empty(array.shape, "bfloat16")
        return tensor.copyfrom(array)

    def _convert_operator(
        self, op_name: str, inputs: Any, attrs: dict[str, Any], opset: int
    ) -> relax.Expr:
        convert = self._converters[op_name].get_converter(opset)
        try:
            expr = convert(self.bb, inputs, attrs, [self._nodes, self._params])
            return self.bb.normalize(expr) if isinstance(expr, relax.Expr) else expr
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
