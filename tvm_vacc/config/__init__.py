"""The YAML that users bring, strictly parsed into frozen values.

The keys are those of deployed `hf_chatglm_*.yaml` files. What is known and cannot be done yet is
refused in one line; what has no effect on a CPU is accepted and listed by `Config.notes`.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, field_validator, model_validator

from tvm_vacc.calibration.options import CalibrationOptions
from tvm_vacc.calibration.texts_source import TextSource
from tvm_vacc.config.accuracy import Accuracy, AccuracyOrFalse
from tvm_vacc.config.calibration import calibration_texts, refuse_calibration
from tvm_vacc.config.notes import keys_without_effect
from tvm_vacc.config.schema import (
    Backend,
    Dataset,
    Frontend,
    Products,
    WeightType,
    Workspace,
)
from tvm_vacc.config.section import Section
from tvm_vacc.config.strict_yaml import parse_yaml
from tvm_vacc.errors import CheckpointError, ConfigError
from tvm_vacc.limits import MAX_YAML_BYTES, SEQUENCE_MULTIPLE
from tvm_vacc.quantize.scheme import Quantization
from tvm_vacc.safe_io import read_json, read_text
from tvm_vacc.strict import RefusedError, parse

ModelType = Literal["huggingface", "onnx", "pytorch", "relax"]

RELAX_DTYPES: dict[str, str] = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
"""`backend.dtype` to the name that Relax gives it."""

DEFAULT_PREFILL = 512
"""Tokens: the longest prompt that goes through the model in one call."""

DEFAULT_CONTEXT = 2048
"""Tokens: keeps the cache small; a model's own maximum may be 64 times as much."""

_NAME = re.compile(r"[^\W_][^/\\\x00-\x1f\x7f]*")
_MAX_NAME_BYTES = 128  # of 255 that a directory entry may have: writers append to it
_WHAT_TO_GIVE = "give a Hugging Face checkpoint directory, an .onnx file or a YAML config"


@dataclass(frozen=True)
class CompileOptions:
    """What the compiler needs to know.

    Attributes:
        name: of the artefact.
        checkpoint: a directory (`huggingface`) or an .onnx file (`onnx`).
        type: which of them, or a program of torch.export (`pytorch`), or a Relax module (`relax`).
        prefill: prefill bucket in tokens; 0 for a graph that is no language model.
        context: longest context in tokens; 0 likewise.
        input_shapes: static shapes of the inputs of an ONNX graph.
        dtype: what the KV cache and the weights that are not quantised are stored as.
        tp: ranks.
        merge_params: one weight file rather than one a tensor.
        workspace: directory for the artefact and what leads to it.
        workers: parallel processes of the compiler.
        quantization: what becomes of the weights; None: all are stored as `dtype`.
        products: what linears over 16-bit weights multiply in where the target can choose.
        texts: what calibration reads, where the quantisation needs one.
        calibration: how codes are calibrated, where they are.
        accuracy: how accuracy is measured; None: it is not.
    """

    name: str
    checkpoint: Path
    type: ModelType
    prefill: int
    context: int
    input_shapes: dict[str, tuple[int, ...]]
    dtype: WeightType
    tp: int
    merge_params: bool
    workspace: Path
    workers: int
    quantization: Quantization | None = None
    products: Products = "bf16"
    texts: TextSource = dataclasses.field(default_factory=TextSource)
    calibration: CalibrationOptions = dataclasses.field(default_factory=CalibrationOptions)
    accuracy: Accuracy | None = dataclasses.field(default_factory=Accuracy)

    @property
    def relax_dtype(self) -> str:
        """`dtype` as Relax spells it."""
        return RELAX_DTYPES[self.dtype]

    @property
    def output(self) -> Path:
        """The artefact's directory where the user names no other."""
        return self.workspace / self.name


