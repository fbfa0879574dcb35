from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tvm_vacc.errors import CheckpointError, RequestError
from tvm_vacc.runtime.tokenizer import REPLACEMENT, Stream, Tokenizer

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"

TEXTS = [
    "In the beginning God created the heaven and the earth.",
    "床前明月光，疑是地上霜。",
    "你好，世界！ mixed 中文 and English",
    "family 👩‍👩‍👧‍👦, flag 🇨🇳, 𠮷 野家",
    "  spaces   and\n\nlines\t\ttabs ",
    "[gMASK]<sop><|user|>\nhi<|assistant|>",
    "e\u0301 combining, \u202e right to left, \x00 null",
    "",
]


@pytest.fixture(scope="module")
def demo() -> Tokenizer:
    return Tokenizer.from_directory(CHECKPOINT)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CHECKPOINT / name, tmp_path)
    return tmp_path


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def stream_all(stream: Stream, ids: list[int]) -> list[str]:
    return [*(stream.push(token) for token in ids), stream.flush()]


@pytest.mark.parametrize("add_special", [True, False])
def test_encodes_and_decodes_as_transformers(demo: Tokenizer, add_special: bool) -> None:
    theirs = AutoTokenizer.from_pretrained(CHECKPOINT)
    for text in TEXTS:
        ids = demo.encode(text, add_special=add_special)
        assert ids == theirs.encode(text, add_special_tokens=add_special)
        for skip in (True, False):
            want = theirs.decode(ids, skip_special_tokens=skip)
            assert demo.decode(ids, skip_special=skip) == want


def test_prefix_is_put_in_front(demo: Tokenizer) -> None:
    prefix = [demo.backend.token_to_id(token) for token in ("[gMASK]", "<sop>")]
    assert demo.encode("a")[:2] == prefix
    assert demo.encode("a")[2:] == demo.encode("a", add_special=False)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_stream_of_valid_text_shows_no_half_character(
    demo: Tokenizer, text: str, skip: bool
) -> None:
    ids = demo.encode(text)
    pieces = stream_all(demo.stream(skip_special=skip), ids)
    assert "".join(pieces) == demo.decode(ids, skip_special=skip)
    assert not any(REPLACEMENT in piece for piece in pieces)


def test_characters_come_as_soon_as_they_are_whole(demo: Tokenizer) -> None:
    ids = demo.encode("中👍文", add_special=False)
    pieces = stream_all(demo.stream(), ids)
    assert len(ids) > 3  # the emoji is several tokens
    assert [piece for piece in pieces if piece] == ["中", "👍", "文"]
    assert pieces[-2] == "文"  # not held until the flush


@pytest.mark.parametrize("seed", range(40))
def test_stream_of_any_ids_adds_up_to_their_decoding(demo: Tokenizer, seed: int) -> None:
    rng = random.Random(seed)
    beyond = demo.backend.get_vocab_size() + 20  # ids of a padded vocabulary stand for nothing
    highest = rng.choice([beyond, 300])  # below 300: mostly single bytes, seldom valid UTF-8
    ids = [rng.randrange(highest) for _ in range(rng.randrange(200))]
    skip = rng.random() < 0.5
    stream = demo.stream(skip_special=skip)
    assert "".join(stream_all(stream, ids)) == demo.decode(ids, skip_special=skip)


def pieces_of_bytes(path: Path, seed: int) -> Tokenizer:
    """A byte-level tokenizer whose tokens are bytes of characters cut anywhere, and garbage."""
    rng = random.Random(seed)
    alphabet = bytes_to_unicode()
    some = "中😀é".encode() + b"a\xff"
    cuts = {bytes(rng.choices(some, k=rng.choice([1, 1, 2, 3]))) for _ in range(60)}
    names = {"".join(alphabet[byte] for byte in cut) for cut in cuts}
    backend = tokenizers.Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    backend.decoder = decoders.ByteLevel()
    backend.save(str(path / "tokenizer.json"))
    return Tokenizer.from_directory(path)


@pytest.mark.parametrize("seed", range(20))
def test_stream_of_tokens_that_straddle_characters(tmp_path: Path, seed: int) -> None:
    tokenizer = pieces_of_bytes(tmp_path, seed)
    rng = random.Random(seed)
    size = tokenizer.backend.get_vocab_size()
    for _ in range(100):
        ids = [rng.randrange(size) for _ in range(60)]
        assert "".join(stream_all(tokenizer.stream(), ids)) == tokenizer.decode(ids)


def test_replacement_characters_of_the_text_itself_arrive(demo: Tokenizer) -> None:
    text = f"a{REPLACEMENT}b{REPLACEMENT * 20}"
    assert "".join(stream_all(demo.stream(), demo.encode(text))) == text


