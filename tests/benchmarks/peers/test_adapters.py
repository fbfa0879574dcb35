"""The adapters of what this environment has; the others need environments of their own."""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.system import Start, SystemProcess
from tests.frontend.glm_factory import load_oracle, load_weights, make_glm_checkpoint
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.frontend.export_onnx import export_onnx

IDS = [3, 141, 59, 265, 35, 89, 79]


def check_logits(process: SystemProcess, checkpoint: Path, tolerance: float) -> None:
    """Steps of any sizes have transformers' logits, after other work and twice."""
    with torch.no_grad():
        expected = load_oracle(checkpoint)(torch.tensor([IDS])).logits[0].numpy()
    for steps in ([IDS], [IDS[:4], *([token] for token in IDS[4:])]):
        logits = process.logits(steps)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, atol=tolerance)


def check(adapter: str, model: Path, checkpoint: Path, item: int, tolerance: float) -> None:
    shapes = {name: t.shape for name, t in load_weights(checkpoint).items()}
    read = sum(prod(s) for name, s in shapes.items() if name != "model.embed_tokens.weight")
    with SystemProcess(Start(adapter, sys.executable, model, 1)) as process:
        about = process.description
        assert about.position_bytes == item * 2 * 2 * 2 * 32  # layers, key and value, heads, dim
        assert read * item <= about.weight_bytes < 1.01 * read * item
        assert process.prefill(17) > 0
        # Forwards, back, and with another batch.
        for context, batch in ((20, 1), (40, 1), (10, 1), (10, 3)):
            assert process.decode(context, batch, 2) > 0
        check_logits(process, checkpoint, tolerance)


def test_ours(artefact: Path) -> None:
    with SystemProcess(Start("ours", sys.executable, artefact, 1)) as process:
        assert process.decode(5, 2, 2) > 0
        check_logits(process, artefact.parent / "tiny", 0.15)


@pytest.mark.slow
def test_torch(tmp_path: Path) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm", dtype="bfloat16")
    check("torch_transformers", checkpoint, checkpoint, item=2, tolerance=0.15)


@pytest.mark.slow
def test_onnxruntime(tmp_path: Path) -> None:
    checkpoint = make_glm_checkpoint(tmp_path / "glm", dtype="bfloat16")
    export_onnx(open_checkpoint(checkpoint), tmp_path / "model.onnx")
    check("onnxruntime", tmp_path / "model.onnx", checkpoint, item=4, tolerance=1e-3)
