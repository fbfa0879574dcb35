"""Writes quantised checkpoints of the published formats, by NumPy alone.

GPTQ: `QuantLinear.pack` of AutoGPTQ (`auto_gptq/nn_modules/qlinear/qlinear_cuda.py`) and
GPTQModel. compressed-tensors: `PackedQuantizationCompressor` and `IntQuantizationCompressor`
(`compressed_tensors/compressors`). Each has beside it the checkpoint of the same weights,
dequantised in NumPy, for transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.frontend.glm_factory import load_weights, make_glm_checkpoint, write_weights

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Matrix:
    """Codes ``[out, in]`` int8 and scales ``[out, groups]`` fp16, and how they are stored."""

    codes: np.ndarray
    scales: np.ndarray
    bits: int

    @property
    def dequantised(self) -> np.ndarray:
        scales = self.scales.astype(np.float32)
        return self.codes * np.repeat(scales, self.codes.shape[1] // scales.shape[1], axis=1)


Format = Callable[[Matrix], Arrays]


def quantise(weight: np.ndarray, bits: int, group_size: int) -> Matrix:
    """Round to nearest on the grid of GPTQ's authors: all codes, the largest at the highest."""
    groups = weight.reshape(len(weight), -1, weight.shape[1] if group_size == -1 else group_size)
    highest = 2 ** (bits - 1) - 1
    scales = (np.abs(groups).max(axis=2) / highest).astype(np.float16)
    codes = np.rint(groups / np.maximum(scales, 6e-8)[:, :, None].astype(np.float32))
    codes = np.clip(codes, -highest - 1, highest).reshape(weight.shape).astype(np.int8)
    codes[0, :5] = -highest - 1  # the one code that rounding seldom makes
    return Matrix(codes, scales, bits)


def pack_along_first(values: np.ndarray, bits: int) -> np.ndarray:
    """Pack unsigned ``[n, m]`` into int32 ``[n * bits / 32, m]``, the first in the lowest bits."""
    per_word = 32 // bits
    words = np.zeros((values.shape[0] // per_word, values.shape[1]), np.uint32)
    for i in range(per_word):
        words |= values[i::per_word].astype(np.uint32) << np.uint32(bits * i)
    return words.view(np.int32)


def gptq(matrix: Matrix, *, zero_less: int = 1) -> Arrays:
    """What `QuantLinear` holds; `zero_less` is 0 in the format gptq_v2."""
    out_features, in_features = matrix.codes.shape
    zero = 2 ** (matrix.bits - 1)
    groups = matrix.scales.shape[1]
    zeros = np.full((out_features, groups), zero - zero_less)
    order = np.arange(in_features, dtype=np.int32) // (in_features // groups)
    return {
        "qweight": pack_along_first(matrix.codes.T.astype(np.int32) + zero, matrix.bits),
        "qzeros": np.ascontiguousarray(pack_along_first(zeros, matrix.bits).T),
        "scales": np.ascontiguousarray(matrix.scales.T),
        "g_idx": order.astype(np.int32),
    }


def pack_quantized(matrix: Matrix) -> Arrays:
    offset = 2 ** (matrix.bits - 1)
    per_word = 32 // matrix.bits
    unsigned = matrix.codes.T.astype(np.int32) + offset
    unsigned = np.pad(unsigned, ((0, -len(unsigned) % per_word), (0, 0)))
    return {
        "weight_packed": np.ascontiguousarray(pack_along_first(unsigned, matrix.bits).T),
        "weight_scale": matrix.scales,
        "weight_shape": np.array(matrix.codes.shape, np.int64),
    }


def int_quantized(matrix: Matrix) -> Arrays:
    return {"weight": matrix.codes, "weight_scale": matrix.scales}


def gptq_config(bits: int, group_size: int, **more: Any) -> dict[str, Any]:
    return {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group_size,
        "damp_percent": 0.01,
        "desc_act": False,
        "static_groups": False,
        "sym": True,
        "true_sequential": True,
        "lm_head": False,
        **more,
    }


def compressed_config(form: str, bits: int, group_size: int, **weights: Any) -> dict[str, Any]:
    arguments = {
        "actorder": None,
        "block_structure": None,
        "dynamic": False,
        "group_size": None if group_size == -1 else group_size,
        "num_bits": bits,
        "observer": "minmax",
        "observer_kwargs": {},
        "strategy": "channel" if group_size == -1 else "group",
        "symmetric": True,
        "type": "int",
        **weights,
    }
    group = {
        "input_activations": None,
        "output_activations": None,
        "targets": ["Linear"],
        "weights": arguments,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "global_compression_ratio": None,
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": "0.12.2",
    }


@dataclass(frozen=True)
class Quantised:
    """A quantised checkpoint and, dequantised in fp32, the model that it is."""

    path: Path
    exact: Path


def make_quantised(
    directory: Path,
    config: dict[str, Any],
    form: Format,
    bits: int,
    group_size: int,
    *,
    dtype: str = "float16",
    shards: int = 1,
    also: tuple[str, ...] = (),
    **model: Any,
) -> Quantised:
    """Quantise the linears of a random GLM.

    Args:
        directory: is created.
        config: the section `quantization_config`.
        form: makes the tensors of a module.
        bits: of a code.
        group_size: inputs that share a scale; -1: all.
        dtype: of what is not quantised.
        shards: files of the quantised checkpoint.
        also: matrices outside the layers that are quantised too.
        model: overrides of `glm_factory.tiny_config`.
    """
    base = make_glm_checkpoint(directory / "base", dtype=dtype, **model)
    state, exact = dict(load_weights(base)), {}
    for name, tensor in load_weights(base).items():
        exact[name] = tensor.float()
        if name in also or (name.startswith("model.layers.") and tensor.ndim == 2):
            matrix = quantise(tensor.float().numpy(), bits, group_size)
            exact[name] = torch.from_numpy(matrix.dequantised)
            del state[name]
            module = name.removesuffix("weight")
            state |= {f"{module}{last}": torch.tensor(a) for last, a in form(matrix).items()}
    made = Quantised(directory / "quantised", directory / "exact")
    for path, tensors, files in ((made.path, state, shards), (made.exact, exact, 1)):
        path.mkdir()
        write_weights(path, tensors, files)
    document = json.loads((base / "config.json").read_text())
    (made.exact / "config.json").write_text(json.dumps(document | {"dtype": "float32"}))
    (made.path / "config.json").write_text(json.dumps(document | {"quantization_config": config}))
    return made
