"""ONNX operators that stock TVM lacks or gets wrong, one converter a file.

A converter subclasses TVM's `OnnxOpConverter`: its methods are named ``_impl_v<opset>`` and the
newest one not newer than the model's opset is taken.
"""

from __future__ import annotations

from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter, _get_convert_map

from tvm_vacc.frontend.onnx_converters.attention import Attention
from tvm_vacc.frontend.onnx_converters.constant import Constant
from tvm_vacc.frontend.onnx_converters.constant_of_shape import ConstantOfShape
from tvm_vacc.frontend.onnx_converters.cumulative import CumProd, CumSum
from tvm_vacc.frontend.onnx_converters.dequantize_linear import DequantizeLinear
from tvm_vacc.frontend.onnx_converters.dynamic_quantize_linear import DynamicQuantizeLinear
from tvm_vacc.frontend.onnx_converters.dynamic_quantize_matmul import DynamicQuantizeMatMul
from tvm_vacc.frontend.onnx_converters.elementwise import (
    BitCast,
    BitShift,
    Elu,
    EyeLike,
    IsInf,
    Mod,
    Pow,
    Size,
)
from tvm_vacc.frontend.onnx_converters.expand import Expand
from tvm_vacc.frontend.onnx_converters.gather import Gather
from tvm_vacc.frontend.onnx_converters.group_query_attention import GroupQueryAttention
from tvm_vacc.frontend.onnx_converters.integer_conv import ConvInteger, QLinearConv
from tvm_vacc.frontend.onnx_converters.layer_normalization import LayerNormalization
from tvm_vacc.frontend.onnx_converters.lp_normalization import LpNormalization
from tvm_vacc.frontend.onnx_converters.matmul import MatMul
from tvm_vacc.frontend.onnx_converters.matmul_integer import MatMulInteger
from tvm_vacc.frontend.onnx_converters.matmul_nbits import MatMulNBits
from tvm_vacc.frontend.onnx_converters.multi_head_attention import MultiHeadAttention
from tvm_vacc.frontend.onnx_converters.narrow_cast import NarrowCast
from tvm_vacc.frontend.onnx_converters.one_hot import OneHot
from tvm_vacc.frontend.onnx_converters.pad import Pad
from tvm_vacc.frontend.onnx_converters.qgemm import QGemm
from tvm_vacc.frontend.onnx_converters.qlinear_elementwise import QLinearAdd, QLinearMul
from tvm_vacc.frontend.onnx_converters.qlinear_matmul import QLinearMatMul
from tvm_vacc.frontend.onnx_converters.quantize_linear import QuantizeLinear
from tvm_vacc.frontend.onnx_converters.range import Range
from tvm_vacc.frontend.onnx_converters.reduce import reduction_converters
from tvm_vacc.frontend.onnx_converters.reshape import Reshape
from tvm_vacc.frontend.onnx_converters.resize import Resize, Upsample
from tvm_vacc.frontend.onnx_converters.reverse_sequence import ReverseSequence
from tvm_vacc.frontend.onnx_converters.rms_normalization import RMSNormalization
from tvm_vacc.frontend.onnx_converters.rotary_embedding import (
    MicrosoftRotaryEmbedding,
    RotaryEmbedding,
)
from tvm_vacc.frontend.onnx_converters.sequence_at import SequenceAt
from tvm_vacc.frontend.onnx_converters.simplified_layer_normalization import (
    SimplifiedLayerNormalization,
    SkipSimplifiedLayerNormalization,
)
from tvm_vacc.frontend.onnx_converters.slice import Slice
from tvm_vacc.frontend.onnx_converters.softmax import Softmax
from tvm_vacc.frontend.onnx_converters.split import Split
from tvm_vacc.frontend.onnx_converters.split_to_sequence import SplitToSequence
from tvm_vacc.frontend.onnx_converters.swish import Swish
from tvm_vacc.frontend.onnx_converters.tensor_scatter import TensorScatter
from tvm_vacc.frontend.onnx_converters.top_k import TopK
from tvm_vacc.frontend.onnx_converters.trilu import Trilu
from tvm_vacc.frontend.onnx_narrow_types import NARROW_CAST

_OURS: tuple[type[OnnxOpConverter], ...] = (
    Attention,
    BitCast,
    BitShift,
    Constant,
    ConstantOfShape,
    ConvInteger,
    CumProd,
    CumSum,
    DequantizeLinear,
    DynamicQuantizeLinear,
    Elu,
    Expand,
    EyeLike,
    Gather,
    IsInf,
    LayerNormalization,
    LpNormalization,
    MatMul,
    MatMulInteger,
    Mod,
    OneHot,
    Pad,
    Pow,
    QLinearConv,
    QLinearMatMul,
    QuantizeLinear,
    Range,
    Reshape,
    Resize,
    RMSNormalization,
    ReverseSequence,
    RotaryEmbedding,
    SequenceAt,
    SimplifiedLayerNormalization,
    Size,
    Slice,
    Softmax,
    Split,
    SplitToSequence,
    Swish,
    TensorScatter,
    TopK,
    Trilu,
    Upsample,
    *reduction_converters(),
)

_OURS_QUANTIZED_MICROSOFT: tuple[type[OnnxOpConverter], ...] = (
    DequantizeLinear,
    DynamicQuantizeMatMul,
    MatMulNBits,
    QGemm,
    QLinearAdd,
    QLinearMul,
    QuantizeLinear,
)

_OURS_MICROSOFT = {
    "GroupQueryAttention": GroupQueryAttention,
    "MultiHeadAttention": MultiHeadAttention,
    "RotaryEmbedding": MicrosoftRotaryEmbedding,
    "SimplifiedLayerNormalization": SimplifiedLayerNormalization,
    "SkipSimplifiedLayerNormalization": SkipSimplifiedLayerNormalization,
}

_STOCK_MICROSOFT = (
    "Attention",
    "BiasGelu",
    "EmbedLayerNormalization",
    "FastGelu",
    "MatMulInteger16",
    "SkipLayerNormalization",
)


def converter_map() -> dict[tuple[str, str], type[OnnxOpConverter]]:
    """Return the converter of every supported operator by (domain, operator type).

    Stock TVM keeps the operators of all domains in one map by bare name, so that ONNX's
    `Attention` would meet the converter of com.microsoft's; here the domain decides.
    """
    stock = _get_convert_map()
    microsoft = {("com.microsoft", name): stock[name] for name in _STOCK_MICROSOFT}
    standard = {("", name): conv for name, conv in stock.items() if name not in _STOCK_MICROSOFT}
    ours = {("", converter.__name__): converter for converter in _OURS}
    ours |= {("com.microsoft", name): one for name, one in _OURS_MICROSOFT.items()}
    ours |= {
        ("com.microsoft", converter.__name__): converter for converter in _OURS_QUANTIZED_MICROSOFT
    }
    ours["", NARROW_CAST] = NarrowCast
    return {**microsoft, **standard, **ours}
