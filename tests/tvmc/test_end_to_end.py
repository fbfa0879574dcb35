"""The command line on real artefacts, against transformers and ONNX Runtime."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import CHECKPOINT
from tvm_vacc.tvmc.main import main

TOKENS = 24


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "demo"
    shape = ["--dtype", "fp32", "--context", "256", "--prefill", "16"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        assert main(["compile", str(CHECKPOINT), "-o", str(path), *shape]) == 0
    return path


def transformers_greedy(ids: list[int]) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32)
    out = model.generate(torch.tensor([ids]), max_new_tokens=TOKENS, do_sample=False)
    return out[0, len(ids) :].tolist()


def test_generate_says_what_transformers_says(tvmc: Tvmc, artefact: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    prompt = "And God said, Let there be"
    code, out, err = tvmc("generate", artefact, "--prompt", prompt, "--max-tokens", TOKENS)
    want = transformers_greedy(tokenizer.encode(prompt))
    assert (code, out) == (0, tokenizer.decode(want, skip_special_tokens=True) + "\n")
    assert "time to first token" in err


def test_chat_says_what_transformers_says_in_the_second_turn(
    tvmc: Tvmc, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    questions = ["Read Genesis 1:1-3.", "写一首《春望》。"]
    messages: list[dict[str, str]] = []
    answers = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        text = tokenizer.decode(transformers_greedy(ids), skip_special_tokens=True)
        answers.append(text.lstrip())
        messages.append({"role": "assistant", "content": text.strip()})
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*questions, "/stats"])))
    code, out, err = tvmc("chat", artefact, "--max-tokens", TOKENS)
    assert code == 0
    assert out == "".join(f"{answer}\n" for answer in answers)
    assert "from the cache" in err


def test_inspect_verifies(tvmc: Tvmc, artefact: Path) -> None:
    code, out, _ = tvmc("inspect", artefact, "--verify")
    assert code == 0
    assert "files are as they were written" in out


def test_dry_run_writes_nothing(
    tvmc: Tvmc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = tvmc("compile", CHECKPOINT, "--dry-run", "-o", "there")
    assert code == 0
    assert "fuse_gqa_attention" in out
    assert "there" in out
    assert list(tmp_path.iterdir()) == []


def test_unknown_pass_is_one_line(
    tvmc: Tvmc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = tvmc("compile", CHECKPOINT, "--dry-run", "--print-ir-after", "nosuch")
    assert code == 4
    assert "there is no pass nosuch; choose of " in err


def test_run_computes_what_onnx_runtime_computes(
    tvmc: Tvmc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.standard_normal((8, 5), dtype=np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])],
        "small",
        [value("x", TensorProto.FLOAT, ["batch", 8])],
        [value("y", TensorProto.FLOAT, ["batch", 5])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, "small.onnx")
    x = rng.standard_normal((3, 8), dtype=np.float32)
    np.savez("x.npz", x=x)
    assert tvmc("compile", "small.onnx", "--dry-run")[0] == 0
    code, _, err = tvmc("compile", "small.onnx", "-o", "small")
    assert code == 0, err
    code, out, err = tvmc("run", "small", "--inputs", "x.npz", "--outputs", "y.npz")
    assert (code, out, err) == (0, "y float32 [3, 5]\n", "")
    session = onnxruntime.InferenceSession("small.onnx", providers=["CPUExecutionProvider"])
    (want,) = session.run(None, {"x": x})
    with np.load("y.npz") as archive:
        np.testing.assert_allclose(archive["y"], want, rtol=1e-5, atol=1e-5)

    np.savez("x.npz", x=x[:, :7])
    code, _, err = tvmc("run", "small", "--inputs", "x.npz")
    assert code == 4
    assert "the input 'x' takes float32[batch, 8], not [3, 7]" in err
