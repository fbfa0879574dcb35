"""Opens a GLM checkpoint of either layout: its numbers, and where each weight lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend import chatglm_layout, glm_layout
from tvm_vacc.frontend.config_reader import ConfigReader
from tvm_vacc.frontend.glm_layout import tensor_shapes
from tvm_vacc.frontend.quantized_checkpoint import take_codes
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.frontend.safetensors_index import read_checkpoint_index, resolve_inside
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.model_spec import WEIGHT_DTYPES, ModelSpec

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files agree with its config.

    Attributes:
        path: the directory.
        spec: its dimensions and constants.
        tensors: every weight by its Hugging Face `glm` name, whichever layout the files have;
            with tied embeddings there is no `lm_head.weight`. Of those that are quantised, the
            codes.
        stored: codes and scales of the matrices that are quantised, by the same names.
    """

    path: Path
    spec: ModelSpec
    tensors: dict[str, TensorRef]
    stored: dict[str, StoredCodes] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """The files that hold its weights."""
        scales = [codes.scales for codes in self.stored.values()]
        return sorted({ref.file for ref in (*self.tensors.values(), *scales)})

    def read(self, name: str) -> np.ndarray:
        """Return a weight in fp32, codes times scales where it is quantised."""
        if name in self.stored:
            return self.stored[name].read()
        return self.tensors[name].read().astype(np.float32)


@dataclass(frozen=True)
class _Layout:
    read_config: Callable[[ConfigReader], dict[str, Any]]
    stored_tensors: Callable[[ModelSpec], Iterator[tuple[str, tuple[str, ...]]]]
    embedding: str
    ignored: frozenset[str]


_LAYOUTS = {
    "glm": _Layout(
        glm_layout.read_glm_config,
        glm_layout.glm_stored_tensors,
        glm_layout.EMBEDDING,
        glm_layout.IGNORED,
    ),
    "chatglm": _Layout(
        chatglm_layout.read_chatglm_config,
        chatglm_layout.chatglm_stored_tensors,
        chatglm_layout.EMBEDDING,
        chatglm_layout.IGNORED,
    ),
}


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read config.json, generation_config.json and the safetensors headers of a directory.

    The end tokens are those of generation_config.json where it names some, as in transformers.

    Raises:
        CheckpointError: a file is missing or damaged, the model is no GLM-4 (ChatGLM2, ChatGLM3),
            or a tensor is missing, unknown, or of another shape or dtype than the config demands.
    """
    directory = Path(path)
    try:
        return _open(directory)
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be read ({error.strerror})") from None


def _open(directory: Path) -> Checkpoint:
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory", "give a checkpoint's directory")
    config = ConfigReader.from_file(resolve_inside(directory, CONFIG_FILE))
    layout = _layout(config)
    stored = read_checkpoint_index(directory)
    if layout.embedding not in stored:
        raise _missing(directory, layout.embedding)
    spec = _spec(directory, config, stored[layout.embedding].dtype)
    _demand_layers(directory, spec, stored)
    codes, stored = take_codes(config, stored, dict(tensor_shapes(spec)))
    return Checkpoint(
        directory, spec, _model_tensors(directory, spec, layout, stored, codes), codes
    )


def read_spec(directory: Path, dtype: str) -> ModelSpec:
    """Read config.json and generation_config.json alone: the spec of a model stored otherwise.

    Args:
        directory: that holds them.
        dtype: of the weights, as Relax spells it.

    Raises:
        CheckpointError: a file is missing or damaged, or the model is of another architecture.
    """
    return _spec(directory, ConfigReader.from_file(resolve_inside(directory, CONFIG_FILE)), dtype)


def _layout(config: ConfigReader) -> _Layout:
    architecture = config.text("model_type")
    if architecture not in _LAYOUTS:
        raise CheckpointError(
            f"{config.path}: model_type is {architecture!r}, which is another architecture",
            f"supported are {' and '.join(_LAYOUTS)}",
        )
    return _LAYOUTS[architecture]


def _spec(directory: Path, config: ConfigReader, dtype: str) -> ModelSpec:
    fields = _layout(config).read_config(config)
    try:
        return ModelSpec(
            **fields,
            eos_token_ids=_end_tokens(directory, config),
            bos_token_id=config.optional_token("bos_token_id"),
            pad_token_id=config.optional_token("pad_token_id"),
            architecture=config.text("model_type"),
            dtype=dtype,
        )
    except ValueError as error:
        raise CheckpointError(f"{config.path}: {error}") from None


def _end_tokens(directory: Path, config: ConfigReader) -> tuple[int, ...]:
    if (directory / GENERATION_FILE).exists():
        generation = ConfigReader.from_file(resolve_inside(directory, GENERATION_FILE))
        if tokens := generation.tokens("eos_token_id"):
            return tokens
    return config.tokens("eos_token_id")


def _demand_layers(directory: Path, spec: ModelSpec, stored: dict[str, TensorRef]) -> None:
    """Refuse more layers than there are tensors, before a list of that length is made."""
    if spec.layers > len(stored):
        raise CheckpointError(
            f"{directory / CONFIG_FILE}: {spec.layers} layers, but only {len(stored)} tensors"
        )


def _model_tensors(
    directory: Path,
    spec: ModelSpec,
    layout: _Layout,
    stored: dict[str, TensorRef],
    codes: dict[str, StoredCodes],
) -> dict[str, TensorRef]:
    """Match the stored tensors with the model's, one to one, and cut fused ones apart."""
    shapes = dict(tensor_shapes(spec))
    unknown = stored.keys() - layout.ignored
    tensors: dict[str, TensorRef] = {}
    for name, parts in layout.stored_tensors(spec):
        if name in codes:
            tensors[name] = codes[name].codes
            continue
        if name not in stored:
            raise _missing(directory, name)
        unknown.discard(name)
        for ref in _split_rows(stored[name], {part: shapes[part] for part in parts}):
            tensors[ref.name] = ref
    if unknown:
        name = min(unknown)
        raise CheckpointError(
            f"{stored[name].file}: {name} is no tensor of this model",
            f"the {spec.architecture} model of {CONFIG_FILE} has no place for it",
        )
    return tensors


def _split_rows(stored: TensorRef, parts: dict[str, tuple[int, ...]]) -> Iterator[TensorRef]:
    """Cut a stored tensor, whose rows are contiguous, into `parts` that follow one another."""
    shape = (sum(part[0] for part in parts.values()), *next(iter(parts.values()))[1:])
    if stored.shape != shape:
        raise CheckpointError(
            f"{stored.file}: {stored.name} has shape {list(stored.shape)},"
            f" {CONFIG_FILE} demands {list(shape)}"
        )
    if stored.dtype not in WEIGHT_DTYPES:
        raise CheckpointError(
            f"{stored.file}: {stored.name} is {stored.dtype}",
            f"weights must be one of {', '.join(WEIGHT_DTYPES)}",
        )
    offset = stored.offset
    for name, part in parts.items():
        ref = TensorRef(name, stored.file, offset, part, stored.dtype)
        offset += ref.nbytes
        yield ref


def _missing(directory: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{directory}: the tensor {name} is in none of its safetensors files",
        "the checkpoint is incomplete, or its config.json belongs to another model",
    )
