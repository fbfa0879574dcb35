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

import onnx
from tvm import ir

from tvm_vacc.frontend.bind_shapes import bind_shapes
from tvm_vacc.frontend.expand_functions import expand_functions
from tvm_vacc.frontend.expand_recurrent import expand_recurrent
from tvm_vacc.frontend.join_dynamic_quantization import join_dynamic_quantization
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.onnx_control_flow import CONTROL_FLOW, IF
from tvm_vacc.frontend.onnx_converters import converter_map
from tvm_vacc.frontend.onnx_external_data import external_tensors
from tvm_vacc.frontend.onnx_inline_data import inline_matrices
from tvm_vacc.frontend.onnx_narrow_types import hold_in_bytes
from tvm_vacc.frontend.onnx_quantized import with_codes_unpacked
from tvm_vacc.frontend.origins import Node, mark_rest
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.frontend.refuse_operators import (
    needed_nodes,
    refuse_unsupported,
    subgraphs,
    tagged_type,
)
from tvm_vacc.frontend.simplify_onnx import Simplification, simplify_onnx
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.frontend.weightless_importer import WeightlessImporter, converters


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
    join_dynamic_quantization(model)
    weights = external_tensors(model, path)
    bind_shapes(model.graph, input_shapes or {}, path)
    expand_recurrent(model)
    model = expand_functions(model, _kept_operators())
    supported = {*converters(), *CONTROL_FLOW, "Constant", "If"}
    nodes = needed_nodes(model.graph) if simplify else model.graph.node
    refuse_unsupported(model.graph, nodes, supported, path)
    simplification = None
    if simplify:
        model, simplification = simplify_onnx(model)
    weights = with_codes_unpacked(model.graph, weights | inline_matrices(model, path))
    stored = stored or {}
    weights |= {name: matrix.codes for name, matrix in stored.items()}
    _name_total_length(model.graph)
    refuse_unsupported(model.graph, model.graph.node, supported, path)
    _tag_domains(model.graph)
    hold_in_bytes(model.graph, path)
    importer = WeightlessImporter(path, weights, frozenset(stored), origins)
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
    """Prefix operators of foreign domains with the domain, which stock TVM overlooks.

    So that it overlooks If as well, for which it would open no dataflow block.
    """
    for node in graph.node:
        node.op_type = IF if node.op_type == "If" else tagged_type(node)
        for subgraph in subgraphs(node):
            _tag_domains(subgraph)


def _kept_operators() -> set[tuple[str, str]]:
    """Domain and name of what is not expanded."""
    return {*converter_map(), *(("", name) for name in ("Constant", "If", "Loop", "Scan"))}
