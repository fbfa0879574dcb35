"""What a GLM is, in numbers: the part of a checkpoint's config that compiler and runtime need.

Imports nothing heavy: the runtime reads a spec back from an artefact's manifest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

ARCHITECTURES = ("glm", "chatglm")
WEIGHT_DTYPES = ("float32", "float16", "bfloat16")

_POSITIVE_INTS = (
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "head_dim",
    "rotary_dim",
    "intermediate",
    "vocab",
    "max_positions",
)
_POSITIVE_FLOATS = ("rope_theta", "rms_norm_eps")
_BOOLS = ("qkv_bias", "tie_word_embeddings")
_OPTIONAL_TOKENS = ("bos_token_id", "pad_token_id")


@dataclass(frozen=True)
class ModelSpec:
    """The dimensions and constants of one GLM, whichever layout it was stored in.

    Attributes:
        layers: decoder layers.
        hidden: width of the residual stream.
        heads: query heads.
        kv_heads: key and value heads; divides `heads`.
        head_dim: width of a head; `heads * head_dim` need not be `hidden`.
        rotary_dim: leading dimensions of a head that RoPE turns; even.
        rope_theta: RoPE base, the checkpoint's `rope_ratio` already multiplied in.
        intermediate: width of the gate, and of the up, projection.
        vocab: rows of the embedding, padding included.
        rms_norm_eps: added to the mean square in every RMSNorm.
        max_positions: longest context the model was trained for, in tokens.
        qkv_bias: whether the q, k and v projections have a bias.
        tie_word_embeddings: whether the head is the embedding table.
        eos_token_ids: every token that ends an answer.
        bos_token_id: first token of a text, or None.
        pad_token_id: padding token, or None.
        architecture: the layout the checkpoint has: `glm` or `chatglm`.
        dtype: the embedding's dtype in the checkpoint: `float32`, `float16` or `bfloat16`.

    Raises:
        ValueError: a field has the wrong type or contradicts another; the message names the field.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    rope_theta: float
    intermediate: int
    vocab: int
    rms_norm_eps: float
    max_positions: int
    qkv_bias: bool
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    pad_token_id: int | None
    architecture: str
    dtype: str

    def __post_init__(self) -> None:
        for name in _POSITIVE_INTS:
            _demand(_is_int(value := getattr(self, name)) and value > 0, name, value, "> 0")
        for name in _POSITIVE_FLOATS:
            value = getattr(self, name)
            _demand(isinstance(value, float) and 0 < value < float("inf"), name, value, "> 0")
        for name in _BOOLS:
            value = getattr(self, name)
            _demand(isinstance(value, bool), name, value, "true or false")
        for name in _OPTIONAL_TOKENS:
            value = getattr(self, name)
            _demand(
                value is None or self._is_token(value), name, value, "a token of the vocabulary"
            )
        _demand(
            isinstance(self.eos_token_ids, tuple) and all(map(self._is_token, self.eos_token_ids)),
            "eos_token_ids",
            self.eos_token_ids,
            "tokens of the vocabulary",
        )
        for name, known in (("architecture", ARCHITECTURES), ("dtype", WEIGHT_DTYPES)):
            value = getattr(self, name)
            _demand(value in known, name, value, f"one of {', '.join(known)}")
        _demand(
            self.heads % self.kv_heads == 0, "kv_heads", self.kv_heads, f"a divisor of {self.heads}"
        )
        _demand(
            self.rotary_dim % 2 == 0 and self.rotary_dim <= self.head_dim,
            "rotary_dim",
            self.rotary_dim,
            f"even and at most {self.head_dim}",
        )

    def _is_token(self, value: object) -> bool:
        return _is_int(value) and 0 <= value < self.vocab  # type: ignore[operator]

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold and `from_json` reads back to an equal spec."""
        return {**asdict(self), "eos_token_ids": list(self.eos_token_ids)}

    @classmethod
    def from_json(cls, data: object) -> ModelSpec:
        """Read what `to_json` has written: exactly its keys, each of its own type.

        Raises:
            ValueError: an unknown, missing or ill-typed key; the caller knows the file.
        """
        if not isinstance(data, dict):
            raise ValueError(f"the model spec is {type(data).__name__}, it must be an object")
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(data) - set(known)):
            raise ValueError(f"the model spec has an unknown key {unknown[0]!r}")
        if missing := [name for name in known if name not in data]:
            raise ValueError(f"the model spec lacks the key {missing[0]!r}")
        tokens = data["eos_token_ids"]
        if not isinstance(tokens, list):
            raise ValueError(f"model spec: eos_token_ids is {tokens!r}, it must be a list")
        return cls(**{**data, "eos_token_ids": tuple(tokens)})


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _demand(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"model spec: {name} is {value!r}, it must be {wanted}")
