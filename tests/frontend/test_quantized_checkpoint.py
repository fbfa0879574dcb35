# ruff: noqa: E501  tables of refusals, one a line
"""Quantised checkpoints are read as NumPy dequantises them, and refused in one line otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from tests.frontend.glm_factory import load_oracle, load_weights, oracle_logits, write_weights
from tests.frontend.one_line import one_line_error
from tests.frontend.quantized_factory import (
    Arrays,
    Format,
    Quantised,
    compressed_config,
    gptq,
    gptq_config,
    int_quantized,
    make_quantised,
    pack_quantized,
    quantise,
)
from tvm_vacc.frontend.check_onnx import check_onnx
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.export_onnx import export_onnx
from tvm_vacc.frontend.packed_codes import Packing
from tvm_vacc.reference.layered import LayeredGlm

NAME = "model.layers.1.mlp.down_proj"

FORMATS: dict[str, tuple[dict[str, Any], Format, int, int]] = {
    "gptq-4-32": (gptq_config(4, 32), gptq, 4, 32),
    "gptq-4-all": (gptq_config(4, -1), gptq, 4, -1),
    "gptq-8-all": (gptq_config(8, -1, desc_act=True), gptq, 8, -1),
    "gptq-v2": (gptq_config(4, 32, checkpoint_format="gptq_v2"), partial(gptq, zero_less=0), 4, 32),
    "packed-4-32": (compressed_config("pack-quantized", 4, 32), pack_quantized, 4, 32),
    "packed-8": (compressed_config("pack-quantized", 8, -1), pack_quantized, 8, -1),
    "int-8": (compressed_config("int-quantized", 8, -1), int_quantized, 8, -1),
    "int-4-32": (compressed_config("int-quantized", 4, 32), int_quantized, 4, 32),
}


def make(directory: Path, name: str, **more: Any) -> Quantised:
    return make_quantised(directory, *FORMATS[name], **more)


def changed(made: Quantised, change: Callable[[Arrays], Arrays], module: str = NAME) -> Path:
    """Rewrite the tensors of one module."""
    state = load_weights(made.path)
    prefix = f"{module}."
    own = {n.removeprefix(prefix): t.numpy() for n, t in state.items() if n.startswith(prefix)}
    others = {n: t for n, t in state.items() if not n.startswith(prefix)}
    made_new = {prefix + last: torch.tensor(a) for last, a in change(own).items()}
    write_weights(made.path, others | made_new)
    return made.path


def configured(made: Quantised, **keys: Any) -> Path:
    """Change keys of quantization_config."""
    path = made.path / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= keys
    path.write_text(json.dumps(config))
    return made.path


@pytest.mark.parametrize("name", FORMATS)
def test_every_matrix_is_what_numpy_makes_of_it(name: str, tmp_path: Path) -> None:
    made = make(tmp_path / "glm", name, shards=2)
    checkpoint = open_checkpoint(made.path)
    exact = load_weights(made.exact)
    assert len(checkpoint.stored) == 12
    assert checkpoint.tensors.keys() == exact.keys()
    for weight, want in exact.items():
        np.testing.assert_array_equal(checkpoint.read(weight), want.numpy(), err_msg=weight)
    assert checkpoint.tensors["lm_head.weight"].dtype == "float16"


@pytest.mark.parametrize(("transposed", "bits"), [(False, 4), (False, 8), (True, 4), (True, 8)])
@pytest.mark.parametrize("shape", [(3, 37), (1, 8), (5, 64)])
def test_unpacking(shape: tuple[int, int], bits: int, transposed: bool) -> None:
    codes = np.random.default_rng(0).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    packing = Packing(8 if bits == 8 else 4, transposed)
    words = np.zeros(packing.word_shape(shape), np.uint32)
    for (row, column), code in np.ndenumerate(codes):
        word, place = divmod(column, 32 // bits)
        where = (word, row) if transposed else (row, word)
        words[where] |= np.uint32(int(code) + 2 ** (bits - 1)) << np.uint32(bits * place)
    got = packing.unpack(words.astype("<u4").tobytes(), shape)
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, codes)


def test_the_graph_takes_dequantised_matrices_as_inputs(tmp_path: Path) -> None:
    made = make(tmp_path / "glm", "packed-4-32", dtype="bfloat16")
    checkpoint = open_checkpoint(made.path)
    path = export_onnx(checkpoint, tmp_path / "glm" / "model.onnx")
    check_onnx(path, {name: matrix.codes.shape for name, matrix in checkpoint.stored.items()})
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    tokens = np.random.default_rng(1).integers(0, 290, (1, 9))
    spec, exact = checkpoint.spec, load_weights(made.exact)
    past = np.zeros((1, spec.kv_heads, 0, spec.head_dim), np.float32)
    feed = {"input_ids": tokens, "position_ids": np.arange(9)[None]}
    feed |= {f"past_key_values.{i}.{k}": past for i in range(2) for k in ("key", "value")}
    feed |= {name: exact[name].numpy() for name in checkpoint.stored}
    want = oracle_logits(load_oracle(made.exact), tokens)
    np.testing.assert_allclose(session.run(["logits"], feed)[0], want, atol=2e-4)


def test_the_layered_reference_dequantises(tmp_path: Path) -> None:
    config, form, bits, group = FORMATS["gptq-8-all"]
    model: dict[str, Any] = {"also": ("lm_head.weight",), "vocab_size": 304}
    made = make_quantised(tmp_path / "glm", config, form, bits, group, **model)
    glm = LayeredGlm(open_checkpoint(made.path))
    tokens = torch.randint(0, 290, (1, 9), generator=torch.Generator().manual_seed(0))
    hidden = glm.embed(tokens)
    for index in range(2):
        hidden = glm.run(glm.layer(index), hidden)
    want = oracle_logits(load_oracle(made.exact), tokens)
    got = glm.logits(glm.final_norm(hidden))
    np.testing.assert_allclose(got.numpy(), want, atol=2e-4)


def test_a_bias_of_zeros_and_an_unused_zero_point_are_left_out(tmp_path: Path) -> None:
    def bias(own: Arrays) -> Arrays:
        return own | {"bias": np.zeros(own["scales"].shape[1], np.float16)}

    made = make(tmp_path / "gptq", "gptq-4-32")
    assert f"{NAME}.bias" not in open_checkpoint(changed(made, bias)).tensors
    made = make(tmp_path / "packed", "int-8")
    path = changed(made, lambda own: own | {"weight_zero_point": np.zeros((64, 1), np.int8)})
    assert NAME + ".weight" in open_checkpoint(path).stored


def replaced(last: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    return lambda own: own | {last: change(own[last])}


def without(last: str) -> Callable[[Arrays], Arrays]:
    return lambda own: {name: array for name, array in own.items() if name != last}


TENSORS: dict[str, tuple[str, Callable[[Arrays], Arrays], str]] = {
    "act-order": ("gptq-4-32", replaced("g_idx", lambda a: a[::-1].copy()), "act-order"),
    "asymmetric": ("gptq-4-32", replaced("qzeros", lambda a: a + 1), "asymmetric"),
    "wrong version": ("gptq-v2", lambda own: own | {"qzeros": own["qzeros"] - 0x11111111}, "zero"),
    "no zeros": ("gptq-4-32", without("qzeros"), f"{NAME}.qzeros is missing"),
    "no scales": ("gptq-4-32", without("scales"), f"{NAME}.scales is missing"),
    "short": ("gptq-4-32", replaced("qweight", lambda a: a[:-1].copy()), "qweight is int32 [11"),
    "floats": ("gptq-4-32", replaced("qweight", lambda a: a.astype(np.float32)), "float32"),
    "groups": ("gptq-4-32", replaced("scales", lambda a: a[:-1].copy()), "scales is float16 [2"),
    "packed short": ("packed-8", replaced("weight_packed", lambda a: a[:9].copy()), "demands"),
    "packed scales": ("packed-8", replaced("weight_scale", lambda a: a[:9].copy()), "demands"),
    "not packed": ("packed-8", without("weight_packed"), f"{NAME}.weight_packed is missing"),
    "order": ("packed-4-32", lambda own: own | {"weight_g_idx": np.arange(96, dtype=np.int32) % 3}, "act-order"),
    "zero points": ("int-8", lambda own: own | {"weight_zero_point": np.ones((64, 1), np.int8)}, "asymmetric"),
    "unknown": ("int-8", lambda own: own | {"input_scale": np.ones(1, np.float32)}, "no tensor of this"),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_refused(case: str, tmp_path: Path) -> None:
    name, change, words = TENSORS[case]
    path = changed(make(tmp_path / "glm", name), change)

    def whole() -> None:
        export_onnx(open_checkpoint(path), tmp_path / "model.onnx")

    assert str(path) in one_line_error(whole, names=words)


def groups_of(bits: int, **weights: Any) -> dict[str, Any]:
    groups: dict[str, Any] = compressed_config("pack-quantized", bits, -1, **weights)
    return dict(groups["config_groups"])


CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "method": ("gptq-4-32", {"quant_method": "awq"}, "quant_method is \"awq\""),
    "bits": ("gptq-4-32", {"bits": 3}, "bits is 3; it must be 4 or 8"),
    "asymmetric": ("gptq-4-32", {"sym": False}, "sym is false"),
    "marlin": ("gptq-4-32", {"checkpoint_format": "marlin"}, "checkpoint_format is"),
    "8 in groups": ("gptq-8-all", {"group_size": 32}, "8-bit codes with a scale for each 32"),
    "group": ("gptq-4-32", {"group_size": 16}, "with a scale for each 16"),
    "float": ("packed-8", {"format": "float-quantized"}, "format is"),
    "kv": ("packed-8", {"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme is"),
    "sparse": ("packed-8", {"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config"),
    "rotated": ("packed-8", {"transform_config": {"config_groups": {}}}, "transform_config"),
    "no group": ("packed-8", {"config_groups": {}}, "config_groups is {}"),
    "type": ("packed-8", {"config_groups": groups_of(8, type="float")}, "type is"),
    "strategy": ("packed-8", {"config_groups": groups_of(8, strategy="block")}, "strategy is"),
    "zero point": ("packed-8", {"config_groups": groups_of(8, symmetric=False)}, "symmetric is"),
    "two": ("packed-8", {"config_groups": {"a": groups_of(8)["group_0"], "b": groups_of(4)["group_0"]}}, "quantised alike"),
    "3 bits": ("packed-8", {"config_groups": groups_of(3)}, "num_bits is 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFIGS)
def test_configs_that_are_refused(case: str, tmp_path: Path) -> None:
    name, keys, words = CONFIGS[case]
    path = configured(make(tmp_path / "glm", name), **keys)
    assert str(path) in one_line_error(lambda: open_checkpoint(path), names=words)


def test_a_section_without_codes_is_refused(tmp_path: Path) -> None:
    made = make(tmp_path / "glm", "int-8")
    (made.exact / "config.json").write_text((made.path / "config.json").read_text())
    one_line_error(lambda: open_checkpoint(made.exact), names="no tensor is quantised")


def test_compressed_tensors_itself_packs_likewise() -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    weight = np.random.default_rng(0).standard_normal((24, 96)).astype(np.float32)
    for bits in (4, 8):
        matrix = quantise(weight, bits, 32)
        packed = helpers.pack_to_int32(torch.from_numpy(matrix.codes), bits).numpy()
        np.testing.assert_array_equal(pack_quantized(matrix)["weight_packed"], packed)
        got = Packing(8 if bits == 8 else 4, transposed=False).unpack(packed.tobytes(), (24, 96))
        np.testing.assert_array_equal(got, matrix.codes)