def test_flush_returns_an_unfinished_character_and_starts_anew(demo: Tokenizer) -> None:
    first, *_ = emoji = demo.encode("👍", add_special=False)
    stream = demo.stream()
    assert stream.push(first) == ""
    assert stream.flush() == REPLACEMENT
    assert stream.flush() == ""
    assert "".join(stream_all(stream, emoji)) == "👍"


@pytest.mark.parametrize("kind", ["text", "garbage", "special", "unknown"])
def test_cost_of_a_token_does_not_grow(
    demo: Tokenizer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = {
        "text": demo.encode("the", add_special=False)[0],
        "garbage": demo.backend.token_to_id("ÿ"),  # byte-level alphabet's name of the byte 0xff
        "special": demo.backend.token_to_id("<|user|>"),
        "unknown": demo.backend.get_vocab_size() + 1,
    }[kind]
    decoded = 0
    plain = Tokenizer.decode

    def counting(self: Tokenizer, ids: list[int], *, skip_special: bool = True) -> str:
        nonlocal decoded
        decoded += len(ids)
        return plain(self, ids, skip_special=skip_special)

    monkeypatch.setattr(Tokenizer, "decode", counting)
    half_a_character = demo.encode("👍", add_special=False)[0]
    stream_all(demo.stream(), [half_a_character, *[token] * 2000])
    assert decoded <= 2000 * 60


def byte_fallback_tokenizer(path: Path) -> Tokenizer:
    """Sentencepiece's way, as converted ChatGLM3 vocabularies have it: a character of no token of
    its own is bytes, and the first space of a text is none."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocab |= {token: 256 + index for index, token in enumerate(["<unk>", "▁", "h", "i", "▁hi"])}
    backend = tokenizers.Tokenizer(
        models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1),
        ]
    )
    backend.save(str(path / "tokenizer.json"))
    return Tokenizer.from_directory(path)


@pytest.mark.parametrize("text", ["hi hi", "中文中文 hi 👍👍", "👍 hi", "hi", "é"])
def test_stream_with_byte_fallback(tmp_path: Path, text: str) -> None:
    tokenizer = byte_fallback_tokenizer(tmp_path)
    ids = tokenizer.encode(text)
    pieces = stream_all(tokenizer.stream(), ids)
    assert tokenizer.decode(ids) == text
    assert "".join(pieces) == text
    assert not any(REPLACEMENT in piece for piece in pieces)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"tokenizer\.json: there is no such file"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(RequestError, match=r"tokenizer\.model is .* older repositories"):
        Tokenizer.from_directory(tmp_path)


def test_tokenizer_json_alone_is_enough(copy: Path) -> None:
    (copy / "tokenizer_config.json").unlink()
    tokenizer = Tokenizer.from_directory(copy)
    assert tokenizer.decode(tokenizer.encode("hi")) == "hi"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"model": {"type": "BPE"}}', "\x00"])
def test_damaged_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer") as caught:
        Tokenizer.from_directory(tmp_path)
    assert "\n" not in str(caught.value)


def test_truncation_and_padding_of_the_file_are_ignored(copy: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(copy / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    backend.save(str(copy / "tokenizer.json"))
    text = "a longer text than four tokens"
    whole = Tokenizer.from_directory(CHECKPOINT).encode(text)
    assert Tokenizer.from_directory(copy).encode(text) == whole


def test_tokens_of_the_config_are_added(copy: Path) -> None:
    size = Tokenizer.from_directory(copy).backend.get_vocab_size()
    entry = {"content": "<|think|>", "special": True}
    edit_json(copy / "tokenizer_config.json", added_tokens_decoder={str(size): entry})
    tokenizer = Tokenizer.from_directory(copy)
    assert tokenizer.encode("<|think|>", add_special=False) == [size]
    assert tokenizer.decode([size]) == ""
    assert tokenizer.decode([size], skip_special=False) == "<|think|>"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"3": {"content": "<|user|>"}}, "is token 3 there and 5 in tokenizer.json"),
        ({"99999": {"content": "<|far|>"}}, "is token 99999 there"),
        ({"x": {"content": "a"}}, "must map token ids"),
        ({"1": "a"}, "must map token ids"),
        (["a"], "must map token ids"),
    ],
)
def test_contradicting_config_is_one_line(copy: Path, entries: object, message: str) -> None:
    edit_json(copy / "tokenizer_config.json", added_tokens_decoder=entries)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_directory(copy)


def test_bytes_that_are_no_text_are_refused(demo: Tokenizer) -> None:
    with pytest.raises(RequestError, match="not valid UTF-8"):
        demo.encode("a\udcff")


@pytest.mark.parametrize("token", [-1, 2**40])
def test_impossible_ids_are_refused(demo: Tokenizer, token: int) -> None:
    with pytest.raises(RequestError, match="no token ids"):
        demo.decode([1, token])
