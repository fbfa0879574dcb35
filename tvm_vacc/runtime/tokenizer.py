"""Text to token ids and back, by the `tokenizers` library, and the decoding of a stream of ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from tvm_vacc.errors import CheckpointError, RequestError
from tvm_vacc.limits import MAX_JSON_BYTES
from tvm_vacc.runtime.chat_template import CONFIG_FILE, ChatTemplate, read_config
from tvm_vacc.safe_io import read_bytes

TOKENIZER_FILE = "tokenizer.json"
FOREIGN_VOCABULARY = "tokenizer.model"
"""The older GLM repositories: sentencepiece (ChatGLM2, ChatGLM3) or tiktoken ranks (GLM-4)."""

REPLACEMENT = "\ufffd"
MAX_HELD_REPLACEMENTS = 7
"""More replacement characters at the end of a window are no unfinished character: one finished
character of four bytes and three bytes of the next are what byte-fallback decoders make of one."""


@dataclass(frozen=True)
class Tokenizer:
    """A checkpoint's tokenizer.

    Attributes:
        directory: where its files are.
        backend: the `tokenizers.Tokenizer`.
    """

    directory: Path
    backend: tokenizers.Tokenizer

    @classmethod
    def from_directory(cls, path: str | Path) -> Tokenizer:
        """Read `tokenizer.json`, and the added tokens of `tokenizer_config.json` if it is there.

        Raises:
            RequestError: there is no `tokenizer.json`.
            CheckpointError: one of the files is damaged, or they contradict each other.
        """
        directory = Path(path)
        file = directory / TOKENIZER_FILE
        if not file.is_file():
            raise _missing_tokenizer(directory)
        backend = _read_backend(file)
        _add_tokens(backend, read_config(directory), directory / CONFIG_FILE)
        return cls(directory, backend)

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """The checkpoint's chat template; reading it raises as `ChatTemplate.from_directory`."""
        return ChatTemplate.from_directory(self.directory)

    @cached_property
    def skipped_ids(self) -> frozenset[int]:
        """Ids of the special tokens, which `decode` leaves out unless asked for."""
        added = self.backend.get_added_tokens_decoder()
        return frozenset(token for token, content in added.items() if content.special)

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        """Return the ids of `text`; with `add_special`, the prefix a model expects (GLM-4:
        ``[gMASK]<sop>``) is put in front.

        Special tokens written out in `text` become those tokens either way.

        Raises:
            RequestError: `text` holds a lone surrogate (bytes that are no UTF-8).
        """
        try:
            return list(self.backend.encode(text, add_special_tokens=add_special).ids)
        except TypeError:  # what the library makes of a lone surrogate
            raise RequestError(
                "the text holds bytes that are not valid UTF-8", "send it encoded in UTF-8"
            ) from None

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Return the ids of a conversation up to where the model's answer begins.

        Args:
            messages: ``{"role": ..., "content": ...}``, oldest first.
            tools: function schemas, for templates that know tools.

        Raises:
            RequestError: as `ChatTemplate.render`.
        """
        text = self.chat_template.render(messages, tools=tools)
        return self.encode(text, add_special=False)  # the template writes the special tokens itself

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of `ids`; padding of the vocabulary stands for nothing.

        Raises:
            RequestError: an id is negative, or beyond 32 bits.
        """
        try:
            return str(self.backend.decode(ids, skip_special_tokens=skip_special))
        except OverflowError:
            raise RequestError(f"{min(ids)} to {max(ids)}: these are no token ids") from None

    def stream(self, *, skip_special: bool = True) -> Stream:
        """Return a decoder for ids that come one at a time."""
        return Stream(self, skip_special=skip_special)


