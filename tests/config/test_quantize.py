"""`frontend.quantize` and `dataset`: what the compiler is told of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.config.config_files import BASE, folder, load
from tvm_vacc.calibration.options import CalibrationOptions
from tvm_vacc.calibration.texts_source import TextSource
from tvm_vacc.errors import ConfigError
from tvm_vacc.quantize.scheme import W4A16, W8A8, W8A16, Quantization, Scheme

__all__ = ["folder"]


def test_what_becomes_of_the_weights(folder: Path) -> None:
    assert load(folder, BASE).compile_options.quantization is None
    text = BASE.replace("tp: 1", "tp: 1\n  quantize: {type: w4a16}")
    expected = Quantization("w4a16", W4A16, "round_to_nearest", 64, None, embedding=False)
    assert load(folder, text).compile_options.quantization == expected
    text = text.replace("w4a16", "w8a8, head: 8bit, embedding: 8bit")
    expected = Quantization("w8a8", W8A8, "round_to_nearest", 0, W8A16, embedding=True)
    assert load(folder, text).compile_options.quantization == expected
    everywhere = load(folder, text.replace("w8a8", "w8a8, sensitive: 8bit"))
    assert everywhere.compile_options.quantization == dataclasses.replace(
        expected, head=W8A8, spares_activations=False
    )
    assert everywhere.notes == ()
    elsewhere = load(folder, text.replace("w8a8", "w8a16, sensitive: 8bit"))
    assert any("sensitive has no effect" in note for note in elsewhere.notes)


def test_calibration_needs_a_checkpoint(folder: Path) -> None:
    (folder / "model.onnx").touch()
    text = BASE.replace("huggingface", "onnx").replace(
        "checkpoint: model", "checkpoint: model.onnx"
    )
    text = text.replace("tp: 1", "tp: 1\n  quantize: {type: w4a16_gptq}")
    with pytest.raises(
        ConfigError, match=r"quantize\.type: w4a16_gptq is calibrated on a checkpoint.*write w4a16$"
    ):
        load(folder, text)


def test_what_calibration_is_told(folder: Path) -> None:
    keys = "device: 'cuda:1', calib_args: {damping: 0.05, act_order: true, nsamples: 9}"
    text = BASE.replace("tp: 1", f"tp: 1\n  quantize: {{type: w4a16_gptq, {keys}}}")
    config = load(folder, text.replace("workspace:", "dataset: {seqlen: 64}\nworkspace:"))
    options = config.compile_options
    assert options.quantization == Quantization(
        "w4a16_gptq", W4A16, "gptq", 64, None, embedding=False
    )
    assert options.calibration == CalibrationOptions(0.05, True, True, "cuda:1")
    assert (options.texts.nsamples, options.texts.seqlen) == (9, 64)
    assert config.notes == ()


@pytest.mark.parametrize(
    ("type_", "scheme", "quantizer"),
    [
        ("w16kv8", None, "round_to_nearest"),
        ("w8a16_kv8", W8A16, "round_to_nearest"),
        ("w8a16_gptq_kv8", W8A16, "gptq"),
        ("w8a8_kv8", W8A8, "round_to_nearest"),
        ("w4a16_kv8", W4A16, "round_to_nearest"),
        ("w4a16_gptq_kv8", W4A16, "gptq"),
    ],
)
def test_types_with_a_cache_of_int8(
    folder: Path, type_: str, scheme: Scheme | None, quantizer: str
) -> None:
    text = BASE.replace("tp: 1", f"tp: 1\n  quantize: {{type: {type_}, group_size: 32}}")
    config = load(folder, text)
    group_size = 32 if scheme is W4A16 else 0  # elsewhere the key has no effect
    expected = Quantization(type_, scheme, quantizer, group_size, None, embedding=False, kv8=True)
    assert config.compile_options.quantization == expected
    has_effect = scheme is W4A16
    assert has_effect != any("group_size has no effect" in note for note in config.notes)


def test_keys_of_calibration_are_noted_where_nothing_is_calibrated(folder: Path) -> None:
    keys = "device: cpu, calib_args: {nsamples: 4}, group_size: 32"
    text = BASE.replace("tp: 1", f"tp: 1\n  quantize: {{type: w8a16, {keys}}}")
    notes = load(folder, text).notes
    assert sorted(note.split()[0] for note in notes) == [
        "frontend.quantize.calib_args",
        "frontend.quantize.device",
        "frontend.quantize.group_size",
    ]
    four_bits = load(folder, text.replace("w8a16", "w4a16")).notes
    assert "frontend.quantize.group_size" not in [note.split()[0] for note in four_bits]


def test_the_texts_of_calibration(folder: Path) -> None:
    assert load(folder, BASE).compile_options.texts == TextSource()
    keys = "{name: ceval, path: c.zip, seqlen: 64, nsamples: 9, seed: 3}"
    text = BASE.replace("workspace:", f"dataset: {keys}\nworkspace:")
    expected = TextSource(folder / "c.zip", "ceval", nsamples=9, seqlen=64, seed=3)
    assert load(folder, text).compile_options.texts == expected
    text = BASE.replace("workspace:", "dataset: {path: c.json.gz}\nworkspace:")
    assert load(folder, text).compile_options.texts == TextSource(folder / "c.json.gz")
