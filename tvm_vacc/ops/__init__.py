"""The ``relax.tvm_vacc.*`` operators: one a file, with types, NumPy reference and legalisation."""

from tvm_vacc.ops.dequantize import dequantize
from tvm_vacc.ops.embedding import embedding
from tvm_vacc.ops.gqa_attention import gqa_attention
from tvm_vacc.ops.kv_append import kv_append
from tvm_vacc.ops.kv_gather import kv_gather
from tvm_vacc.ops.linear import linear
from tvm_vacc.ops.packed_linear import packed_linear
from tvm_vacc.ops.packed_quantized_linear import packed_quantized_linear
from tvm_vacc.ops.quantize import quantize
from tvm_vacc.ops.quantized_linear import quantized_linear
from tvm_vacc.ops.rms_norm import rms_norm
from tvm_vacc.ops.rope import rope
from tvm_vacc.ops.sample import sample
from tvm_vacc.ops.swiglu import swiglu
from tvm_vacc.ops.widen import widen

__all__ = [
    "dequantize",
    "embedding",
    "gqa_attention",
    "kv_append",
    "kv_gather",
    "linear",
    "packed_linear",
    "packed_quantized_linear",
    "quantize",
    "quantized_linear",
    "rms_norm",
    "rope",
    "sample",
    "swiglu",
    "widen",
]
