"""From a checkpoint to an ONNX file without weights: they stay where they are, as external data."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir.passes import common as common_passes
from onnxscript import optimizer
from torch._subclasses.fake_tensor import FakeTensorMode

from tvm_vacc.errors import CheckpointError, OnnxError
from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.frontend.glm_layout import EMBEDDING, tensor_shapes
from tvm_vacc.frontend.glm_signature import input_names, output_names
from tvm_vacc.frontend.modeling_glm_vacc import GlmForCausalLM, inverse_frequencies
from tvm_vacc.frontend.stack_layers import stack_layers
from tvm_vacc.frontend.weight_files import place_weights

OPSET = 23
"""The first with RMSNormalization and RotaryEmbedding."""

Progress = Callable[[str], None]
"""Is told, in one line, what is being done."""

_EXAMPLE_BATCH, _EXAMPLE_SEQ, _EXAMPLE_PAST = 2, 3, 5
_HEAD = "lm_head.weight"
_INV_FREQ = "model.rotary.inv_freq"
_BATCH, _SEQ, _PAST = (torch.export.Dim(name) for name in ("batch", "seq", "past"))
_DYNAMIC_SHAPES = (
    {0: _BATCH, 1: _SEQ},
    {0: _BATCH, 1: _SEQ},
    ({0: _BATCH, 2: _PAST}, {0: _BATCH, 2: _PAST}),
)
_DTYPES = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
}


def export_onnx(
    checkpoint: Checkpoint, out_path: str | Path, *, progress: Progress | None = None
) -> Path:
    """Write the model as `out_path` (opset 23); no weight is read.

    Inputs are `input_ids` and `position_ids` `[batch, seq]` int64 and, for each layer i,
    `past_key_values.{i}.key` and `.value` `[batch, kv_heads, past, head_dim]` fp32. Outputs are
    `logits` `[batch, seq, vocab]` fp32 and `present.{i}.key` and `.value`
    `[batch, kv_heads, past+seq, head_dim]` fp32. The initialisers are the checkpoint's tensors by
    their `glm` names, in their own dtype; `Cast` to fp32 follows each that is not fp32. A matrix
    that is quantised is no initialiser, since ONNX has no type for its codes as they are stored,
    but one more input: `[out, in]` fp32, codes times scales.

    Args:
        checkpoint: from `open_checkpoint`.
        out_path: the .onnx file; its directory is made. Where the checkpoint is not below it,
            `<stem>.weights` beside it holds links to the weights (see `weight_files`).
        progress: is told each stage, and how the weights were placed.

    Returns:
        `out_path` as a Path.

    Raises:
        CheckpointError: a tensor's dtype differs from layer to layer.
        OnnxError: `out_path` cannot be written, or the weight files not be reached from it.
    """
    out_path = Path(out_path)
    say = progress or (lambda _line: None)
    with _writing(out_path):
        out_path.parent.mkdir(parents=True, exist_ok=True)
    _demand_like_layers(checkpoint)
    say("tracing one layer")
    with _quiet():
        program = _trace(checkpoint)
        say("translating to ONNX")
        model = _translate(program)
    say(f"stacking {checkpoint.spec.layers} layers")
    _simplify(model)
    stack_layers(model, checkpoint.spec.layers)
    placed = place_weights(checkpoint.files, out_path)
    say(f"weights: {placed.way}")
    _attach_weights(model, checkpoint, placed.locations)
    _name_dims(model)
    with _writing(out_path):
        _save(model, out_path)
    return out_path


def _demand_like_layers(checkpoint: Checkpoint) -> None:
    """One traced layer stands for all: a tensor has one dtype in all layers."""
    for name, ref in checkpoint.tensors.items():
        parts = name.split(".")
        if parts[1] == "layers":
            first = checkpoint.tensors[".".join([*parts[:2], "0", *parts[3:]])]
            if ref.dtype != first.dtype:
                raise CheckpointError(
                    f"{ref.file}: {name} is {ref.dtype}, {first.name} is {first.dtype}",
                    "save the checkpoint in one dtype",
                )


def _trace(checkpoint: Checkpoint) -> torch.export.ExportedProgram:
    """Trace the model, cut to its first layer, with tensors that have a shape and no data."""
    spec = replace(checkpoint.spec, layers=1)
    with FakeTensorMode():
        module = GlmForCausalLM(spec)
        state = {
            name: torch.empty(shape, dtype=_dtype_in_graph(checkpoint, name))
            for name, shape in tensor_shapes(spec)
        }
        if spec.tie_word_embeddings:
            state[_HEAD] = state[EMBEDDING]
        module.load_state_dict(state, assign=True)
        module.tie_weights()
        tokens = torch.zeros(_EXAMPLE_BATCH, _EXAMPLE_SEQ, dtype=torch.int64)
        cache = torch.zeros(_EXAMPLE_BATCH, spec.kv_heads, _EXAMPLE_PAST, spec.head_dim)
        return torch.export.export(
            module.eval(),
            (tokens, tokens.clone(), cache, cache.clone()),
            dynamic_shapes=_DYNAMIC_SHAPES,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def _dtype_in_graph(checkpoint: Checkpoint, name: str) -> torch.dtype:
    """Return the dtype of a weight as the graph reads it."""
    stored = "float32" if name in checkpoint.stored else checkpoint.tensors[name].dtype
    dtype: torch.dtype = getattr(torch, stored)
    return dtype


def _translate(program: torch.export.ExportedProgram) -> ir.Model:
    exported = torch.onnx.export(
        program,
        (),
        input_names=input_names(layers=1),
        output_names=output_names(layers=1),
        dynamic_shapes=_DYNAMIC_SHAPES,  # again, for the names of the dimensions
        opset_version=OPSET,
        dynamo=True,
        optimize=False,  # it would fold the weights' transposes: their names and layout would go
        verbose=False,
    )
    model: ir.Model = exported.model
    return model


def _attach_weights(model: ir.Model, checkpoint: Checkpoint, locations: dict[Path, str]) -> None:
    """Give every initialiser its bytes: the weights by reference, RoPE's one buffer inline.

    Those that are quantised become inputs.
    """
    initializers = model.graph.initializers
    if checkpoint.spec.tie_word_embeddings and _HEAD in initializers:
        initializers[_HEAD].name = EMBEDDING
    inv_freq = inverse_frequencies(checkpoint.spec).numpy()
    initializers[_INV_FREQ].const_value = ir.tensor(inv_freq, name=_INV_FREQ)
    for name, ref in checkpoint.tensors.items():
        if name in checkpoint.stored:
            model.graph.inputs.append(initializers.pop(name))
            continue
        initializers[name].const_value = ir.ExternalTensor(
            locations[ref.file],
            ref.offset,
            ref.nbytes,
            _DTYPES[ref.dtype],
            shape=ir.Shape(ref.shape),
            name=name,
        )


def _simplify(model: ir.Model) -> None:
    """Fold shape arithmetic and merge what is computed twice.

    The weights have no value here, only a shape: nothing that depends on one can be folded.
    """
    for value in model.graph.initializers.values():
        value.const_value = None
    optimizer.fold_constants(model, onnx_shape_inference=False)
    passes = ir.passes.Sequential(
        common_passes.IdentityEliminationPass(),
        common_passes.RemoveUnusedNodesPass(),
        common_passes.CommonSubexpressionEliminationPass(),
        common_passes.RemoveUnusedOpsetsPass(),
        common_passes.ClearMetadataAndDocStringPass(),  # the paths of this machine's sources
    )
    passes(model)


def _name_dims(model: ir.Model) -> None:
    """Write sums of dimensions without spaces: `past+seq`, which importers parse as arithmetic."""
    for value in [*model.graph.inputs, *model.graph.outputs, *_intermediates(model)]:
        if value.shape is not None:
            value.shape = ir.Shape(
                dim if isinstance(dim, int) else str(dim.value).replace(" ", "")
                for dim in value.shape
            )


def _intermediates(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph:
        yield from node.outputs


def _save(model: ir.Model, path: Path) -> None:
    """Write beside `path`, then rename: an interrupted export leaves no half a file."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(ir.to_proto(model).SerializeToString())
    os.replace(partial, path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into the one line a user reads."""
    try:
        yield
    except OSError as error:
        raise OnnxError(
            f"{path}: cannot be written ({error.strerror})", "choose another place"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's exporter tells its developers from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
