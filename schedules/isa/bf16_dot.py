"""The bf16 instructions of AVX-512 and Arm for TIR kernels: dot products of pairs, and rounding.

TVM 0.27 gives LLVM no bfloat operands, so the instructions cannot be called as intrinsics: they
are wrapped in functions of LLVM IR over integers of the same bits, which a kernel imports (`with
bf16_instructions(): ...` round its body) and LLVM inlines to one instruction each. Only for a
target whose `Isa.dots_bf16` is true. Vectors have `Isa.lanes` of fp32.

Those of AVX-512 read subnormal bf16 as zero, and a subnormal sum or product becomes zero (Intel
64 and IA-32 Architectures Software Developer's Manual, VDPBF16PS and VCVTNE2PS2BF16).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from schedules.isa.arm_bf16 import ARM_HELPERS, ARM_LANES

_DOT = "tvm_vacc_bf16_dot"
_ROUND = "tvm_vacc_bf16_round"
_ROUND_TWO = "tvm_vacc_bf16_round_two"
"""Names of the functions, less the lanes of their vectors."""

# linkonce_odr: every kernel of a module imports its own copy.
_HELPERS = f"""
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
declare <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float>)
declare <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(<16 x float>, <16 x float>)

define linkonce_odr <16 x float> @{_DOT}_16(<16 x float> %sums, <16 x i32> %left, <16 x i32> %right)
    alwaysinline nounwind memory(none) {{
  %a = bitcast <16 x i32> %left to <32 x bfloat>
  %b = bitcast <16 x i32> %right to <32 x bfloat>
  %result = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(
      <16 x float> %sums, <32 x bfloat> %a, <32 x bfloat> %b)
  ret <16 x float> %result
}}

define linkonce_odr <16 x i16> @{_ROUND}_16(<16 x float> %x) alwaysinline nounwind memory(none) {{
  %rounded = call <16 x bfloat> @llvm.x86.avx512bf16.cvtneps2bf16.512(<16 x float> %x)
  %result = bitcast <16 x bfloat> %rounded to <16 x i16>
  ret <16 x i16> %result
}}

define linkonce_odr <16 x i32> @{_ROUND_TWO}_16(<16 x float> %low, <16 x float> %high)
    alwaysinline nounwind memory(none) {{
  %rounded = call <32 x bfloat> @llvm.x86.avx512bf16.cvtne2ps2bf16.512(
      <16 x float> %high, <16 x float> %low)
  %result = bitcast <32 x bfloat> %rounded to <16 x i32>
  ret <16 x i32> %result
}}
"""


def bf16_instructions(lanes: int) -> AbstractContextManager[Any]:
    """Return the context in which a kernel's body may call the functions below."""
    return T.attr(0, "pragma_import_llvm", ARM_HELPERS if lanes == ARM_LANES else _HELPERS)


def bf16_dot(sums: Any, left: Any, right: Any) -> tirx.Expr:
    """``sums[i] + left[i][0] * right[i][0] + left[i][1] * right[i][1]``: ``vdpbf16ps``, ``bfdot``.

    Args:
        sums: fp32 lanes.
        left: int32 lanes: lane i holds a pair of bf16, the first in the low half.
        right: likewise.

    Returns:
        fp32 lanes.
    """
    return _call(_DOT, "float32", sums, left, right)


def round_to_bf16(x: Any) -> tirx.Expr:
    """Round fp32 lanes to bf16, to nearest even: the bits as int16 lanes."""
    return _call(_ROUND, "int16", x)


def round_two_to_bf16(low: Any, high: Any) -> tirx.Expr:
    """Round two vectors of fp32 lanes to bf16: pairs as int32 lanes.

    The values of `low` come first, so the lower half of the lanes holds its pairs.
    """
    return _call(_ROUND_TWO, "int32", low, high)


def _call(name: str, result: str, x: Any, *others: Any) -> tirx.Expr:
    """Call a helper; `result` is the type of a lane of what it returns."""
    lanes = str(x.ty.dtype).partition("x")[2]
    return tirx.call_pure_extern(f"{result}x{lanes}", f"{name}_{lanes}", x, *others)
