"""ONNX Resize and Upsample: stock TVM's, and sizes and scales computed when the model runs."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from tvm import relax, tirx
from tvm.relax.frontend.onnx import onnx_frontend as stock
from tvm.relax.frontend.onnx.onnx_frontend import OnnxOpConverter

from tvm_vacc.frontend.onnx_converters._resample import Sampling, resample
from tvm_vacc.frontend.onnx_converters._run_time_shape import as_tensor, constant, dims_of

_Bb: TypeAlias = relax.BlockBuilder

_BEYOND_STOCK = ("antialias", "axes", "keep_aspect_ratio_policy")


class Resize(stock.Resize):
    """Inputs: X, roi, scales ``[axes]`` fp32, sizes ``[axes]`` int64: one of the last two.

    Stock TVM takes constants, images with their channels first, and not all attributes; what it
    does not take is resampled axis by axis.
    """

    @classmethod
    def _impl_v10(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        attr = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", **attr}
        return _resized(bb, inputs[0], None, inputs[1], None, attr)

    @classmethod
    def _impl_v11(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        x, region, scales, sizes = (_given(inputs[index]) for index in range(4))
        coordinates = _word(attr, "coordinate_transformation_mode", "half_pixel")
        plain = coordinates not in ("half_pixel_symmetric", "tf_crop_and_resize")
        known = constant(sizes if scales is None else scales)
        image = known is not None and (known.size in (3, 4, 5)) and len(x.ty.shape) == known.size
        if image and plain and not any(attr.get(name) for name in _BEYOND_STOCK):
            whole = known[:2] == 1 if scales is not None else [True] * 2
            if all(whole) and (scales is not None or _same_head(x, known)):
                return super()._impl_v18(bb, inputs, attr, params)
        return _resized(bb, x, region, scales, sizes, attr)

    _impl_v18 = _impl_v11


class Upsample(OnnxOpConverter):
    """Inputs: X, and scales ``[rank]`` fp32; before opset 9 they are an attribute."""

    @classmethod
    def _impl_v7(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        scales = relax.const(np.asarray(attr["scales"], np.float32))
        return Resize._impl_v10(bb, [inputs[0], scales], attr, params)

    @classmethod
    def _impl_v9(cls, bb: _Bb, inputs: Any, attr: dict[str, Any], params: Any) -> relax.Expr:
        return Resize._impl_v10(bb, inputs, attr, params)


def _given(value: Any) -> Any:
    """Return None for an empty constant, which exporters write for an input that is left out."""
    array = constant(value)
    return None if array is not None and array.size == 0 else value


def _same_head(x: relax.Expr, sizes: np.ndarray) -> bool:
    """Whether batch and channels stay."""
    pairs = zip(list(x.ty.shape)[:2], sizes[:2], strict=True)
    return all(isinstance(dim, int | tirx.IntImm) and dim == size for dim, size in pairs)


def _word(attr: dict[str, Any], name: str, default: str) -> str:
    value = attr.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def _resized(
    bb: _Bb,
    x: relax.Expr,
    region: relax.Expr | None,
    scales: relax.Expr | None,
    sizes: relax.Expr | None,
    attr: dict[str, Any],
) -> relax.Expr:
    rank = len(x.ty.shape)
    axes = [int(axis) % rank for axis in attr.get("axes") or range(rank)]
    how = Sampling(
        mode=_word(attr, "mode", "nearest"),
        coordinates=_word(attr, "coordinate_transformation_mode", "half_pixel"),
        nearest=_word(attr, "nearest_mode", "round_prefer_floor"),
        cubic=float(attr.get("cubic_coeff_a", -0.75)),
        antialias=bool(attr.get("antialias", 0)),
        exclude_outside=bool(attr.get("exclude_outside", 0)),
        extrapolation=float(attr.get("extrapolation_value", 0.0)),
    )
    have_A = _float64(bb, as_tensor(bb, [x.ty.shape[axis] for axis in axes]))
    if scales is not None:
        scale_A = _float64(bb, scales)
        sizes_A = relax.op.floor(bb.emit(relax.op.multiply(scale_A, have_A)))
        sizes = bb.emit(relax.op.astype(bb.emit(sizes_A), "int64"))
    else:
        scale_A = bb.emit(relax.op.divide(_float64(bb, _tensor(bb, sizes)), have_A))
        policy = _word(attr, "keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            scale_A, sizes = _alike(bb, scale_A, have_A, smallest=policy == "not_larger")
    told = constant(sizes) if sizes is not None else None
    dims = [int(size) for size in told] if told is not None else dims_of(bb, _tensor(bb, sizes))
    unit = constant(scales) if scales is not None else None
    cropped = how.coordinates == "tf_crop_and_resize"
    for place, axis in enumerate(axes):
        if unit is not None and unit[place] == 1 and not cropped:
            continue
        part = None
        if cropped:
            ends = [place, place + len(axes)]
            part = bb.emit(relax.op.take(_float64(bb, region), relax.const(ends, "int64"), 0))
        scale = bb.emit(relax.op.strided_slice(scale_A, [0], [place], [place + 1]))
        x = resample(bb, x, axis, dims[place], scale, part, how)
    return x


def _alike(
    bb: _Bb, scale_A: relax.Expr, have_A: relax.Expr, *, smallest: bool
) -> tuple[relax.Expr, relax.Expr]:
    """Return one scale for all axes, and the sizes that it makes, halves rounded up."""
    best = (relax.op.min if smallest else relax.op.max)(scale_A, 0, keepdims=True)
    scale_A = bb.emit(relax.op.multiply(bb.emit(relax.op.ones_like(scale_A)), bb.emit(best)))
    exact = bb.emit(relax.op.multiply(scale_A, have_A))
    half = bb.emit(relax.op.add(exact, relax.const(0.5, "float64")))
    return scale_A, bb.emit(relax.op.astype(bb.emit(relax.op.floor(half)), "int64"))


def _tensor(bb: _Bb, value: Any) -> relax.Expr:
    return as_tensor(bb, value.values) if isinstance(value, relax.ShapeExpr) else value


def _float64(bb: _Bb, value: Any) -> relax.Expr:
    return bb.emit(relax.op.astype(_tensor(bb, value), "float64"))
