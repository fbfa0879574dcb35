"""The sections of the YAML and what each key may hold, as frozen pydantic models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tvm_vacc.calibration.texts_source import BUILTIN, TextFormat, TextSource
from tvm_vacc.config.quantize import Quantize
from tvm_vacc.config.section import Section
from tvm_vacc.limits import MAX_CONTEXT, MAX_SAMPLES, MAX_WORKERS, SEQUENCE_MULTIPLE
from tvm_vacc.strict import RefusedError

CheckpointType = Literal["huggingface", "onnx"]
WeightType = Literal["fp16", "bf16", "fp32", "int8"]
Products = Literal["bf16", "fp32"]


def _absolute(path: Any, info: ValidationInfo) -> Any:
    """Expand ``~`` and take a relative path from the config's directory, links kept."""
    if not isinstance(path, str):
        return path
    if not path or "\0" in path:
        raise RefusedError("", f"{path!r} is no path", "write the path")
    base: Path = (info.context or {}).get("base", Path())
    try:
        return os.path.abspath(base / Path(path).expanduser())
    except RuntimeError as problem:
        raise RefusedError("", f"{path}: {problem}", "write the whole path") from problem


UserPath = Annotated[Path, BeforeValidator(_absolute)]
Shape = tuple[int, ...] | tuple[tuple[int, ...], ...]


class ModelKwargs(Section):
    """`frontend.model_kwargs`.

    Attributes:
        tp: ranks of tensor parallelism; 1 at present.
        b2s: batch rows run as one sequence; here they always do.
        model_arch: only `vacc` exists.
        align_qkv: replicate KV heads when there are more ranks than KV heads.
    """

    tp: Literal[1, 2, 4, 8] = 1
    b2s: bool = False
    model_arch: Literal["vacc"] = "vacc"
    align_qkv: bool = False


