"""The layered reference is transformers' own model, a layer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GlmForCausalLM

from tests.frontend.glm_factory import make_chatglm_checkpoint, make_glm_checkpoint
from tvm_vacc.frontend.checkpoint import open_checkpoint
from tvm_vacc.reference import layered
from tvm_vacc.reference.layered import LayeredGlm

SHAPES: dict[str, dict[str, Any]] = {
    "half_rotary": {},
    "full_rotary_no_bias": {"partial_rotary_factor": 1.0, "attention_bias": False},
    "tied_bfloat16": {"tie_word_embeddings": True, "dtype": "bfloat16"},
    "chatglm": {},
}


@pytest.fixture(params=SHAPES)
def paths(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint in the `glm` layout, and the one that is tested."""
    glm = make_glm_checkpoint(tmp_path / "glm", **SHAPES[request.param])
    if request.param == "chatglm":
        return glm, make_chatglm_checkpoint(tmp_path / "chatglm", glm)
    return glm, glm


def test_every_hidden_state_and_the_logits(
    paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layered, "HEAD_ROWS", 37)
    oracle = GlmForCausalLM.from_pretrained(
        paths[0], dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model = LayeredGlm(open_checkpoint(paths[1]))
    ids = torch.randint(0, 290, (2, 21), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = oracle(ids, output_hidden_states=True)
    hidden = model.embed(ids)
    for index in range(model.spec.layers):
        torch.testing.assert_close(hidden, want.hidden_states[index], rtol=0, atol=2e-5)
        hidden = model.run(model.layer(index), hidden)
    normalised = model.final_norm(hidden)
    torch.testing.assert_close(normalised, want.hidden_states[-1], rtol=0, atol=2e-5)
    torch.testing.assert_close(model.logits(normalised), want.logits, rtol=0, atol=1e-4)
