"""Resampling along one axis, by a factor that may be computed when the model runs.

Source: ONNX, docs/Operators.md, Resize; its reference in onnx/reference/ops/op_resize.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from tvm import relax, te, tirx

from tvm_vacc.frontend.onnx_converters._run_time_shape import dims_of

_Bb: TypeAlias = relax.BlockBuilder
_REACH = {"linear": 1, "cubic": 2}
"""Elements to either side that a result depends on."""

_AS_IT_STANDS = {"op_pattern": 8, "tirx.is_scheduled": True}
"""Fused with nothing (8 is opaque), and left to no schedule of TVM's: where a sum reads is computed
from data, and TVM's analysis of GEMVs asserts that it is not."""


@dataclass(frozen=True)
class Sampling:
    """The attributes of a Resize that say how.

    Attributes:
        mode: ``nearest``, ``linear`` or ``cubic``.
        coordinates: `coordinate_transformation_mode`.
        nearest: `nearest_mode`.
        cubic: `cubic_coeff_a`.
        antialias: smaller results are means of all that they cover.
        exclude_outside: what lies outside has no weight; else the edge stands for it.
        extrapolation: the value outside of the region of ``tf_crop_and_resize``.
    """

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    antialias: bool
    exclude_outside: bool
    extrapolation: float


def resample(
    bb: _Bb,
    x: relax.Expr,
    axis: int,
    size: Any,
    scale: relax.Expr,
    region: relax.Expr | None,
    how: Sampling,
) -> relax.Expr:
    """Return `x` with `size` elements along `axis`.

    Args:
        bb: takes the bindings.
        x: a tensor of any dtype for ``nearest``, else of floats.
        axis: counted from zero.
        size: a number or a variable.
        scale: ``[1]`` float64: by what it grows.
        region: ``[2]`` float64: begin and end, in parts of the axis; ``tf_crop_and_resize`` only.
        how: the rest.
    """
    length = x.ty.shape[axis]
    operands = [scale] if region is None else [scale, region]

    def place(scale: te.Tensor, region: te.Tensor | None = None) -> te.Tensor:
        def element(index: tirx.Var) -> tirx.Expr:
            return _place(how.coordinates, index, size, length, scale[0], region)

        return te.compute((size,), element, name="place")

    place_O = bb.emit_te(place, *operands)
    result = (_nearest if how.mode == "nearest" else _weighted)(
        bb, x, axis, size, scale, place_O, how
    )
    if how.coordinates != "tf_crop_and_resize":
        return result

    def cropped(y: te.Tensor, place: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Var) -> tirx.Expr:
            is_inside = tirx.all(place[at[axis]] >= 0, place[at[axis]] <= _float(length - 1))
            return tirx.Select(is_inside, y(*at), tirx.const(how.extrapolation, y.dtype))

        return te.compute(y.shape, element, name="cropped")

    return bb.emit_te(cropped, result, place_O)


def _float(value: Any) -> tirx.Expr:
    return tirx.Cast("float64", value)


def _place(
    coordinates: str, index: Any, size: Any, length: Any, scale: Any, region: Any
) -> tirx.Expr:
    """Return where in the source element `index` of the result lies."""
    whole = scale * _float(length)  # the size before it was rounded
    half = tirx.const(0.5, "float64")
    at = _float(index)
    last = _float(length - 1)
    one = tirx.const(1.0, "float64")
    if coordinates == "align_corners":
        return tirx.if_then_else(whole == one, 0 * half, at * last / (whole - one))
    if coordinates == "asymmetric":
        return at / scale
    if coordinates == "tf_crop_and_resize":
        width = (region[1] - region[0]) * last
        inner = tirx.if_then_else(whole == one, width * half, at * width / (whole - one))
        return inner + region[0] * last
    centre = (at + half) / scale - half
    if coordinates == "half_pixel_symmetric":
        return centre + _float(length) * half * (one - _float(size) / whole)
    if coordinates == "pytorch_half_pixel":
        return tirx.if_then_else(whole == one, -half, centre)
    if coordinates == "half_pixel":
        return centre
    raise NotImplementedError(f"Resize with coordinate_transformation_mode {coordinates}")