class Stream:
    """Decodes ids one at a time; what it returns adds up to the decoding of the whole.

    No half character is ever returned: bytes which do not yet make a character are held back until
    they do, or until the text goes on without completing them. The cost of an id does not grow with
    the text: only the last two pieces of text are decoded again (two, because some decoders treat
    the first token of a text differently; the method is that of Hugging Face's
    text-generation-inference).

    The sum is exact for byte-level tokenizers (GLM-4's) whatever the ids are, and for those with
    byte fallback wherever the bytes are valid UTF-8.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._reset()

    def _reset(self) -> None:
        self._window: list[int] = []  # the ids that are decoded again
        self._piece_start = 0  # where in the window the latest piece of whole text begins
        self._returned = 0  # characters of the window's text which were returned already

    def push(self, token: int) -> str:
        """Take the next id and return the text that it completes, often none."""
        if self._is_silent(token):
            return ""
        self._window.append(token)
        text = self._decode(self._window)
        held = len(text) - len(text.rstrip(REPLACEMENT))
        if held > MAX_HELD_REPLACEMENTS:
            return self._return_garbage(text)
        new = text[self._returned : len(text) - held]
        self._returned += len(new)
        if not held:
            del self._window[: self._piece_start]
            self._returned = len(self._decode(self._window))
            self._piece_start = len(self._window)
        return new

    def flush(self) -> str:
        """Return what is held back, as replacement characters, and start anew."""
        rest = self._decode(self._window)[self._returned :]
        self._reset()
        return rest

    def _is_silent(self, token: int) -> bool:
        # Left out here as `decode` leaves them out, for the window would grow by them for ever.
        if self._skip_special and token in self._tokenizer.skipped_ids:
            return True
        return self._tokenizer.backend.id_to_token(token) is None

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special=self._skip_special)

    def _return_garbage(self, text: str) -> str:
        """Return all but the last replacement character, which alone may become another one.

        The window is cut where both parts decode to what they decode to together: only there does
        no character of the invalid bytes straddle the cut. An id holds a byte at least and a
        character four at most, so that one of the last four places will do.
        """
        new = text[self._returned : -1]
        self._returned += len(new)
        for cut in range(len(self._window) - 1, max(len(self._window) - 5, 0), -1):
            before = self._decode(self._window[:cut])
            after = self._decode(self._window[cut:])
            if after and before + after == text:
                del self._window[:cut]
                self._returned -= len(before)
                self._piece_start = 0
                break
        return new


def _read_backend(file: Path) -> tokenizers.Tokenizer:
    content = read_bytes(file, limit=MAX_JSON_BYTES, error=CheckpointError)
    try:
        backend = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{file}: not a tokenizer ({str(error)[:200]})") from None
    # Files saved after training often carry these; they would cut or pad prompts unasked.
    backend.no_truncation()
    backend.no_padding()
    return backend


def _add_tokens(backend: tokenizers.Tokenizer, config: dict[str, Any], where: Path) -> None:
    """Add the tokens that `added_tokens_decoder` lists beyond those of tokenizer.json."""
    entries = config.get("added_tokens_decoder") or {}
    try:
        listed = sorted((int(token), entry["content"], entry) for token, entry in entries.items())
    except (TypeError, ValueError, KeyError, AttributeError):
        raise CheckpointError(
            f"{where}: added_tokens_decoder must map token ids to objects with the key content"
        ) from None
    for token, content, entry in listed:
        if backend.token_to_id(content) is None:
            flags = {key: bool(entry.get(key)) for key in ("special", "lstrip", "rstrip")}
            backend.add_tokens([tokenizers.AddedToken(content, normalized=False, **flags)])
        if (found := backend.token_to_id(content)) != token:
            raise CheckpointError(
                f"{where}: {content!r} is token {token} there and {found} in {TOKENIZER_FILE}",
                "take both files from the same checkpoint",
            )


def _missing_tokenizer(directory: Path) -> RequestError:
    message = f"{directory / TOKENIZER_FILE}: there is no such file, and text needs it"
    if (directory / FOREIGN_VOCABULARY).is_file():
        return RequestError(
            f"{message}; {FOREIGN_VOCABULARY} is in a format of the older repositories",
            "take tokenizer.json and tokenizer_config.json from the model's -hf repository "
            "(glm-4-9b-chat: glm-4-9b-chat-hf), or write them by transformers' "
            "convert_slow_tokenizer (TikTokenConverter; SpmConverter for ChatGLM2 and ChatGLM3)",
        )
    return RequestError(message, "put the checkpoint's tokenizer files there, or use token ids")
