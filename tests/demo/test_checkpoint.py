"""The demo checkpoint is a real GLM: its files, features, tokenizer, template and perplexity."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GlmForCausalLM,
    PreTrainedTokenizerFast,
)

from demo.evaluate import DEMO, held_out, score
from demo.tokenizer import CHAT_TEMPLATE, END_TOKENS, SPECIAL_TOKENS

CHECKPOINT = DEMO / "checkpoint"
MAX_BYTES = 12_000_000
# A fixed part of the held-out text, and what the checkpoint reached on it plus three percent.
SAMPLE_DOCUMENTS = {"kjv": 3, "poems": 40}
PERPLEXITY_BOUNDS = {"kjv": 25.2, "poems": 79.7}
ROUND_TRIPS = [
    "In the beginning God created the heaven and the earth.",
    "  two  spaces,\n\nblank lines\tand tabs; don't 1234567 \r\n",
    "明月几时有，把酒问青天。不知天上宫阙、今夕是何年。",
    "Unseen: 鬱龘𠮷 😀👩‍👩‍👧 é̀ ñ Ω ك",
    "",
]


@pytest.fixture(scope="module")
def model() -> GlmForCausalLM:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(CHECKPOINT)


def read_json(name: str) -> dict[str, Any]:
    return json.loads((CHECKPOINT / name).read_text(encoding="utf-8"))


def test_files_are_small() -> None:
    files = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert files.keys() >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(files.values()) < MAX_BYTES


def test_config_has_the_features_of_glm(tokenizer: PreTrainedTokenizerFast) -> None:
    config = read_json("config.json")
    assert config["model_type"] == "glm"
    assert config["num_attention_heads"] > config["num_key_value_heads"] > 1
    assert config["attention_bias"] is True
    assert config["tie_word_embeddings"] is False
    assert config["rope_parameters"]["partial_rotary_factor"] == 0.5
    assert config["head_dim"] % 16 == 0
    assert config["rms_norm_eps"] == 1.5625e-07
    ends = tokenizer.convert_tokens_to_ids(END_TOKENS)
    assert config["eos_token_id"] == ends
    assert read_json("generation_config.json")["eos_token_id"] == ends


def test_weights_are_bf16_and_biases_trained(model: GlmForCausalLM) -> None:
    stored = AutoModelForCausalLM.from_pretrained(CHECKPOINT)
    assert {p.dtype for p in stored.parameters()} == {torch.bfloat16}
    biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
    assert len(biases) == 3 * model.config.num_hidden_layers
    assert all(bias.abs().max() > 0.01 for bias in biases)


@pytest.mark.parametrize("text", ROUND_TRIPS)
def test_tokenizer_round_trips(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text).input_ids
    assert tokenizer.convert_ids_to_tokens(ids[:2]) == ["[gMASK]", "<sop>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_special_tokens_are_single(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "".join(SPECIAL_TOKENS)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == SPECIAL_TOKENS


@pytest.mark.parametrize("name", SAMPLE_DOCUMENTS)
def test_held_out_perplexity(model: GlmForCausalLM, name: str) -> None:
    documents = held_out(name)[: SAMPLE_DOCUMENTS[name]]
    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    result = score(model, tokenizer, documents)

    # The best any unigram model can do: the sample's own token frequencies.
    encoded = tokenizer.encode_batch(documents, add_special_tokens=False)
    counts = Counter(token for e in encoded for token in e.ids)
    total = counts.total()
    unigram = math.exp(-sum(n / total * math.log(n / total) for n in counts.values()))

    assert result.tokens == total
    assert result.perplexity < PERPLEXITY_BOUNDS[name]
    assert result.perplexity < unigram / 3


def test_chat_template_renders(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [
        {"role": "system", "content": "你是一位诗人。"},
        {"role": "user", "content": "写一首《浣溪沙》。"},
        {"role": "assistant", "metadata": "lookup", "content": "{}"},
        {"role": "observation", "content": "ok"},
    ]
    tool = {"type": "function", "function": {"name": "lookup", "parameters": {}}}
    render = tokenizer.apply_chat_template
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert render(messages, tokenize=False, add_generation_prompt=True) == (
        "[gMASK]<sop><|system|>\n你是一位诗人。<|user|>\n写一首《浣溪沙》。"
        "<|assistant|>lookup\n{}<|observation|>\nok<|assistant|>"
    )
    with_tool = render(messages, tools=[tool], tokenize=False)
    assert with_tool.startswith("[gMASK]<sop><|system|>\n# 可用工具\n\n## lookup\n\n{")
    assert with_tool.endswith("<|observation|>\nok")


@pytest.mark.parametrize("question", ["Read Psalm 23:1-3.", "写一首《浣溪沙》。"])
def test_chat_answer_ends_its_turn(
    model: GlmForCausalLM, tokenizer: PreTrainedTokenizerFast, question: str
) -> None:
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt"
    )
    output = model.generate(**prompt, max_new_tokens=250, do_sample=False)[0]
    answer = output[prompt["input_ids"].shape[1] :].tolist()
    assert len(answer) > 10
    assert tokenizer.convert_ids_to_tokens(answer[-1]) == "<|user|>"
