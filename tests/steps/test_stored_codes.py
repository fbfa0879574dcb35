"""What `frontend.quantize` means beside codes that exist already, and what the plan says then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tvm import relax

from relay_passes.count_ops import count_ops
from relay_passes.quantize_linears import QuantizeLinears, StoredMatrix
from relay_passes.weight_plan import (
    CODES,
    MadeTensor,
    PackedWeight,
    Quantized,
    Source,
    read_plan,
)
from tests.frontend.one_line import one_line_error
from tests.relay_passes.fused_glm import FusedGlm, tiny_spec
from tests.steps.compile_options import small_options
from tvm_vacc.config import CompileOptions
from tvm_vacc.errors import CheckpointError, ConfigError
from tvm_vacc.frontend.quantized_checkpoint_codes import StoredCodes
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.quantize.scheme import SCHEMES, STORED, W8A16, Quantization
from tvm_vacc.steps.stored_codes import stored_matrices, with_stored_codes
from tvm_vacc.steps.stored_weights import pack_weight

NAME = "model.layers.0.mlp.down_proj.weight"


def options(kind: str | None = None, head: bool = False) -> CompileOptions:
    wanted = None
    if kind is not None:
        quantizer = "gptq" if "gptq" in kind else "round_to_nearest"
        scheme = SCHEMES[kind.removesuffix("_gptq")]
        wanted = Quantization(kind, scheme, quantizer, 64, W8A16 if head else None, embedding=True)
    return small_options(Path("glm"), quantization=wanted)


def stored(bits: int, file: Path = Path("a")) -> dict[str, StoredCodes]:
    codes = TensorRef(NAME, file, 0, (4, 64), "int8")
    scales = TensorRef("s", file, 256, (4, 1 if bits == 8 else 2), "float32")
    return {NAME: StoredCodes(codes, scales, False, 8 if bits == 8 else 4, 64 if bits == 8 else 32)}


def test_without_a_type_the_codes_say_it() -> None:
    assert with_stored_codes(options(), {}) == options()
    for bits, group in ((8, 64), (4, 32)):
        chosen = with_stored_codes(options(), stored(bits)).quantization
        scheme = SCHEMES[f"w{bits}a16"]
        assert chosen == Quantization(scheme.name, scheme, STORED, group, None, embedding=False)


def test_a_type_of_the_same_bits_is_kept() -> None:
    chosen = with_stored_codes(options("w8a8", head=True), stored(8)).quantization
    assert chosen is not None
    assert (chosen.type, chosen.quantizer, chosen.head) == ("w8a8", STORED, W8A16)
    assert chosen.embedding


def test_a_type_of_the_cache_alone_leaves_the_codes() -> None:
    wanted = Quantization("w16kv8", None, "round_to_nearest", 64, None, embedding=False, kv8=True)
    asked = replace(options(), quantization=wanted)
    chosen = with_stored_codes(asked, stored(4)).quantization
    assert chosen == Quantization("w4a16_kv8", SCHEMES["w4a16"], STORED, 32, None, False, kv8=True)


@pytest.mark.parametrize(("kind", "bits"), [("w4a16", 8), ("w8a16", 4), ("w8a16_gptq", 8)])
def test_a_type_that_asks_for_other_codes_is_refused(kind: str, bits: int) -> None:
    line = one_line_error(
        lambda: with_stored_codes(options(kind), stored(bits)), names=kind, kind=ConfigError
    )
    assert f"holds codes of {bits} bits already" in line
    assert "leave frontend.quantize out" in line


def test_only_what_is_stored_becomes_codes() -> None:
    spec = tiny_spec()
    scales = Source("s", transposed=True)
    matrices = (StoredMatrix(NAME, scales, 32),)
    module = FusedGlm(spec, weight_dtype="float32").build()
    result = QuantizeLinears("w4a16", STORED, 32, None, matrices).apply(module)
    assert relax.analysis.check_well_formed(result.module)
    assert result.matches == 1
    [entry] = read_plan(result.module["main"])
    assert entry.sources == (Source(NAME),)
    assert entry.scales == (scales,)
    assert entry.quantized == Quantized(STORED, "w4a16", 32)
    with_head = QuantizeLinears("w4a16", STORED, 32, "w8a16", matrices).apply(module)
    assert with_head.matches == 2
    assert count_ops(with_head.module)["quantized_linear"] == 2
    [head] = [entry for entry in read_plan(with_head.module["main"]) if entry.kind == "head"]
    assert head.quantized == Quantized("round_to_nearest", "w8a16", spec.hidden)
    assert head.scales == ()


def test_the_passes_are_told_of_names_scales_and_groups() -> None:
    matrix = replace(stored(4)[NAME], transposed=True)
    assert stored_matrices({NAME: matrix}) == (StoredMatrix(NAME, Source("s", True), 32),)


def packed(folder: Path, codes: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, ...]:
    file = folder / "a"
    file.write_bytes(codes.tobytes() + scales.tobytes())
    rows, columns = codes.shape
    weight = PackedWeight(
        "linear",
        (Source("c"),),
        CODES,
        (MadeTensor("codes", codes.shape, "int8"), MadeTensor("s", (rows, 2), "float32")),
        Quantized(STORED, "w4a16", columns // 2),
        (Source("s"),),
    )
    refs = {
        "c": TensorRef("c", file, 0, codes.shape, str(codes.dtype)),
        "s": TensorRef("s", file, codes.nbytes, scales.shape, "float32"),
    }
    return pack_weight(weight, refs)


def test_one_scale_serves_all_groups(tmp_path: Path) -> None:
    codes = np.arange(-8, 8, dtype=np.int8).reshape(2, 8)
    scales = np.array([[0.5], [0]], np.float32)
    got = packed(tmp_path, codes, scales)
    np.testing.assert_array_equal(got[0], codes)
    np.testing.assert_array_equal(got[1], np.repeat(scales, 2, axis=1))


@pytest.mark.parametrize(
    ("code", "scale", "words"),
    [
        (8, 1.0, "codes from 0 to 8"),
        (-9, 1.0, "codes from -9 to 0"),
        (0, np.nan, "a scale that is not finite"),
        (0, 1e5, "a scale beyond fp16"),
        (0, 1.001e-7, "a scale beyond fp16"),
    ],
)
def test_what_the_kernels_cannot_hold(code: int, scale: float, words: str, tmp_path: Path) -> None:
    codes = np.zeros((2, 8), np.int8)
    codes[1, 3] = code
    scales = np.full((2, 2), scale, np.float32)
    line = one_line_error(
        lambda: packed(tmp_path, codes, scales), names=words, kind=CheckpointError
    )
    assert str(tmp_path / "a") in line
