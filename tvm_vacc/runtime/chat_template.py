"""A checkpoint's chat template: from a conversation to the text that the model was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from tvm_vacc.errors import CheckpointError, RequestError
from tvm_vacc.limits import MAX_TEMPLATE_CHARS
from tvm_vacc.runtime.template_budget import limited
from tvm_vacc.runtime.template_sandbox import TemplateEnvironment
from tvm_vacc.safe_io import read_json, read_text

TEMPLATE_FILE = "chat_template.jinja"
NAMED_TEMPLATES = "additional_chat_templates"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS = tuple(
    f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
)


@dataclass(frozen=True)
class ChatTemplate:
    """The templates of one checkpoint.

    Attributes:
        source: the file they were read from, for messages.
        templates: Jinja source by name; `default`, and `tool_use` where the model has its own.
        special_tokens: what a template finds as `bos_token`, `eos_token` and so on.
    """

    source: Path
    templates: Mapping[str, str]
    special_tokens: Mapping[str, str]

    @classmethod
    def from_directory(cls, path: str | Path) -> ChatTemplate:
        """Read the template files, or the key `chat_template` of `tokenizer_config.json`.

        Raises:
            RequestError: the checkpoint has no chat template.
            CheckpointError: a file is damaged or too large.
        """
        directory = Path(path)
        config = read_config(directory)
        special_tokens = _special_tokens(config)
        files = {"default": directory / TEMPLATE_FILE}
        files |= {file.stem: file for file in sorted((directory / NAMED_TEMPLATES).glob("*.jinja"))}
        templates = {name: _read_template(file) for name, file in files.items() if file.is_file()}
        if templates:
            return cls(directory / TEMPLATE_FILE, templates, special_tokens)
        if "chat_template" not in config:
            raise RequestError(
                f"{directory}: the checkpoint has no chat template (neither {TEMPLATE_FILE} nor "
                f"the key chat_template in {CONFIG_FILE})",
                "use plain prompts, or add the template of the model's chat variant",
            )
        templates = _named_templates(config["chat_template"], directory / CONFIG_FILE)
        return cls(directory / CONFIG_FILE, templates, special_tokens)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """Return the text of a conversation, as transformers' `apply_chat_template` makes it.

        Args:
            messages: ``{"role": ..., "content": ...}`` and what else the template reads, oldest
                first; keys with the value None count as missing.
            tools: function schemas, for templates that know tools.
            add_generation_prompt: end with what stands before an answer (``<|assistant|>``).
            variables: further variables of the template.

        Raises:
            RequestError: no message, one that is no plain data, or a template that refuses the
                conversation, is broken, or goes beyond its limits of time and size.
        """
        if not messages:
            raise RequestError("the conversation is empty", "send at least one message")
        name = "tool_use" if tools is not None and "tool_use" in self.templates else "default"
        values = {
            **self.special_tokens,
            "messages": [_without_nulls(message) for message in messages],
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **variables,
        }
        try:
            values = json.loads(json.dumps(values))  # a template is handed plain data, and copies
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"the conversation is no plain JSON data ({error})") from None
        try:
            with limited():
                return self._compiled[name].render(values)
        except Exception as error:  # a template's expressions raise whatever they like
            raise self._failure(name, error) from None

    @cached_property
    def _compiled(self) -> dict[str, jinja2.Template]:
        environment = TemplateEnvironment()
        return {name: environment.from_string(text) for name, text in self.templates.items()}

    def _failure(self, name: str, error: Exception) -> RequestError:
        what = f"{self.source}: the chat template {name!r}"
        if isinstance(error, jinja2.exceptions.SecurityError):
            return RequestError(f"{what} was stopped: {error}", "use a template you trust")
        if isinstance(error, jinja2.TemplateSyntaxError):
            return RequestError(f"{what} is broken in line {error.lineno}: {error.message}")
        if type(error) is jinja2.TemplateError:
            return RequestError(f"{what} refuses the conversation: {error.message}")
        reason = "endless recursion" if isinstance(error, RecursionError) else str(error)
        return RequestError(f"{what} fails: {type(error).__name__}: {reason[:300]}")


def read_config(directory: Path) -> dict[str, Any]:
    """Return the object in `tokenizer_config.json`, an empty one where there is no such file.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = directory / CONFIG_FILE
    if not file.is_file():
        return {}
    config = read_json(file, error=CheckpointError)
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: a JSON object is expected")
    return config


def _without_nulls(message: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise RequestError(f"a message is {str(message)[:80]!r}", "send objects with role, content")
    return {key: value for key, value in message.items() if value is not None}


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    tokens = {}
    for name in SPECIAL_TOKENS:
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def _read_template(file: Path) -> str:
    # Four bytes hold any character.
    text = read_text(file, limit=4 * MAX_TEMPLATE_CHARS, error=CheckpointError)
    return _checked(text, file)


def _named_templates(value: Any, where: Path) -> dict[str, str]:
    entries = value if isinstance(value, list) else [{"name": "default", "template": value}]
    try:
        templates = {entry["name"]: _checked(entry["template"], where) for entry in entries}
    except (TypeError, KeyError):
        raise CheckpointError(
            f"{where}: chat_template must be a string, or a list of objects with name and template"
        ) from None
    if "default" not in templates:
        raise CheckpointError(f"{where}: chat_template has no template named default")
    return templates


def _checked(text: str, where: Path) -> str:
    if not isinstance(text, str):
        raise TypeError(text)
    if len(text) > MAX_TEMPLATE_CHARS:
        raise CheckpointError(f"{where}: a chat template of over {MAX_TEMPLATE_CHARS} characters")
    return text