def _nearest(
    bb: _Bb,
    x: relax.Expr,
    axis: int,
    size: Any,
    scale: relax.Expr,
    place_O: relax.Expr,
    how: Sampling,
) -> relax.Expr:
    half = tirx.const(0.5, "float64")
    rounded = {
        "round_prefer_floor": lambda place: tirx.ceil(place - half),
        "round_prefer_ceil": lambda place: tirx.floor(place + half),
        "floor": tirx.floor,
        "ceil": tirx.ceil,
    }[how.nearest]

    def pick(x: te.Tensor, place: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Var) -> tirx.Expr:
            source = list(at)
            source[axis] = _clipped(rounded(place[at[axis]]), x.shape[axis])
            return x(*source)

        return te.compute(_resized(x.shape, axis, size), element, name="nearest")

    return bb.emit_te(pick, x, place_O)


def _weighted(
    bb: _Bb,
    x: relax.Expr,
    axis: int,
    size: Any,
    scale: relax.Expr,
    place_O: relax.Expr,
    how: Sampling,
) -> relax.Expr:
    """Sum the elements round each place, weighted by a linear or cubic kernel."""
    reach, length = _REACH[how.mode], x.ty.shape[axis]
    taps: Any = 2 * reach
    narrow = relax.const(1.0, "float64")
    if how.antialias:  # a smaller result depends on as many more elements
        narrow = bb.emit(relax.op.minimum(scale, narrow))
        wide = relax.op.divide(relax.const(float(reach), "float64"), narrow)
        half = bb.emit(relax.op.astype(bb.emit(relax.op.ceil(bb.emit(wide))), "int64"))
        [taps] = dims_of(bb, bb.emit(relax.op.multiply(half, relax.const(2, "int64"))))
    narrow = bb.emit(relax.op.reshape(narrow, [1]))

    def first(place: Any, taps: Any) -> tirx.Expr:
        return tirx.Cast("int64", tirx.floor(place)) - tirx.floordiv(taps, 2) + 1

    def weigh(place: te.Tensor, narrow: te.Tensor) -> te.Tensor:
        def element(index: tirx.Var, tap: tirx.Var) -> tirx.Expr:
            source = first(place[index], taps) + tap
            distance = tirx.abs(_float(source) - place[index]) * narrow[0]
            weight = _kernel(how, distance)
            if how.exclude_outside:
                weight = tirx.Select(
                    tirx.all(source >= 0, source < length), weight, tirx.const(0.0, "float64")
                )
            return weight

        return te.compute((size, taps), element, name="weights")

    weight_OT = bb.emit_te(weigh, place_O, narrow)
    if how.antialias or how.exclude_outside:
        total = bb.emit(relax.op.sum(weight_OT, 1, keepdims=True))
        weight_OT = bb.emit(relax.op.divide(weight_OT, total))
    weight_OT = bb.emit(relax.op.astype(weight_OT, x.ty.dtype))

    def add(x: te.Tensor, place: te.Tensor, weight: te.Tensor) -> te.Tensor:
        tap = te.reduce_axis((0, weight.shape[1]), name="tap")

        def element(*at: tirx.Var) -> tirx.Expr:
            source = list(at)
            source[axis] = _clipped(first(place[at[axis]], weight.shape[1]) + tap, x.shape[axis])
            return te.sum(weight[at[axis], tap] * x(*source), axis=tap)

        return te.compute(_resized(x.shape, axis, size), element, name="resampled")

    return bb.emit_te(add, x, place_O, weight_OT, primfunc_attrs=_AS_IT_STANDS)


def _kernel(how: Sampling, distance: Any) -> tirx.Expr:
    one, zero = tirx.const(1.0, "float64"), tirx.const(0.0, "float64")
    if how.mode == "linear":
        return tirx.max(one - distance, zero)
    a = tirx.const(how.cubic, "float64")
    near = ((a + 2) * distance - (a + 3)) * distance * distance + one
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return tirx.Select(distance <= 1, near, tirx.Select(distance < 2, far, zero))


def _clipped(index: Any, length: Any) -> tirx.Expr:
    zero = tirx.const(0, "int64")
    return tirx.max(zero, tirx.min(tirx.Cast("int64", index), length - 1))


def _resized(shape: Any, axis: int, size: Any) -> list[Any]:
    return [size if index == axis else dim for index, dim in enumerate(shape)]
