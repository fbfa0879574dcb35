"""ONNX operators that stock TVM lacks or gets wrong, one converter a file.

A converter subclasses TVM's `OnnxOpConverter`: its methods are named ``_impl_v<opset>`` and the
newest one not newer than the model's opset is taken.
"""

from __future__ import annotations

from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter, _get_convert_map

from tvm_vacc.frontend.onnx_converters.attention import Attention
from tvm_vacc.frontend.onnx_converters.constant import Constant
from tvm_vacc.frontend.onnx_converters.expand import Expand
from tvm_vacc.frontend.onnx_converters.gather import Gather
from tvm_vacc.frontend.onnx_converters.range import Range
from tvm_vacc.frontend.onnx_converters.reshape import Reshape
from tvm_vacc.frontend.onnx_converters.rotary_embedding import RotaryEmbedding
from tvm_vacc.frontend.onnx_converters.sequence_at import SequenceAt
from tvm_vacc.frontend.onnx_converters.slice import Slice
from tvm_vacc.frontend.onnx_converters.split_to_sequence import SplitToSequence
from tvm_vacc.frontend.onnx_converters.swish import Swish

_OURS = (
    Attention,
    Constant,
    Expand,
    Gather,
    Range,
    Reshape,
    RotaryEmbedding,
    SequenceAt,
    Slice,
    SplitToSequence,
    Swish,
)

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
    return {**microsoft, **standard, **ours}
