"""The demo's tokenizer: byte-level BPE in the layout of GLM-4's, and its chat template."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 4096
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
]
END_TOKENS = ["<|endoftext|>", "<|user|>", "<|observation|>"]

# GPT-4's and GLM-4's pattern with one change: a Han character is always a piece of its own, so
# that no part of the small vocabulary goes to pairs of characters.
PIECES = (
    r"\p{Han}|(?i:'s|'t|'re|'ve|'m|'ll|'d)|(?:(?!\p{Han})[^\r\n\p{L}\p{N}])?(?:(?!\p{Han})\p{L})+"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Explicit line ends and no bare text after a block tag, so that jinja's trim_blocks and
# lstrip_blocks, which not every runtime sets alike, cannot change the result.
CHAT_TEMPLATE = r"""
{{- '[gMASK]<sop>' }}
{%- if tools %}
    {{- '<|system|>\n# 可用工具' }}
    {%- for tool in tools %}
        {%- set function = tool.function if tool.function is defined else tool %}
        {{- '\n\n## ' + function.name + '\n\n' + function | tojson(indent=4) }}
        {{- '\n在调用上述函数时，请使用 Json 格式表示调用的参数。' }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {{- '<|' + message.role + '|>' + (message.metadata or '') + '\n' + message.content }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
""".strip()


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Train the BPE; encoding puts ``[gMASK]<sop>`` in front, as GLM-4's tokenizer does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A",
        pair="[gMASK] <sop> $A $B:1",
        special_tokens=[(token, SPECIAL_TOKENS.index(token)) for token in ("[gMASK]", "<sop>")],
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json with the chat template inside."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=SPECIAL_TOKENS[1:],
        model_max_length=2048,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        chat_template=CHAT_TEMPLATE,
    )
    fast.save_pretrained(folder, save_jinja_files=False)
