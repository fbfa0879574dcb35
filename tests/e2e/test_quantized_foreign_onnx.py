"""A language model that someone else has exported and quantised, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

import tvm_vacc
from tests.e2e.test_foreign_onnx import save_config
from tests.frontend.hf_export import TinyGlm, export_hf, traced
from tvm_vacc.errors import ConfigError, PassError
from tvm_vacc.runtime.model import Model

GLM = TinyGlm(layers=1)
LINEARS = 7


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("floats")
    return export_hf(GLM, directory / "model.onnx", 21, optimize=True)


def in_channels(source: Path, path: Path, spared: str = "") -> Path:
    """Write `source` with int8 codes and a scale an output channel before each MatMul.

    Args:
        source: the model in floats.
        path: of the new file.
        spared: name of the output of a MatMul that stays as it is.
    """
    model = onnx.load(source)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        weight = tensors.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is not None and spared not in node.output:
            values = numpy_helper.to_array(weight)
            scale = np.abs(values).max(axis=0) / 127
            made = {"codes": np.rint(values / scale).astype(np.int8), "scale": scale}
            names = [f"{weight.name}.{part}" for part in made]
            for name, array in zip(names, made.values(), strict=True):
                model.graph.initializer.append(numpy_helper.from_array(array, name))
            model.graph.initializer.remove(weight)
            node.input[1] = f"{weight.name}.floats"
            nodes.append(helper.make_node("DequantizeLinear", names, [node.input[1]], axis=1))
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=1024)
    return path


def in_blocks(source: Path, path: Path, form: QuantFormat, symmetric: bool = True) -> Path:
    """Write `source` as ONNX Runtime's own tool quantises it to 4 bits."""
    config = DefaultWeightOnlyQuantConfig(
        block_size=32,
        is_symmetric=symmetric,
        quant_format=form,
        op_types_to_quantize=("MatMul",),
    )
    quantizer = MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path), use_external_data_format=True)
    return path


class Prompts(CalibrationDataReader):
    """What quantize_static takes the ranges of activations from."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        prompts = [rng.integers(0, GLM.vocab, 24).tolist() for _ in range(4)]
        self._inputs = iter([inputs_of(prompt) for prompt in prompts])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


def in_integers(source: Path, path: Path, form: QuantFormat) -> Path:
    """Write `source` as quantize_static makes integers of its linears, the head included."""
    graph = onnx.load(source).graph
    stored = {tensor.name for tensor in graph.initializer}
    linears = [n.name for n in graph.node if n.op_type == "MatMul" and n.input[1] in stored]
    quantize_static(
        source,
        path,
        Prompts(),
        quant_format=form,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=linears,
    )
    return path


def compiled(path: Path) -> Model:
    save_config(traced(GLM)[0].config, path.parent)
    output = path.parent / "artefact"
    model = tvm_vacc.load(tvm_vacc.compile(path, output=output, prefill=16, context=64))
    assert isinstance(model, Model)
    return model


def answers(path: Path, tokens: list[int]) -> np.ndarray:
    """Return ONNX Runtime's logits, without the optimisations that round activations to 8 bits."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options).run(None, inputs_of(tokens))[0][0]


def inputs_of(tokens: list[int]) -> dict[str, np.ndarray]:
    """Return what the graph takes for one prompt."""
    past = np.zeros((1, GLM.kv_heads, 0, GLM.head_dim), np.float32)
    return {
        "input_ids": np.array([tokens]),
        "position_ids": np.arange(len(tokens))[None],
        "attention_mask": np.ones((1, len(tokens)), np.int64),
        **{f"past_key_values.0.{part}": past for part in ("key", "value")},
    }


def assert_equal(model: Model, path: Path, bound: float) -> None:
    tokens = np.random.default_rng(0).integers(0, GLM.vocab, 40).tolist()
    want = answers(path, tokens)
    assert np.abs(model.logits(tokens) - want).max() < bound * np.abs(want).max()


