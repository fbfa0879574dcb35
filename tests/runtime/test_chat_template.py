from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.runtime import templates
from tvm_vacc.errors import CheckpointError, RequestError
from tvm_vacc.runtime import template_budget
from tvm_vacc.runtime.chat_template import ChatTemplate
from tvm_vacc.runtime.tokenizer import Tokenizer

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"
SPECIAL = {"bos_token": "<s>", "eos_token": "<|endoftext|>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a <city> & 'its' \"parts\". 天气",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
            "required": ["city"],
        },
    },
}
PYTHON = {"type": "python"}


def say(*turns: str) -> list[dict[str, Any]]:
    """Make messages of ``role: content`` texts."""
    pairs = (turn.split(": ", 1) for turn in turns)
    return [{"role": role, "content": content} for role, content in pairs]


CONVERSATIONS = [
    say("user: hi"),
    say("user: 床前明月光"),
    say("user: 👩‍👩‍👧‍👦 𠮷 é"),
    say("system: You are terse.", "user: hi"),
    say("system: 你是一位诗人。", "user: 写一首诗。"),
    say("user: a", "assistant: b", "user: c"),
    say("user: a", "assistant: b", "user: c", "assistant: d", "user: e", "assistant: f"),
    say("system: s", "user: a", "assistant: 好", "user: 再来"),
    say("user: "),
    say("system: ", "user: a", "assistant: ", "user: b"),
    say("user:   spaces in front and behind  "),
    say("user: line\nbreak\n\n", "assistant: \nanswer\n", "user: \n"),
    say("user: <b>html</b> & \"quotes\" 'single'"),
    say("user: {{ 7 * 7 }} {% raw %} {# no template #}"),
    say("user: <|assistant|>[gMASK] special tokens"),
    say("user: what weather?", "assistant: get_weather", "observation: 21 °C", "assistant: warm"),
    say("user: a\\nb\tc\u2028d\x00"),
    say("assistant: I begin", "user: then I"),
    say("user: a", "user: b", "system: late"),
    say("user: " + "long 长 " * 500),
    [{"role": "assistant", "metadata": "get_weather", "content": '{"city": "北京"}'}],
    [{"role": "system", "content": "s", "tools": [WEATHER, PYTHON]}, *say("user: a")],
    [{"role": "system", "content": "", "tools": [WEATHER]}, *say("user: a")],
    [{"role": "user", "content": "a", "age": 3, "flag": True, "x": 1.5}],
]
TOOLS = [None, [WEATHER], [WEATHER, WEATHER["function"]]]


@pytest.fixture(scope="module")
def theirs() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(CHECKPOINT, **SPECIAL)


@pytest.fixture(scope="module")
def demo() -> ChatTemplate:
    return ChatTemplate.from_directory(CHECKPOINT)


def template_of(source: str) -> ChatTemplate:
    return ChatTemplate(Path("some.jinja"), {"default": source}, SPECIAL)


def render(source: str, **options: Any) -> str:
    return template_of(source).render(say("user: hi"), **options)


@pytest.mark.parametrize("index", range(len(CONVERSATIONS)))
@pytest.mark.parametrize("name", ["demo", "GLM4", "CHATGLM3", "ELABORATE"])
def test_equals_transformers(
    theirs: PreTrainedTokenizerFast, demo: ChatTemplate, name: str, index: int
) -> None:
    ours = demo if name == "demo" else template_of(getattr(templates, name))
    source = ours.templates["default"]
    for prompt in (True, False):
        for tools in TOOLS if name in ("demo", "ELABORATE") else [None]:
            options: dict[str, Any] = {"tools": tools, "add_generation_prompt": prompt}
            want = theirs.apply_chat_template(
                CONVERSATIONS[index], chat_template=source, tokenize=False, **options
            )
            assert ours.render(CONVERSATIONS[index], **options) == want
            assert want


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_ids_equal_transformers(messages: list[dict[str, Any]]) -> None:
    theirs = AutoTokenizer.from_pretrained(CHECKPOINT)
    want = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert Tokenizer.from_directory(CHECKPOINT).encode_chat(messages) == want


