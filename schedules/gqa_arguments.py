"""The place of one tile of attention in the arguments of the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from schedules.gqa_context import Context


@dataclass(frozen=True)
class TileArguments:
    """Which tokens of which sequence a tile computes.

    Attributes:
        query: ``[tokens, heads, head_dim]`` fp32.
        context: keys and values of the sequence and KV head.
        first: first token of the tile, int32; tokens from `end` on are another row's.
        end: end of the row's tokens.
        kv_len: positions of the row.
    """

    query: tirx.Buffer
    context: Context
    first: Any
    end: Any
    kv_len: Any

    def seen(self, token: Any) -> Any:
        """Positions that `token` sees: all up to its own."""
        return self.kv_len - self.end + token + 1
