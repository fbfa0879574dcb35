"""A panel of sums within a larger buffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.tirx.script import builder as T

from schedules.lanes import shift


@dataclass(frozen=True)
class Sums:
    """Sums of a panel: a row for each of activations, from `first_row` of the buffer on.

    Attributes:
        buffer: ``[rows, columns]``.
        first_row: of the panel.
        first_column: of the block of channels.
    """

    buffer: Any
    first_row: Any = 0
    first_column: Any = 0

    def __getitem__(self, place: tuple[Any, Any]) -> Any:
        """Return the sums at (row, channel); a channel may be a ramp."""
        return self.buffer[self._place(place)]

    def store(self, value: Any, place: tuple[Any, Any]) -> None:
        """Emit the store of sums."""
        T.buffer_store(self.buffer, value, self._place(place))

    def _place(self, place: tuple[Any, Any]) -> tuple[Any, Any]:
        row, channel = place
        return row + self.first_row, shift(channel, self.first_column)
