"""How much work a GLM's step is: bytes that it must read, operations that it must do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.peers.protocol import Description
from tvm_vacc.machine.speeds import Work
from tvm_vacc.model_spec import ModelSpec


@dataclass(frozen=True)
class Point:
    """One place of a sweep.

    Attributes:
        work: ``decode``: one step of every sequence; ``prefill``: a whole prompt.
        context: positions that each sequence has before.
        batch: sequences.
        tokens: new ones in all.
    """

    work: Literal["decode", "prefill"]
    context: int
    batch: int
    tokens: int

    @property
    def shape(self) -> str:
        """The sizes, for people."""
        if self.work == "prefill":
            return f"{self.tokens} tokens"
        return f"context {self.context}, batch {self.batch}"


def decode_point(context: int, batch: int) -> Point:
    """One step of `batch` sequences of `context` positions."""
    return Point("decode", context, batch, batch)


def prefill_point(tokens: int) -> Point:
    """A prompt of `tokens`."""
    return Point("prefill", 0, 1, tokens)


def parts_of(point: Point, description: Description, spec: ModelSpec) -> tuple[Work, ...]:
    """Return what must be done one after the other: the layers' products, the head, attention.

    Bytes are all weights once, and the cache that is looked at. A longer prompt is computed in
    pieces, each of which reads the weights again; the bound is that of a machine that need not.
    Operations are those of matrix products and attention, two a multiply-add: the head is needed
    once a sequence; attention looks at each earlier position and the token itself, once for the
    scores and once for the values.
    """
    width = spec.heads * spec.head_dim
    key_value = spec.kv_heads * spec.head_dim
    layer = spec.hidden * (2 * width + 2 * key_value + 3 * spec.intermediate)
    new = point.tokens // point.batch
    pairs = point.batch * (new * point.context + new * (new + 1) // 2)
    positions = point.batch * point.context + point.tokens
    unit = description.unit
    return (
        Work(
            description.weight_bytes - description.head_bytes,
            2.0 * point.tokens * spec.layers * layer,
            unit,
        ),
        Work(
            description.head_bytes,
            2.0 * point.batch * spec.vocab * spec.hidden,
            description.head_unit or unit,
        ),
        Work(
            positions * description.position_bytes,
            4.0 * pairs * spec.layers * width,
            description.attention_unit or unit,
        ),
    )
