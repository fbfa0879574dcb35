"""Writes a GLM checkpoint as GGUF, for llama.cpp: architecture ``chatglm``, no tokenizer.

The tensors keep their order of rows: llama.cpp turns neighbouring pairs of the rotated half of a
head, as GLM does. Sources: the GGUF specification (ggml's docs/gguf.md) and llama.cpp's
``src/models/chatglm.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from benchmarks.room import require_room
from tvm_vacc.errors import ConfigError, MissingExtraError
from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.model_spec import ModelSpec
from tvm_vacc.progress import Progress, Report

try:
    import gguf
    from gguf import GGMLQuantizationType as GgmlType
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"GGUF files need {error.name}, which is not installed", "pip install 'tvm-vacc[bench]'"
    ) from None

ARCHITECTURE = gguf.MODEL_ARCH.CHATGLM

TYPES = {
    "f16": (GgmlType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (GgmlType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (GgmlType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GgmlType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
"""Of matrices, by the names that llama.cpp gives them; vectors are fp32 always."""

HEAD = "lm_head.weight"

CHUNK_NUMBERS = 1 << 23
"""Numbers of a matrix that are fp32 at a time."""


@dataclass(frozen=True)
class _Tensor:
    """One tensor of the file: where it comes from, its name and type there."""

    source: TensorRef
    name: str
    type: GgmlType

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape in bytes; of fp32 in numbers, as the library wants it."""
        if self.type is GgmlType.F32:
            return self.source.shape
        return gguf.quant_shape_to_byte_shape(self.source.shape, self.type)

    @property
    def nbytes(self) -> int:
        item = np.dtype(np.float32).itemsize if self.type is GgmlType.F32 else 1
        return prod(self.stored_shape) * item

    def read(self) -> np.ndarray:
        """Return the tensor as it is stored, made in pieces of `CHUNK_NUMBERS`."""
        rows = self.source.shape[0]
        step = max(1, CHUNK_NUMBERS // prod(self.source.shape[1:]))
        pieces = (self.source.rows(start, start + step) for start in range(0, rows, step))
        return np.concatenate(
            [gguf.quantize(piece.read().astype(np.float32), self.type) for piece in pieces]
        )


def write_gguf(
    checkpoint: Checkpoint, path: Path, *, kind: str, head: str | None = None, report: Report
) -> Path:
    """Write a checkpoint to `path`; one tensor is in memory at a time.

    Args:
        checkpoint: of either layout.
        path: is replaced when the file is whole.
        kind: of `TYPES`: of all matrices, the embedding table too.
        head: of `TYPES`: of the head; None means `kind`.
        report: is told the bytes done.

    Raises:
        ConfigError: llama.cpp has no such model, or the disk has not the room.
    """
    spec = checkpoint.spec
    _check_supported(checkpoint, kind, head or kind)
    tensors = list(_tensors(checkpoint, kind, head or kind))
    total = sum(tensor.nbytes for tensor in tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    require_room(path.parent, total, "free some space, or choose another disk")
    unfinished = path.with_name(f"{path.name}.part")
    writer = gguf.GGUFWriter(unfinished, gguf.MODEL_ARCH_NAMES[ARCHITECTURE])
    _add_numbers(writer, spec, kind)
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name,
            tensor.stored_shape,
            np.dtype(np.float32 if tensor.type is GgmlType.F32 else np.uint8),
            tensor.nbytes,
            tensor.type,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done = 0
    report(Progress("weights", done, total, "bytes"))
    for tensor in tensors:
        writer.write_tensor_data(tensor.read())
        done += tensor.nbytes
        report(Progress("weights", done, total, "bytes"))
    writer.close()
    unfinished.replace(path)
    return path


def _tensors(checkpoint: Checkpoint, kind: str, head: str) -> Iterator[_Tensor]:
    names = gguf.get_tensor_name_map(ARCHITECTURE, checkpoint.spec.layers)
    for name, source in checkpoint.tensors.items():
        stored = names.get_name(name, (".weight", ".bias"))
        assert stored is not None, name
        of_matrices = TYPES[head if name == HEAD else kind][0]
        yield _Tensor(source, stored, of_matrices if len(source.shape) == 2 else GgmlType.F32)


def _add_numbers(writer: gguf.GGUFWriter, spec: ModelSpec, kind: str) -> None:
    writer.add_file_type(TYPES[kind][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(spec.max_positions)
    writer.add_embedding_length(spec.hidden)
    writer.add_feed_forward_length(spec.intermediate)
    writer.add_block_count(spec.layers)
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_layer_norm_rms_eps(spec.rms_norm_eps)
    writer.add_rope_dimension_count(spec.rotary_dim)
    writer.add_rope_freq_base(spec.rope_theta)
    # A vocabulary without texts: what is measured takes token ids.
    writer.add_vocab_size(spec.vocab)
    writer.add_tokenizer_model("none")


def _check_supported(checkpoint: Checkpoint, kind: str, head: str) -> None:
    spec = checkpoint.spec
    if spec.heads * spec.head_dim != spec.hidden:
        raise ConfigError(
            f"{checkpoint.path / 'config.json'}: {spec.heads} heads of {spec.head_dim} are not "
            f"hidden_size {spec.hidden}, which llama.cpp's chatglm demands",
            "compare this model with another program",
        )
    block = max(gguf.GGML_QUANT_SIZES[TYPES[name][0]][0] for name in (kind, head))
    for key, width in (("hidden_size", spec.hidden), ("intermediate_size", spec.intermediate)):
        if width % block:
            raise ConfigError(
                f"{checkpoint.path / 'config.json'}: {key} is {width}, no multiple of {block}",
                "write f16 or bf16",
            )