def test_known_text_of_the_demo(demo: ChatTemplate) -> None:
    text = demo.render(say("system: s", "user: 你好", "assistant: b", "user: c"))
    want = "[gMASK]<sop><|system|>\ns<|user|>\n你好<|assistant|>\nb<|user|>\nc<|assistant|>"
    assert text == want


def test_a_key_without_value_counts_as_missing() -> None:
    """As in transformers 5.23; 5.20 hands it to the template."""
    ours = template_of(templates.ELABORATE)
    message = {"role": "user", "content": "a"}
    assert ours.render([{**message, "name": None}]) == ours.render([message])


def test_a_conversation_is_not_changed(demo: ChatTemplate) -> None:
    messages = [{"role": "user", "content": "a", "name": None}]
    demo.render(messages)
    assert messages == [{"role": "user", "content": "a", "name": None}]


HOSTILE = {
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "namespace globals": "{{ namespace.__init__.__globals__ }}",
    "attr filter": "{{ ''|attr('__class__') }}",
    "map attribute": "{{ ['']|map(attribute='__class__.__mro__')|list }}",
    "format attribute": "{{ '{0.__class__.__mro__}'.format('') }}",
    "format map": "{{ '{a.__class__.__mro__}'.format_map({'a': ''}) }}",
    "private namespace": "{{ namespace(_a=1) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "change the messages": "{{ messages.append(1) }}",
    "huge range": "{% for i in range(10 ** 9) %}x{% endfor %}",
    "nested ranges": "{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% endfor %}{% endfor %}",
    "filtered ranges": "{% for i in range(99999) %}{% for j in range(99999) if j < 0 %}"
    "{% endfor %}{% endfor %}",
    "silent loop of text": "{% for i in range(99999) %}" + "x" * 2000 + "{% endfor %}",
    "recursive macro": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([i]) }}{% endfor %}",
    "branching recursion": "{% macro a(n) %}{% if n %}{{ a(n - 1) }}{{ a(n - 1) }}{% endif %}"
    "{% endmacro %}{{ a(60) }}",
    "repeated string": "{{ 'a' * 10 ** 10 }}",
    "repeated list": "{{ [1] * 10 ** 10 }}",
    "doubled by ~": "{% set x = 'aaaa' %}" + "{% set x = x ~ x %}" * 40 + "{{ x }}",
    "doubled by +": "{% set x = 'aaaa' %}" + "{% set x = x + x %}" * 40 + "{{ x }}",
    "doubled by set": "{% set x %}aaaa{% endset %}"
    + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40
    + "{{ x }}",
    "doubled list": "{% set x = [1, 1] %}" + "{% set x = [x, x] %}" * 40 + "{{ x }}",
    "doubled dict": "{% set x = {'a': 1} %}" + "{% set x = {'a': x, 'b': x} %}" * 40 + "{{ x }}",
    "compared lists": "{% set x = [1, 1] %}{% set y = [1, 1] %}"
    + "{% set x = [x, x] %}{% set y = [y, y] %}" * 40
    + "{{ x == y }}",
    "power": "{{ 9 ** 99999 }}",
    "powers": "{{ (9 ** 19) * (9 ** 19) }}",
    "ljust": "{{ 'a'.ljust(10 ** 10) }}",
    "expandtabs": "{{ ('\t' * 99999).expandtabs(99999) }}",
    "translate": "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
    "replace": "{{ ('a' * 999999).replace('a', 'b' * 999999) }}",
    "replace keywords": "{{ ('a' * 999999)|replace(old='a', new='b' * 999999) }}",
    "join method": "{{ ('a' * 999999).join(('b' * 999999)|list) }}",
    "join filter": "{{ ('b' * 999999)|join('a' * 999999) }}",
    "join of shared": "{{ (['a' * 999999] * 9999)|join }}",
    "indent": "{{ ('\n' * 999999)|indent(99999) }}",
    "indent by text": "{{ ('\n' * 999999)|indent('a' * 999999) }}",
    "tojson indent": "{{ ([1] * 999999)|tojson(indent=99999) }}",
    "tojson separators": "{{ ([1] * 999999)|tojson(separators=['a' * 99999, 'b']) }}",
    "wide field": "{{ '%1000000000d' % 1 }}",
    "starred field": "{{ '%*d' % (10 ** 9, 1) }}",
    "wide format": "{{ '{:1000000000}'.format(1) }}",
    "nested format": "{{ '{:{w}}'.format(1, w=99999) }}",
    "many fields": "{{ ('%(a)s' * 9999) % {'a': 'b' * 999999} }}",
    "many formats": "{{ ('{0}' * 9999).format('b' * 999999) }}",
    "sums of lists": "{{ ([[1] * 999] * 999)|sum(start=[]) }}",
    "lorem ipsum": "{{ lipsum(n=10 ** 9) }}",
    "center": "{{ 'a'|center(10 ** 9) }}",
    "batch": "{{ [1]|batch(10 ** 9, 'x')|list }}",
    "tests in a filter": "{% set x = [1] * 99 %}{% for i in range(99999) %}"
    "{{ ([x] * 9999)|select('equalto', x)|list|length }}{% endfor %}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_budget, "MAX_TEMPLATE_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(RequestError) as caught:
        render(HOSTILE[name])
    assert time.monotonic() - start < 2
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("some.jinja: the chat template 'default'")


