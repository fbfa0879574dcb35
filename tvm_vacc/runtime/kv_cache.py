"""The paged KV cache: which page belongs to which sequence.

Pages of 16 positions come from one pool that all sequences share (Kwon et al., 2023). The tensors
themselves are written and read by kernels through the page table alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm_vacc.errors import RequestError
from tvm_vacc.limits import PAGE_SIZE


@dataclass
class Sequence:
    """One row of a batch: the tokens whose keys and values are cached, and their pages."""

    tokens: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)


class PagePool:
    """Hands out the pages of the cache tensors.

    Args:
        pages: in the pool.
    """

    def __init__(self, pages: int) -> None:
        self._free = list(range(pages - 1, -1, -1))

    @property
    def free_pages(self) -> int:
        """Pages that belong to no sequence."""
        return len(self._free)

    def extend(self, sequence: Sequence, tokens: list[int]) -> list[int]:
        """Append `tokens` to `sequence` and return the slot of each: page * 16 + offset.

        Raises:
            RequestError: the pool has too few pages left; `sequence` is as it was.
        """
        first, last = len(sequence), len(sequence) + len(tokens)
        missing = -(-last // PAGE_SIZE) - len(sequence.pages)
        if missing > len(self._free):
            raise RequestError(
                f"the KV cache has {len(self._free)} free pages of {PAGE_SIZE} tokens, "
                f"{missing} are needed",
                "end another session, or load the model with more sequences",
            )
        sequence.pages.extend(self._free.pop() for _ in range(missing))
        sequence.tokens.extend(tokens)
        return [
            sequence.pages[position // PAGE_SIZE] * PAGE_SIZE + position % PAGE_SIZE
            for position in range(first, last)
        ]

    def truncate(self, sequence: Sequence, length: int) -> None:
        """Forget the tokens of `sequence` after the first `length`, and give their pages back."""
        keep = -(-length // PAGE_SIZE)
        self._free.extend(reversed(sequence.pages[keep:]))
        del sequence.pages[keep:]
        del sequence.tokens[length:]