class Frontend(Section):
    """`frontend`: what is compiled.

    Attributes:
        checkpoint: a directory (`huggingface`) or an .onnx file (`onnx`).
        type: which of the two.
        shape: input name to static shape. For `input_ids` the form ``[[prefill], [context]]``
            gives the prefill bucket and the longest context in tokens.
        model_kwargs: see `ModelKwargs`.
        quantize: see `Quantize`; without it all weights are stored as `backend.dtype`.
    """

    checkpoint: UserPath
    type: CheckpointType
    shape: dict[str, Shape] = Field(default_factory=dict)
    model_kwargs: ModelKwargs = ModelKwargs()
    quantize: Quantize | None = None

    @field_validator("shape", mode="before")
    @classmethod
    def _check_shapes(cls, shape: Any) -> Any:
        if not isinstance(shape, dict):
            return shape
        for name, dims in shape.items():
            _check_shape(name, dims)
        return {name: _tuples(dims) for name, dims in shape.items()}

    @model_validator(mode="after")
    def _need_lengths(self) -> Frontend:
        if self.type == "huggingface":
            unknown = [name for name in self.shape if name != "input_ids"]
            if unknown:
                key = f"shape.{unknown[0]}"
                raise RefusedError(
                    key, "a checkpoint has the input input_ids only", "remove the key"
                )
            if self.lengths is None:
                raise RefusedError(
                    "shape.input_ids", "[[prefill], [context]] is needed", _SHAPE_CURE
                )
        return self

    @property
    def lengths(self) -> tuple[int, int] | None:
        """Prefill bucket and longest context in tokens, where `shape.input_ids` gives them."""
        pair = self.shape.get("input_ids", ())
        if pair and isinstance(pair[0], tuple) and isinstance(pair[1], tuple):
            return pair[0][-1], pair[1][-1]
        return None

    @property
    def static_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs that are given dimension by dimension."""
        return {
            name: tuple(dim for dim in dims if isinstance(dim, int))
            for name, dims in self.shape.items()
            if isinstance(dims[0], int)
        }


_SHAPE_CURE = "write input_ids: [[1024], [2048]]"


def _check_shape(name: str, dims: Any) -> None:
    """Refuse what is neither ``[1, 77]`` nor ``[[1024], [2048]]`` nor ``[[1, 1024], [1, 2048]]``.

    The batch of the last form must be 1: rows have their own lengths at run time.
    """
    key = name
    if not isinstance(dims, list) or not dims:
        raise RefusedError(key, f"must be a list of dimensions, got {dims!r:.60}", _SHAPE_CURE)
    if not isinstance(dims[0], list):
        if not all(_is_dimension(dim) for dim in dims):
            raise RefusedError(key, f"dimensions must be positive integers, got {dims!r:.60}", "")
        return
    if name != "input_ids" or len(dims) != 2 or not all(isinstance(row, list) for row in dims):
        message = f"must be [[prefill], [context]] of input_ids, got {dims!r:.60}"
        raise RefusedError(key, message, _SHAPE_CURE)
    for row in dims:
        if len(row) not in (1, 2) or not all(_is_dimension(dim) for dim in row):
            raise RefusedError(key, f"must hold one length each, got {dims!r:.60}", _SHAPE_CURE)
        if len(row) == 2 and row[0] != 1:
            raise RefusedError(key, f"the batch must be 1, got {row[0]}", _SHAPE_CURE)
        length = row[-1]
        if length % SEQUENCE_MULTIPLE:
            nearest = -(-length // SEQUENCE_MULTIPLE) * SEQUENCE_MULTIPLE
            message = f"{length} is no multiple of {SEQUENCE_MULTIPLE}"
            raise RefusedError(key, message, f"write {nearest}")
        if length > MAX_CONTEXT:
            raise RefusedError(
                key, f"{length} is more than {MAX_CONTEXT} tokens", "write a smaller one"
            )
    prefill, context = dims[0][-1], dims[1][-1]
    if prefill > context:
        message = f"the prefill bucket {prefill} is longer than the context {context}"
        raise RefusedError(key, message, f"write [[{context}], [{prefill}]]")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _is_dimension(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Compile(Section):
    """`backend.compile`: of it, settings of accelerators have no effect on a CPU.

    Attributes:
        products: what fp16 and bf16 weights and caches are multiplied in: `bf16`, by dot products
            where the target has them (elsewhere fp32); `fp32`: always exact.
    """

    data_type: int = Field(default=0, ge=0)
    gather_data_vccl_dsp_enable: bool = False
    products: Products = "bf16"


class Backend(Section):
    """`backend`.

    Attributes:
        type: always `tvm_vacc`.
        dtype: what the KV cache and the weights that are not quantised are stored as;
            activations are fp32.
        merge_params: one weight file rather than one a tensor.
        compile: see `Compile`.
    """

    type: Literal["tvm_vacc"]
    dtype: WeightType
    merge_params: bool = True
    compile: Compile = Compile()


class Dataset(Section):
    """`dataset`: calibration data, the published files, read locally; used by quantisation only.

    Attributes:
        type: only `huggingface` exists.
        name: `c4` (.json.gz), `ceval` (.zip of csv), `alpaca` (.json) or `text` (.txt, documents
            separated by blank lines); without it, as the file's name ends.
        path: the file, or a directory of such files; without it, the text in this package.
        seqlen: tokens a sample.
        nsamples: samples.
        seed: chooses texts and windows.
    """

    type: Literal["huggingface"] = "huggingface"
    name: TextFormat | None = None
    path: UserPath | None = None
    seqlen: int = Field(default=512, ge=1, le=MAX_CONTEXT)
    nsamples: int = Field(default=128, ge=1, le=MAX_SAMPLES)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _need_a_path(self) -> Dataset:
        if self.name is not None and self.path is None:
            cure = "write where the file is; nothing is downloaded"
            raise RefusedError("path", f"the text of {self.name} is needed", cure)
        return self

    @property
    def source(self) -> TextSource:
        """What calibration reads."""
        return TextSource(
            path=self.path or BUILTIN,
            format=self.name,
            nsamples=self.nsamples,
            seqlen=self.seqlen,
            seed=self.seed,
        )


class Workspace(Section):
    """`workspace`: where the artefact and what leads to it are written, and by how many workers."""

    path: UserPath
    workers: int = Field(default=1, ge=1, le=MAX_WORKERS)