@pytest.mark.parametrize(
    ("form", "stored_as", "group_size", "bound"),
    [
        ("channels", "w8a16", 0, 1e-4),
        (QuantFormat.QOperator, "w4a16", 32, 1e-3),  # whose scales are stored as fp16
        pytest.param(QuantFormat.QDQ, "w4a16", 32, 1e-3, marks=pytest.mark.slow),
    ],
)
def test_all_linears_run_on_the_codes_of_the_file(
    form: str | QuantFormat,
    stored_as: str,
    group_size: int,
    bound: float,
    floats: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.onnx"
    if isinstance(form, QuantFormat):
        in_blocks(floats, path, form)
    else:
        in_channels(floats, path)
    model = compiled(path)
    matches = {report.name: report.matches for report in model.manifest.passes}
    assert (matches["fuse_dequantize"], matches["fuse_linear"]) == (LINEARS, 0)
    assert {
        entry.kind: (entry.stored_as, entry.quantizer, entry.group_size, entry.matrices)
        for entry in model.manifest.storage
        if entry.kind != "embedding"
    } == {
        "linear": (stored_as, "stored", group_size, LINEARS - 1),
        "head": (stored_as, "stored", group_size, 1),
    }
    assert_equal(model, path, bound)


@pytest.mark.parametrize(
    "form", [QuantFormat.QOperator, pytest.param(QuantFormat.QDQ, marks=pytest.mark.slow)]
)
def test_activations_of_8_bits_and_rounded_logits(
    form: QuantFormat, floats: Path, tmp_path: Path
) -> None:
    path = in_integers(floats, tmp_path / "m.onnx", form)
    wanted = "QLinearMatMul" if form is QuantFormat.QOperator else "QuantizeLinear"
    graph = onnx.load(path).graph
    assert wanted in {node.op_type for node in graph.node}
    model = compiled(path)
    stored = {
        entry.kind: (entry.stored_as, entry.quantizer, entry.matrices)
        for entry in model.manifest.storage
        if entry.kind != "embedding"
    }
    assert stored == {"linear": ("w8a8", "stored", LINEARS - 1), "head": ("w8a8", "stored", 1)}
    [step] = [numpy_helper.to_array(t) for t in graph.initializer if t.name == "logits_scale"]
    tokens = np.random.default_rng(0).integers(0, GLM.vocab, 40).tolist()
    difference = np.abs(model.logits(tokens) - answers(path, tokens))
    assert difference.max() <= 1.01 * step
    assert (difference > 0.5 * step).mean() < 0.01  # and nearly always the same code


def test_a_head_that_is_not_quantised_stays_so(floats: Path, tmp_path: Path) -> None:
    path = in_channels(floats, tmp_path / "m.onnx", spared="logits")
    model = compiled(path)
    stored = {entry.kind: entry.stored_as for entry in model.manifest.storage}
    assert (stored["linear"], stored["head"]) == ("w8a16", "fp32")
    assert_equal(model, path, 1e-4)


def test_what_the_kernels_do_not_take_is_refused_and_named(floats: Path, tmp_path: Path) -> None:
    path = in_blocks(floats, tmp_path / "m.onnx", QuantFormat.QOperator, symmetric=False)
    with pytest.raises(PassError, match=r"matched 0 times.*\(it has zero points") as caught:
        compiled(path)
    assert "\n" not in str(caught.value)


def test_codes_are_not_made_twice(floats: Path, tmp_path: Path) -> None:
    in_channels(floats, tmp_path / "m.onnx")
    save_config(traced(GLM)[0].config, tmp_path)
    config = tmp_path / "c.yaml"
    config.write_text(
        "name: x\nfrontend: {checkpoint: m.onnx, type: onnx, quantize: {type: w8a16}}\n"
        "backend: {type: tvm_vacc, dtype: fp32}\nworkspace: {path: out}\n"
    )
    with pytest.raises(ConfigError, match="holds codes of its linears already"):
        tvm_vacc.compile(config)