class Config(Section):
    """A whole config, checked; paths are absolute.

    Attributes:
        name: of the artefact: a plain file name.
        frontend: what is compiled.
        backend: to what.
        workspace: where.
        dataset: calibration data; without it, the text in this package.
        accuracy: how the passport is measured; None where it is to be left out.
    """

    name: str
    frontend: Frontend
    backend: Backend
    workspace: Workspace
    dataset: Dataset | None = None
    accuracy: AccuracyOrFalse = Accuracy()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or len(name.encode()) > _MAX_NAME_BYTES:
            cure = "begin with a letter or digit, at most 128 bytes, no slashes"
            raise RefusedError("", f"{name!r:.60} cannot name a directory", cure)
        return name

    @model_validator(mode="after")
    def _refuse_what_is_not_there(self) -> Config:
        """Refuse what is known and comes in a later version, and a checkpoint that is missing."""
        frontend = self.frontend
        if self.backend.dtype == "int8":
            message = "int8 weights come by frontend.quantize.type"
            cure = "write fp16, bf16 or fp32, and frontend.quantize.type: w8a16"
            raise RefusedError("backend.dtype", message, cure)
        if frontend.model_kwargs.tp != 1:
            message = f"{frontend.model_kwargs.tp} ranks come in a later version"
            raise RefusedError("frontend.model_kwargs.tp", message, "write tp: 1")
        path = frontend.checkpoint
        refuse_calibration(frontend, self.dataset)
        quantize = frontend.quantize
        if frontend.type == "onnx" and quantize is not None and quantize.has_kv8:
            message = f"{quantize.type}: the KV cache is a checkpoint's, and frontend.type is onnx"
            raise RefusedError("frontend.quantize.type", message, "write a type without kv8")
        if frontend.type == "huggingface" and not path.is_dir():
            cure = "give the directory that holds config.json and the safetensors files"
            raise RefusedError("frontend.checkpoint", f"no such directory: {path}", cure)
        if frontend.type == "onnx" and not (path.is_file() and path.suffix == ".onnx"):
            message = f"no such .onnx file: {path}"
            raise RefusedError("frontend.checkpoint", message, "give an .onnx file")
        return self

    @classmethod
    def for_checkpoint(
        cls,
        path: Path | str,
        *,
        name: str | None = None,
        dtype: str | None = None,
        prefill: int | None = None,
        context: int | None = None,
        workspace: Path | str = "workspace",
        workers: int = 1,
    ) -> Config:
        """Make the config of a checkpoint directory or an .onnx file.

        Args:
            path: the directory or the file.
            name: of the artefact; default: the file's name and the dtype.
            dtype: `fp16`, `bf16` or `fp32`; default: the checkpoint's own, fp32 for ONNX.
            prefill: prefill bucket in tokens; default: 512, less where the context is.
            context: longest context in tokens; default: 2048, less where the model's maximum is.
            workspace: directory for the artefact and what leads to it.
            workers: parallel processes of the compiler.

        Raises:
            ConfigError: a value that cannot be used.
            CheckpointError: the checkpoint's config.json is missing or damaged.
        """
        path = _existing(path)
        frontend: dict[str, Any] = {"checkpoint": str(path), "type": "huggingface"}
        if path.is_dir():
            model = _model_config(path)
            dtype = dtype or _own_dtype(model)
            if context is None:
                context = max(_default_context(model), prefill or 0)
        else:
            frontend["type"] = "onnx"
            dtype = dtype or "fp32"
        if context is not None:
            prefill = min(DEFAULT_PREFILL, context) if prefill is None else prefill
            frontend["shape"] = {"input_ids": [[prefill], [context]]}
        document = {
            "name": name or f"{path.stem if path.is_file() else path.name}-{dtype}",
            "frontend": frontend,
            "backend": {"type": "tvm_vacc", "dtype": dtype},
            "workspace": {"path": str(workspace), "workers": workers},
        }
        return _parse(document, where=str(path), base=Path.cwd())

    @property
    def compile_options(self) -> CompileOptions:
        """What the compiler needs to know."""
        prefill, context = self.frontend.lengths or (0, 0)
        quantize = self.frontend.quantize
        return CompileOptions(
            name=self.name,
            checkpoint=self.frontend.checkpoint,
            type=self.frontend.type,
            prefill=prefill,
            context=context,
            input_shapes=self.frontend.static_shapes,
            dtype=self.backend.dtype,
            tp=self.frontend.model_kwargs.tp,
            merge_params=self.backend.merge_params,
            workspace=self.workspace.path,
            workers=self.workspace.workers,
            quantization=None if quantize is None else quantize.options,
            products=self.backend.compile.products,
            texts=calibration_texts(quantize, self.dataset),
            calibration=CalibrationOptions() if quantize is None else quantize.calibration,
            accuracy=self.accuracy,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for each key that was given and has no effect here."""
        return keys_without_effect(self.frontend, self.backend, self.dataset)


def load_config(path: Path | str) -> Config:
    """Read a YAML config.

    Args:
        path: the file; relative paths in it are relative to its directory.

    Raises:
        ConfigError: one line that names file, key and value, and a cure.
    """
    path = Path(path)
    text = read_text(path, limit=MAX_YAML_BYTES, error=ConfigError, cure="give a YAML config")
    document = parse_yaml(text, where=str(path), error=ConfigError)
    return _parse(document, where=str(path), base=path.absolute().parent)


_CONFIG = TypeAdapter(Config)


def _parse(document: Any, *, where: str, base: Path) -> Config:
    cure = "correct the value"
    context = {"base": base}
    return parse(_CONFIG, document, where=where, error=ConfigError, cure=cure, context=context)


def _existing(path: Path | str) -> Path:
    try:
        absolute = Path(path).expanduser().absolute()
    except RuntimeError as problem:
        raise ConfigError(f"{path}: {problem}", "write the whole path") from problem
    if not absolute.exists():
        raise ConfigError(f"{path}: no such file or directory", _WHAT_TO_GIVE)
    return absolute


def _model_config(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "config.json"
    config = read_json(path, error=CheckpointError, cure=_WHAT_TO_GIVE)
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: is no JSON object", _WHAT_TO_GIVE)
    return config


def _default_context(model: dict[str, Any]) -> int:
    """The model's longest context in whole pages, at most `DEFAULT_CONTEXT`.

    `max_position_embeddings` is the key of the `glm` layout, `seq_length` of the `chatglm` one.
    """
    longest = model.get("max_position_embeddings", model.get("seq_length"))
    if not isinstance(longest, int) or longest < SEQUENCE_MULTIPLE:
        return DEFAULT_CONTEXT
    return min(DEFAULT_CONTEXT, longest // SEQUENCE_MULTIPLE * SEQUENCE_MULTIPLE)


def _own_dtype(model: dict[str, Any]) -> str:
    """The dtype that config.json gives (`dtype`, before transformers 5 `torch_dtype`)."""
    stored = model.get("dtype", model.get("torch_dtype"))
    return next((name for name, dtype in RELAX_DTYPES.items() if dtype == stored), "fp32")
