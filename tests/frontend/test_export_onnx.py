from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.frontend.glm_factory import (
    load_oracle,
    load_weights,
    make_chatglm_checkpoint,
    make_glm_checkpoint,
    make_sparse_9b,
    oracle_logits,
    write_weights,
)
from tests.frontend.one_line import one_line_error
from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.check_onnx import check_onnx
from tvm_vacc.frontend.checkpoint import Checkpoint, open_checkpoint
from tvm_vacc.frontend.export_onnx import export_onnx
from tvm_vacc.frontend.onnx_external_data import external_tensors


@dataclass(frozen=True)
class Exported:
    """A random model in every form: as transformers opens it, as a checkpoint, and as ONNX.

    `lines` are those that `progress` was told.
    """

    glm: Path
    checkpoint: Checkpoint
    path: Path
    lines: tuple[str, ...]


# Between them: every dtype, both layouts, one file and several, GQA ratios 1 to 16, head_dim 32,
# 48, 64, rotary on half and on all of a head, with and without bias, tied and not.
CASES: dict[str, dict[str, Any]] = {
    "glm_fp32": {"num_hidden_layers": 3},
    "glm_bf16": {
        "dtype": "bfloat16",
        "shards": 3,
        "num_key_value_heads": 1,
        "head_dim": 48,
        "partial_rotary_factor": 1.0,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
    "chatglm_fp16_in_place": {"dtype": "float16", "num_key_value_heads": 4, "head_dim": 64},
    "glm_all_rotary": {
        "num_attention_heads": 16,
        "num_key_value_heads": 1,
        "partial_rotary_factor": 1.0,
    },
    "glm_tied": {
        "head_dim": 64,
        "rope_theta": 1e4,
        "num_hidden_layers": 1,
        "tie_word_embeddings": True,
    },
}


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    root = tmp_path_factory.mktemp(request.param)
    glm = source = make_glm_checkpoint(root / "glm", **CASES[request.param])
    if request.param.startswith("chatglm"):
        source = make_chatglm_checkpoint(root / "chatglm", glm)
    checkpoint = open_checkpoint(source)
    directory = source if request.param.endswith("in_place") else root / "work"
    lines: list[str] = []
    path = export_onnx(checkpoint, directory / "model.onnx", progress=lines.append)
    return Exported(glm, checkpoint, path, tuple(lines))


def graph_of(exported: Exported) -> onnx.GraphProto:
    return onnx.load(exported.path, load_external_data=False).graph


def test_logits_are_those_of_transformers(exported: Exported) -> None:
    """ONNX Runtime on the checkpoint's bytes: two rows; nine tokens, then one, then the rest."""
    spec = exported.checkpoint.spec
    session = onnxruntime.InferenceSession(str(exported.path))
    names = [value.name for value in session.get_inputs()]
    tokens = np.random.default_rng(0).integers(0, spec.vocab, (2, 23))
    cache = [np.zeros((2, spec.kv_heads, 0, spec.head_dim), np.float32)] * (2 * spec.layers)
    pieces = []
    for begin, end in ((0, 9), (9, 10), (10, 23)):
        positions = np.tile(np.arange(begin, end), (2, 1))
        feeds = dict(zip(names, [tokens[:, begin:end], positions, *cache], strict=True))
        logits, *cache = session.run(None, feeds)
        pieces.append(logits)
    got, want = np.concatenate(pieces, axis=1), oracle_logits(load_oracle(exported.glm), tokens)
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


def test_is_valid_onnx(exported: Exported) -> None:
    check_onnx(exported.path)


def test_weights_are_the_checkpoints_bytes(exported: Exported) -> None:
    model = onnx.load(exported.path, load_external_data=False)
    refs = external_tensors(model, exported.path)
    want = exported.checkpoint.tensors
    assert refs.keys() == want.keys()
    for name, ref in refs.items():
        assert (
            ref.file.samefile(want[name].file)
            or ref.read().tobytes() == want[name].read().tobytes()
        )
        assert replace(ref, file=want[name].file) == want[name]
    inline = sum(len(t.raw_data) for t in model.graph.initializer if not t.external_data)
    assert inline < 1024


def test_graph_has_one_operator_of_a_kind(exported: Exported) -> None:
    """Layers repeat; mask and angles are computed once; fp32 weights are not cast."""
    spec = exported.checkpoint.spec
    count = Counter(node.op_type for node in graph_of(exported).node)
    layers = spec.layers
    assert count["RMSNormalization"] == 2 * layers + 1
    assert count["RotaryEmbedding"] == 2 * layers
    assert count["Softmax"] == count["Split"] == count["Sigmoid"] == layers
    assert count["MatMul"] == 8 * layers + 1  # six linears, scores, mix; the head
    assert count["Cos"] == count["Sin"] == count["Where"] == count["Range"] == 1
    assert count["Gather"] == 1
    positions_cast = 1
    weights = len(exported.checkpoint.tensors) + spec.tie_word_embeddings  # a tied table: twice
    assert count["Cast"] == positions_cast + (weights if spec.dtype != "float32" else 0)


def test_progress_says_how_the_weights_were_placed(exported: Exported) -> None:
    """In the checkpoint's own directory there are no links, and onnx.checker takes the path."""
    in_place = exported.path.parent == exported.checkpoint.path
    assert (exported.lines[-1] == "weights: in place") == in_place
    files = {path.name for path in exported.path.parent.iterdir()}
    if in_place:
        onnx.checker.check_model(str(exported.path), full_check=True)
        assert files == {"model.onnx", "config.json", "model.safetensors"}
    else:
        assert files == {"model.onnx", "model.weights"}


def test_a_weight_may_have_a_dtype_of_its_own(tmp_path: Path) -> None:
    glm = make_glm_checkpoint(tmp_path / "m")
    state = load_weights(glm)
    name = "model.layers.1.mlp.down_proj.weight"
    state[name] = state[name].half()
    write_weights(glm, state)
    path = export_onnx(open_checkpoint(glm), glm / "model.onnx")
    check_onnx(path)
    [cast] = [node for node in onnx.load(path).graph.node if name in node.input]
    assert cast.op_type == "Cast"
    session = onnxruntime.InferenceSession(str(path))
    spec = open_checkpoint(glm).spec
    past = np.zeros((1, spec.kv_heads, 0, spec.head_dim), np.float32)
    feeds = {value.name: past for value in session.get_inputs()[2:]}
    tokens = np.arange(7)[None]
    [logits] = session.run(["logits"], {"input_ids": tokens, "position_ids": tokens, **feeds})
    want = oracle_logits(load_oracle(glm), tokens)
    np.testing.assert_allclose(logits, want, atol=1e-4, rtol=0)


def test_place_that_cannot_be_written(exported: Exported) -> None:
    path = exported.path / "model.onnx"  # a file is no directory
    one_line_error(
        lambda: export_onnx(exported.checkpoint, path), names="model.onnx", kind=OnnxError
    )


EXPORT_AND_MEASURE = """
import pathlib, sys, time
start = time.monotonic()
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.export_onnx import export_onnx
export_onnx(open_checkpoint(sys.argv[1]), sys.argv[2])
# Not getrusage: what that says begins with the memory of the process that started this one.
status = dict(line.split(":") for line in pathlib.Path("/proc/self/status").open())
print(time.monotonic() - start, status["VmHWM"].split()[0])
"""


@pytest.mark.slow
def test_9b_takes_under_a_minute_and_a_gigabyte(tmp_path: Path) -> None:
    sparse = make_sparse_9b(tmp_path / "9b")
    path = tmp_path / "work" / "model.onnx"
    command = [sys.executable, "-c", EXPORT_AND_MEASURE, str(sparse), str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, peak_kb = (float(word) for word in out.split())
    assert seconds < 60
    assert peak_kb * 1024 < 1e9
    check_onnx(path)
    assert path.stat().st_size < 2e6
