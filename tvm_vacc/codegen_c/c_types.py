"""C types of TIR data types, scalars and vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm_vacc.errors import TargetError

_BASES = {
    "bool": ("bool", "bool", 1),
    "int8": ("int8_t", "i8", 1),
    "int16": ("int16_t", "i16", 2),
    "int32": ("int32_t", "i32", 4),
    "int64": ("int64_t", "i64", 8),
    "uint8": ("uint8_t", "u8", 1),
    "uint16": ("uint16_t", "u16", 2),
    "uint32": ("uint32_t", "u32", 4),
    "uint64": ("uint64_t", "u64", 8),
    "float16": ("vacc_f16", "f16", 2),
    "bfloat16": ("vacc_bf16", "bf16", 2),
    "float32": ("float", "f32", 4),
    "float64": ("double", "f64", 8),
}
"""By TIR's name: the type in C, the suffix of functions on it, bytes."""


@dataclass(frozen=True)
class CType:
    """A scalar, or a vector of `lanes` of them.

    Attributes:
        base: TIR's name of the scalar, ``float32``.
        lanes: 1 for a scalar.
    """

    base: str
    lanes: int = 1

    @property
    def scalar(self) -> str:
        """The scalar's name in C: ``float``."""
        return _BASES[self.base][0]

    @property
    def suffix(self) -> str:
        """What names of functions on it end in: ``f32``, ``f32x16``."""
        short = _BASES[self.base][1]
        return short if self.lanes == 1 else f"{short}x{self.lanes}"

    @property
    def name(self) -> str:
        """The name in C: ``float``, ``vacc_f32x16``."""
        return self.scalar if self.lanes == 1 else f"vacc_{self.suffix}"

    @property
    def scalar_bytes(self) -> int:
        """Bytes of one lane."""
        return _BASES[self.base][2]

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type, of storage or of arithmetic."""
        return "float" in self.base

    @property
    def is_half(self) -> bool:
        """Whether it is a 16-bit float: C99 stores it and does not compute in it."""
        return self.base in ("float16", "bfloat16")

    @property
    def is_signed(self) -> bool:
        """Whether it is a signed integer."""
        return self.base.startswith("int")

    def of(self, base: str) -> CType:
        """Return the type of as many lanes of `base`."""
        return CType(base, self.lanes)

    @property
    def mask(self) -> CType:
        """The type of comparisons: a bool, or lanes of int32 that are 0 or -1."""
        return CType("bool") if self.lanes == 1 else CType("int32", self.lanes)


def c_type(dtype: Any) -> CType:
    """Return the C type of a TIR data type.

    Raises:
        TargetError: C has no such type, as fp8.
    """
    base, _, lanes = str(dtype).partition("x")
    if base not in _BASES:
        raise TargetError(f"the data type {dtype} has no form in C", "compile for tvm_vacc instead")
    count = int(lanes or 1)
    if count & (count - 1):
        raise TargetError(
            f"vectors of {count} lanes have no form in C", "compile for tvm_vacc instead"
        )
    return CType(base, count)


def c_type_of(expr: Any) -> CType:
    """Return the C type of a TIR expression's value; masks of vectors are int32."""
    found = c_type(expr.ty.dtype)
    return found.mask if found.base == "bool" else found
