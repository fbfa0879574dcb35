"""RMSNorm over the last dimension, one token a row."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T


def rms_norm_kernel(hidden: int, eps: float, weight_dtype: str) -> tirx.PrimFunc:
    """Kernel ``(x [tokens, hidden] fp32, weight [hidden], out [tokens, hidden] fp32)``.

    Sixteen partial sums a row: a single one would chain every addition to the one before, and
    LLVM must not reorder floating-point sums by itself.
    """
    lanes = 16
    whole = hidden - hidden % lanes

    @T.prim_func(private=True)
    def rms_norm(x: T.handle, weight: T.handle, out: T.handle) -> None:
        T.func_attr({"tirx.noalias": True})
        tokens = T.int64()
        X = T.match_buffer(x, (tokens, hidden), "float32")
        W = T.match_buffer(weight, (hidden,), weight_dtype)
        O = T.match_buffer(out, (tokens, hidden), "float32")
        for token in T.serial(tokens):
            partial = T.alloc_buffer((lanes,), "float32", scope="local")
            total = T.alloc_buffer((1,), "float32", scope="local")
            for lane in T.vectorized(lanes):
                partial[lane] = T.float32(0)
            for block in T.serial(whole // lanes):
                for lane in T.vectorized(lanes):
                    partial[lane] += X[token, block * lanes + lane] * X[token, block * lanes + lane]
            total[0] = T.float32(0)
            for lane in T.serial(lanes):
                total[0] += partial[lane]
            for k in T.serial(hidden - whole):
                total[0] += X[token, whole + k] * X[token, whole + k]
            total[0] = T.float32(1) / T.sqrt(total[0] / T.float32(hidden) + T.float32(eps))
            for k in T.vectorized(hidden):
                O[token, k] = X[token, k] * total[0] * T.cast(W[k], "float32")

    return rms_norm
