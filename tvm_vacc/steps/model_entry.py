"""The entries of the compiler: a checkpoint, whose graph is exported, and files of graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from tvm_vacc.cache.key import file_identity
from tvm_vacc.cache.store import Cache
from tvm_vacc.config import DEFAULT_CONTEXT, DEFAULT_PREFILL, CompileOptions
from tvm_vacc.errors import ConfigError, OnnxError
from tvm_vacc.frontend.checkpoint import open_checkpoint, read_spec
from tvm_vacc.frontend.import_onnx import ImportedModel, import_onnx
from tvm_vacc.frontend.load_onnx import load_onnx
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.limits import SEQUENCE_MULTIPLE
from tvm_vacc.model_spec import ModelSpec
from tvm_vacc.progress import Report
from tvm_vacc.safe_io import sha256_file
from tvm_vacc.steps.graph import make_graph
from tvm_vacc.steps.relax_module import import_relax
from tvm_vacc.steps.torch_program import make_torch_graph

PAST = "past_key_values."
"""What the names of cached inputs begin with, in every exporter's graphs of language models."""


@dataclass(frozen=True)
class Model:
    """A model that is to be compiled.

    Attributes:
        onnx: its graph; of a Relax module, which has none, only the directory counts.
        spec: its structure; None where it is no language model.
        lengths: prefill bucket and context in tokens of a language model.
        text_files: the directory where its tokenizer's files are.
        parts: what its graph depends on, for the key of the kernels.
        read: imports the graph, with its origins where asked to (`import_onnx`).
        stored: the matrices that are quantised already, by name.
    """

    onnx: Path
    spec: ModelSpec | None
    lengths: tuple[int, int] | None
    text_files: Path
    parts: dict[str, str]
    read: Callable[[bool], ImportedModel]
    stored: dict[str, StoredCodes] = field(default_factory=dict)


def open_model(options: CompileOptions, cache: Cache, report: Report) -> Model:
    """Read what the model is; a checkpoint's graph is exported.

    Raises:
        ConfigError: lengths or shapes that the model cannot have.
        CheckpointError: a file of the checkpoint is missing or damaged.
        OnnxError: the graph cannot be read, or belongs to another model than its config.json.
    """
    if options.type != "huggingface":
        return open_graph(options, report)
    checkpoint = open_checkpoint(options.checkpoint)
    lengths = choose_lengths(options, checkpoint.spec)
    path = options.workspace / f"{options.name}.onnx" / "model.onnx"
    graph = make_graph(checkpoint, path, cache, report)
    return Model(
        onnx=path,
        spec=checkpoint.spec,
        lengths=lengths,
        text_files=checkpoint.path,
        parts=graph.parts,
        read=lambda origins: import_onnx(path, stored=graph.stored, origins=origins),
        stored=graph.stored,
    )


def open_graph(options: CompileOptions, report: Report = lambda _: None) -> Model:
    """Read what the model is in a file of a graph. Errors: `open_model`."""
    if options.type == "onnx":
        return _open_onnx(options)
    path = options.workspace / f"{options.name}.onnx" / "model.onnx"
    if options.type == "pytorch":
        make_torch_graph(options.checkpoint, path, report)
        return _open_onnx(replace(options, checkpoint=path))
    directory = options.workspace / f"{options.name}.relax"
    return Model(
        onnx=directory / "module",
        spec=None,
        lengths=None,
        text_files=options.checkpoint.parent,
        parts={"graph": sha256_file(options.checkpoint)},
        read=lambda origins: import_relax(options.checkpoint, directory, origins=origins),
    )


def choose_lengths(options: CompileOptions, spec: ModelSpec) -> tuple[int, int]:
    """Return prefill bucket and context in tokens, held against what the model can do.

    Raises:
        ConfigError: the context is longer than the model's.
    """
    longest = spec.max_positions // SEQUENCE_MULTIPLE * SEQUENCE_MULTIPLE
    context = options.context or min(DEFAULT_CONTEXT, longest)
    if context > spec.max_positions:
        raise ConfigError(
            f"{options.checkpoint}: the model knows {spec.max_positions} positions, the context "
            f"is {context}",
            f"give at most {longest}",
        )
    return options.prefill or min(DEFAULT_PREFILL, context), context


def _open_onnx(options: CompileOptions) -> Model:
    """Read what the model in an .onnx file is. Errors: `open_model`."""
    path = options.checkpoint
    graph = load_onnx(path).graph
    caches = sum(value.name.startswith(PAST) for value in graph.input)
    spec = _spec_beside(options, caches) if caches else None
    external = {
        ExternalDataInfo(tensor).location
        for tensor in graph.initializer
        if uses_external_data(tensor)
    }
    files = {name: path.parent / name for name in sorted(external)}
    return Model(
        onnx=path,
        spec=spec,
        lengths=None if spec is None else choose_lengths(options, spec),
        text_files=path.parent,
        parts={
            "graph": sha256_file(path),
            "input shapes": str(options.input_shapes),
            **{name: file_identity(file) for name, file in files.items() if file.is_file()},
        },
        read=lambda origins: import_onnx(
            path, input_shapes=options.input_shapes, simplify=True, origins=origins
        ),
    )


def _spec_beside(options: CompileOptions, caches: int) -> ModelSpec:
    """Read the config.json beside the graph of a language model with `caches` cached inputs."""
    if options.input_shapes:
        raise ConfigError(
            f"frontend.shape.{next(iter(options.input_shapes))}: a language model takes prompts of "
            "any length",
            "write input_ids: [[prefill], [context]]",
        )
    path = options.checkpoint
    spec = read_spec(path.parent, options.relax_dtype)
    if caches != 2 * spec.layers:
        raise OnnxError(
            f"{path}: {caches} inputs {PAST}*, its config.json tells of {spec.layers} layers",
            "put the config.json of the exported model beside it",
        )
    return spec
