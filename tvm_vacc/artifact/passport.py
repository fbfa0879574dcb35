"""What a manifest says of the accuracy that was measured when the artefact was compiled."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", strict=True)

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=_STRICT)
class Largest:
    """Largest magnitudes in one layer.

    Attributes:
        hidden: of the hidden state after the layer.
        key: of what was appended to the key cache, before it was rounded.
        value: likewise of values.
    """

    hidden: NotNegative
    key: NotNegative
    value: NotNegative


@dataclass(frozen=True, config=_STRICT)
class LayerAccuracy:
    """The hidden state after one layer, against the reference's.

    Attributes:
        cosine: mean over the tokens.
        relative_error: norm of the difference over the norm of the reference, of all tokens.
        prefill: largest magnitudes in steps of many tokens.
        decode: largest magnitudes in steps of one token.
    """

    cosine: float
    relative_error: NotNegative
    prefill: Largest
    decode: Largest


@dataclass(frozen=True, config=_STRICT)
class Replay:
    """What can be measured again without the checkpoint: `tvmc verify` does.

    Attributes:
        perplexity: of the yardstick text, a token.
        top1: share of positions at which the reference finds the same token most probable.
        top_kl_mean: mean KL divergence from the reference in nats, over the reference's most
            probable tokens and one bucket for all others: at most the true divergence.
        top_kl_p99: its 99th percentile.
    """

    perplexity: Positive
    top1: Share
    top_kl_mean: NotNegative
    top_kl_p99: NotNegative


@dataclass(frozen=True, config=_STRICT)
class Accuracy:
    """What was measured at compile time.

    Attributes:
        kl_mean: mean KL divergence from the reference in nats, over the whole vocabulary.
        kl_p99: its 99th percentile.
        replay: what `tvmc verify` measures again.
        layers: from the first layer to the last.
    """

    kl_mean: NotNegative
    kl_p99: NotNegative
    replay: Replay
    layers: tuple[LayerAccuracy, ...]


@dataclass(frozen=True, config=_STRICT)
class Passport:
    """An artefact's accuracy on its yardstick text.

    The reference is transformers' GLM in fp32, on the checkpoint's own weights.

    Attributes:
        text: the file's name; empty for the text that the package brings.
        text_sha256: of the text.
        tokens: of the text that were scored.
        reference_perplexity: of the reference, a token.
        tolerance: share by which a replay may be worse than what is stated.
        accuracy: what was measured; None where the artefact cannot run on the machine that made it.
        note: why it was not measured; empty where it was.
        promoted: layers whose KV cache has a wider range than the rest: their keys or values come
            near the end of fp16 in the reference, or pass it.
    """

    text: str
    text_sha256: str
    tokens: Annotated[int, Field(ge=1)]
    reference_perplexity: Positive
    tolerance: NotNegative
    accuracy: Accuracy | None
    note: str = ""
    promoted: tuple[int, ...] = ()
