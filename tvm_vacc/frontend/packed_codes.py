"""Codes of 4 and 8 bits in 32-bit words, as GPTQ and compressed-tensors store them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

WORD_BYTES = 4


@dataclass(frozen=True)
class Packing:
    """How the codes ``[out, in]`` of a matrix stand in words.

    A word holds neighbours along ``in``, the first in its lowest bits, each as an unsigned number
    around ``2 ** (bits - 1)``.

    Attributes:
        bits: of a code.
        transposed: the words are ``[in / n, out]`` (GPTQ) and not ``[out, in / n]``
            (compressed-tensors), n being the codes a word.
        signed: codes stand in two's complement instead (ONNX).
    """

    bits: Literal[4, 8]
    transposed: bool
    signed: bool = False

    @property
    def codes_per_word(self) -> int:
        """Codes that a word holds."""
        return 8 * WORD_BYTES // self.bits

    def word_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the words of codes ``[out, in]``; the last word may be filled up."""
        rows, columns = shape
        words = -(-columns // self.codes_per_word)
        return (words, rows) if self.transposed else (rows, words)

    def fills(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of `shape` is a matrix whose rows fill whole words."""
        return len(shape) == 2 and shape[1] % self.codes_per_word == 0 < min(shape)

    def unpack(self, data: bytes | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the codes ``[out, in]`` int8, signed, of words in little-endian bytes."""
        rows, columns = shape
        stored = np.frombuffer(data, np.uint8).reshape(*self.word_shape(shape), WORD_BYTES)
        if self.transposed:
            stored = stored.transpose(1, 0, 2)
        if self.signed:  # the sign bit turned over: as the others are
            stored = stored ^ np.uint8(0x80 if self.bits == 8 else 0x88)
        if self.bits == 8:
            codes = (stored ^ np.uint8(0x80)).view(np.int8)
        else:
            codes = np.empty((*stored.shape, 2), np.int8)
            codes[..., 0] = stored & 0xF
            codes[..., 1] = stored >> 4
            codes -= 8
        return codes.reshape(rows, -1)[:, :columns]


SIGNED_NIBBLES = Packing(bits=4, transposed=False, signed=True)
"""INT4 of ONNX."""
