"""The bf16 instructions of 64-bit Arm as functions of LLVM IR: see `schedules.isa.bf16_dot`.

``bfdot`` adds two products of bf16 to each of four fp32 sums, ``bfcvtn`` rounds. Without FEAT_EBF16
a product's sum is rounded to odd, and subnormal numbers are taken for zero (Arm Architecture
Reference Manual, BFDOT). ``bfmmla`` does twice as much an instruction, on weights that would have
to stand in pairs of channels by four inputs: not in the layout that all processors share.
"""

from __future__ import annotations

ARM_LANES = 4

ARM_HELPERS = """
declare <4 x float> @llvm.aarch64.neon.bfdot.v4f32.v8bf16(<4 x float>, <8 x bfloat>, <8 x bfloat>)

define linkonce_odr <4 x float> @tvm_vacc_bf16_dot_4(
    <4 x float> %sums, <4 x i32> %left, <4 x i32> %right) alwaysinline nounwind memory(none) {
  %a = bitcast <4 x i32> %left to <8 x bfloat>
  %b = bitcast <4 x i32> %right to <8 x bfloat>
  %result = call <4 x float> @llvm.aarch64.neon.bfdot.v4f32.v8bf16(
      <4 x float> %sums, <8 x bfloat> %a, <8 x bfloat> %b)
  ret <4 x float> %result
}

define linkonce_odr <4 x i16> @tvm_vacc_bf16_round_4(<4 x float> %x)
    alwaysinline nounwind memory(none) {
  %rounded = fptrunc <4 x float> %x to <4 x bfloat>
  %result = bitcast <4 x bfloat> %rounded to <4 x i16>
  ret <4 x i16> %result
}

define linkonce_odr <4 x i32> @tvm_vacc_bf16_round_two_4(<4 x float> %low, <4 x float> %high)
    alwaysinline nounwind memory(none) {
  %both = shufflevector <4 x float> %low, <4 x float> %high,
      <8 x i32> <i32 0, i32 1, i32 2, i32 3, i32 4, i32 5, i32 6, i32 7>
  %rounded = fptrunc <8 x float> %both to <8 x bfloat>
  %result = bitcast <8 x bfloat> %rounded to <4 x i32>
  ret <4 x i32> %result
}
"""
