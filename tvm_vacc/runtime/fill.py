"""Arrays for inputs of a graph that nobody gave any for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tvm_vacc.artifact.manifest import TensorSpec
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import RequestError

FILL_MODES = ("random", "zeros", "ones")


def fill_inputs(
    specs: Sequence[TensorSpec],
    given: Mapping[str, np.ndarray],
    mode: str,
    shapes: Mapping[str, Sequence[int]],
    *,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return `given`, and arrays for the inputs of `specs` that are missing in it.

    Random floats are in [0, 1), 8-bit integers below 128, bools either; wider integers are 0 or 1:
    they are ids, lengths or masks, and those are valid for any table.

    Args:
        specs: the inputs; a text in a shape is a symbolic dimension.
        given: arrays by name.
        mode: of `FILL_MODES`.
        shapes: of inputs that are to be filled, where the graph leaves dimensions open; what
            `given` tells of a dimension, and one input of another, need not be said.
        seed: of the random numbers.

    Raises:
        RequestError: a dimension is not known, or a shape does not fit.
    """
    names = [spec.name for spec in specs]
    for name in (*given, *shapes):
        if name not in names:
            raise RequestError(f"the model has no input {name!r}", f"it has: {', '.join(names)}")
    for name in shapes:
        if name in given:
            raise RequestError(f"the input {name!r} has an array and a shape", "give one of them")
    dims: dict[str, int] = {}
    for spec in specs:
        if spec.name in given or spec.name in shapes:
            known = shapes[spec.name] if spec.name in shapes else given[spec.name].shape
            if len(known) != len(spec.shape):
                raise RequestError(
                    f"the input {spec.name!r} has {len(spec.shape)} dimensions, the shape given "
                    f"has {len(known)}",
                    f"it takes {_text(spec)}",
                )
            for size, dim in zip(known, spec.shape, strict=True):
                if isinstance(dim, str):
                    dims.setdefault(dim, size)
                elif size != dim:
                    raise RequestError(
                        f"the input {spec.name!r} takes {_text(spec)}, not {list(known)}",
                        "give the graph's own sizes",
                    )
    rng = np.random.default_rng(seed)
    filled = dict(given)
    for spec in specs:
        if spec.name not in given:
            shape = tuple(shapes[spec.name] if spec.name in shapes else _shape(spec, dims))
            filled[spec.name] = _array(shape, spec.dtype, mode, rng)
    return filled


def _shape(spec: TensorSpec, dims: Mapping[str, int]) -> list[int]:
    shape = []
    for dim in spec.shape:
        if isinstance(dim, str) and dim not in dims:
            known = [dims.get(size, 1) if isinstance(size, str) else size for size in spec.shape]
            sizes = ",".join(map(str, known))
            raise RequestError(
                f"the input {spec.name!r} is {_text(spec)}, and {dim} is not known",
                f'give an array for it, or its shape: --input-shapes "{spec.name}:[{sizes}]"',
            )
        shape.append(dims[dim] if isinstance(dim, str) else dim)
    return shape


def _array(shape: tuple[int, ...], dtype: str, mode: str, rng: np.random.Generator) -> np.ndarray:
    kind = NUMPY_DTYPES.get(dtype) or np.dtype(dtype)
    if mode != "random":
        return np.full(shape, mode == "ones", kind)
    if kind.kind in "iu":
        return rng.integers(0, 128 if kind.itemsize == 1 else 2, shape).astype(kind)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(kind)
    return rng.random(shape, np.float32).astype(kind)


def _text(spec: TensorSpec) -> str:
    return f"{spec.dtype}[{', '.join(map(str, spec.shape))}]"
