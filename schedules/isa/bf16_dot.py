"""The bf16 instructions of AVX-512 for TIR kernels: dot products of pairs, and rounding.

TVM 0.27 gives LLVM no bfloat operands, so the instructions cannot be called as intrinsics: they
are wrapped in functions of LLVM IR over integers of the same bits, which a kernel imports (`with
bf16_instructions(): ...` round its body) and LLVM inlines to one instruction each. Only for a
target whose `Isa.dots_bf16` is true.

The instructions read subnormal bf16 as zero, and a subnormal sum or product becomes zero (Intel
64 and IA-32 Architectures Software Developer's Manual, VDPBF16PS and VCVTNE2PS2BF16).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

_DOT = "tvm_vacc_bf16_dot"
_ROUND = "tvm_vacc_bf16_round"
_ROUND_TWO = "tvm_vacc_bf16_round_two"

# linkonce_odr: every kernel of a module imports its own copy.
_HELPERS = f"""
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
declare <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float>)
declare <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float>, <16 x float>)

define linkonce_odr <16 x float> @{_DOT}(<16 x float> %sums, <16 x i32> %left, <16 x i32> %right)
    alwaysinline nounwind memory(none) {{
  %a = bitcast <16 x i32> %left to <32 x bfloat>
  %b = bitcast <16 x i32> %right to <32 x bfloat>
  %result = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
      <16 x float> %sums, <32 x bfloat> %a, <32 x bfloat> %b)
  ret <16 x float> %result
}}

define linkonce_odr <16 x i16> @{_ROUND}(<16 x float> %x) alwaysinline nounwind memory(none) {{
  %rounded = call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float> %x)
  %result = bitcast <16 x bfloat> %rounded to <16 x i16>
  ret <16 x i16> %result
}}

define linkonce_odr <16 x i32> @{_ROUND_TWO}(<16 x float> %low, <16 x float> %high)
    alwaysinline nounwind memory(none) {{
  %rounded = call <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(
      <16 x float> %high, <16 x float> %low)
  %result = bitcast <32 x bfloat> %rounded to <16 x i32>
  ret <16 x i32> %result
}}
"""


def bf16_instructions() -> AbstractContextManager[Any]:
    """Return the context in which a kernel's body may call the functions below."""
    return T.attr(0, "pragma_import_llvm", _HELPERS)


def bf16_dot(sums: Any, left: Any, right: Any) -> tirx.Expr:
    """``sums[i] + left[i][0] * right[i][0] + left[i][1] * right[i][1]``: ``vdpbf16ps``.

    Args:
        sums: float32x16.
        left: int32x16: lane i holds a pair of bf16, the first in the low half.
        right: int32x16, likewise.

    Returns:
        float32x16.
    """
    return tirx.call_pure_extern("float32x16", _DOT, sums, left, right)


def round_to_bf16(x: Any) -> tirx.Expr:
    """Round float32x16 to bf16, to nearest even (``vcvtneps2bf16``): the bits as int16x16."""
    return tirx.call_pure_extern("int16x16", _ROUND, x)


def round_two_to_bf16(low: Any, high: Any) -> tirx.Expr:
    """Round two float32x16 to bf16 (``vcvtne2ps2bf16``): 32 values, pairs as int32x16.

    The values of `low` come first, so lanes 0 to 7 hold its pairs and 8 to 15 those of `high`.
    """
    return tirx.call_pure_extern("int32x16", _ROUND_TWO, low, high)