def test_long_conversations_are_within_the_limits() -> None:
    messages = say(*["user: " + "word " * 1000] * 400)  # 2 M characters
    assert len(template_of(templates.GLM4).render(messages)) > 2_000_000


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for m in messages %}", "is broken in line 1"),
        ("\n\n{{ messages | nosuch }}", "is broken in line 3: No filter named 'nosuch'"),
        ("{{ raise_exception('roles must\nalternate') }}", "refuses .*: roles must alternate"),
        ("{{ a.b.c }}", "fails: UndefinedError: 'a' is undefined"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{{ messages + 1 }}", "fails: TypeError"),
    ],
)
def test_broken_templates_are_one_line(source: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        render(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "the conversation is empty"),
        (["hi"], "a message is 'hi'"),
        ([{"role": "user", "content": b"bytes"}], "no plain JSON data"),
        ([{"role": "user", "content": object()}], "no plain JSON data"),
    ],
)
def test_wrong_conversations_are_one_line(demo: ChatTemplate, messages: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        demo.render(messages)


def test_named_templates(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    config = {"chat_template": named}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    template = ChatTemplate.from_directory(tmp_path)
    assert template.render(say("user: a")) == "plain"
    assert template.render(say("user: a"), tools=[WEATHER]) == "tools"


def test_a_file_goes_before_the_config(tmp_path: Path) -> None:
    config = {"chat_template": "config", "bos_token": {"content": "<b>"}, "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert ChatTemplate.from_directory(tmp_path).render(say("user: a")) == "config"
    (tmp_path / "chat_template.jinja").write_text("file {{ bos_token }} {{ messages[0].content }}")
    assert ChatTemplate.from_directory(tmp_path).render(say("user: a")) == "file <b> a"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("more")
    template = ChatTemplate.from_directory(tmp_path)
    assert template.render(say("user: a"), tools=[]) == "more"
    assert template.render(say("user: a")) == "file <b> a"


def test_no_template_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no chat template"):
        ChatTemplate.from_directory(tmp_path)
    shutil.copy(CHECKPOINT / "tokenizer.json", tmp_path)
    with pytest.raises(RequestError, match=r"neither chat_template\.jinja nor the key"):
        Tokenizer.from_directory(tmp_path).encode_chat(say("user: a"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "a JSON object is expected"),
        ("{", "not valid JSON"),
        ('{"chat_template": 5}', "must be a string, or a list"),
        ('{"chat_template": [{"name": "default"}]}', "must be a string, or a list"),
        ('{"chat_template": []}', "no template named default"),
        (json.dumps({"chat_template": "x" * (1 << 19)}), "over 262144 characters"),
    ],
)
def test_damaged_config_is_one_line(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        ChatTemplate.from_directory(tmp_path)
