"""A chat of three turns in Chinese and English, in every type: no turn depends on what the cache
went through before it.

A fresh session that is given the whole conversation is the oracle: what is left of earlier turns,
or of another conversation that was reset, must not change a token, nor a bit of a logit.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml

import tvm_vacc
from tvm_vacc.config.quantize import Quantize
from tvm_vacc.runtime.model import Model
from tvm_vacc.runtime.session import Session

DEMO = Path(__file__).parents[2] / "demo" / "checkpoint"
TYPES = get_args(Quantize.model_fields["type"].annotation)
QUICK = ("w8a16_kv8", "w4a16")
QUESTIONS = ("写一首《春望》。", "Read Genesis 1:1-3.", "再写一首 about the sea, 两句就好。")
OTHER = "Tell me of the waters under the firmament, and of nothing else."
ANSWER_TOKENS = 20


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in (None, *TYPES)
    ],
    ids=str,
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("chat")
    quantize = {"quantize": {"type": request.param}} if request.param else {}
    document = {
        "name": "chat",
        "frontend": {
            "checkpoint": str(DEMO),
            "type": "huggingface",
            "shape": {"input_ids": [[32], [512]]},  # the prompts take several chunks
            **quantize,
        },
        "backend": {"type": "tvm_vacc", "dtype": "bf16"},
        "workspace": {"path": str(folder)},
        "accuracy": False,
    }
    if request.param and "gptq" in request.param:
        document["dataset"] = {"seqlen": 128, "nsamples": 4}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(document))
    loaded = tvm_vacc.load(tvm_vacc.compile(config, target="tvm_vacc -mcpu=native"))
    assert isinstance(loaded, Model)
    return loaded


def answer(session: Session, prompt: list[int]) -> list[int]:
    return list(session.generate(prompt, ANSWER_TOKENS))


def test_no_turn_depends_on_what_the_cache_went_through(model: Model) -> None:
    encode = model.tokenizer.encode_chat
    messages: list[dict[str, str]] = []
    with model.session() as continued, model.session() as reset:
        for turn, question in enumerate(QUESTIONS):
            messages.append({"role": "user", "content": question})
            prompt = encode(messages)
            with model.session() as fresh:
                want = answer(fresh, prompt)
            assert want
            assert answer(continued, prompt) == want
            assert (continued.stats.reused_tokens > 0) == (turn > 0)
            answer(reset, encode([{"role": "user", "content": OTHER}]))
            reset.reset()
            assert answer(reset, prompt) == want
            assert reset.stats.reused_tokens == 0
            messages.append({"role": "assistant", "content": model.tokenizer.decode(want).strip()})
    whole = model.logits(prompt)[-1]
    with model.temporary_sequence() as sequence:
        model.prefill(sequence, prompt[:-7])
        for token in prompt[-7:-1]:
            model.prefill(sequence, [token])
        np.testing.assert_array_equal(model.prefill(sequence, prompt[-1:]).numpy()[-1], whole)
