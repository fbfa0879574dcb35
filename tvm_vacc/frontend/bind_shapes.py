"""Gives the inputs of an ONNX graph the static shapes that a config asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from tvm_vacc.errors import ConfigError

_Dims = tuple[int, ...]


def bind_shapes(graph: onnx.GraphProto, shapes: Mapping[str, _Dims], path: Path) -> None:
    """Fix the shapes of inputs, in place.

    A symbolic dimension becomes its number wherever its name stands in a declared input or output.
    What the file notes about intermediate shapes is dropped: the importer infers it anew.

    Args:
        graph: of the file at `path`.
        shapes: input name to dimensions, for any of the inputs; a size below 1 leaves that
            dimension as it is declared.
        path: named in messages.

    Raises:
        ConfigError: a name is no input, a rank is another one, a dimension that the graph fixes is
            given another size, or one symbolic dimension is given two.
    """
    if not shapes:
        return
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    symbols: dict[str, tuple[int, str]] = {}
    for name, dims in shapes.items():
        if name not in inputs:
            raise ConfigError(
                f"frontend.shape.{name}: {path} has no such input",
                f"its inputs are {', '.join(inputs)}",
            )
        _bind(inputs[name], dims, symbols, path)
    for value in [*graph.input, *graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param][0]
    del graph.value_info[:]


def _bind(
    value: onnx.ValueInfoProto, dims: _Dims, symbols: dict[str, tuple[int, str]], path: Path
) -> None:
    """Note what `dims` makes of the symbols of one input; fix what has no name."""
    key = f"frontend.shape.{value.name}: {list(dims)}"
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):  # any rank: the config says which
        tensor.shape.dim.extend(
            onnx.TensorShapeProto.Dimension(dim_value=size)
            if size > 0
            else onnx.TensorShapeProto.Dimension(dim_param=f"{value.name}_{axis}")
            for axis, size in enumerate(dims)
        )
        return
    spelt = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in tensor.shape.dim)
    cure = f"{path} declares [{spelt}]: give {len(tensor.shape.dim)} dimensions that fit it"
    if len(tensor.shape.dim) != len(dims):
        raise ConfigError(f"{key} has {len(dims)} dimensions", cure)
    for axis, (dim, size) in enumerate(zip(tensor.shape.dim, dims, strict=True)):
        if size < 1:
            continue
        if dim.dim_param:
            known, by = symbols.setdefault(dim.dim_param, (size, value.name))
            if known != size:
                raise ConfigError(
                    f"{key} makes {dim.dim_param} {size}, {by} makes it {known}",
                    f"{path} has one size for both",
                )
        elif dim.HasField("dim_value") and dim.dim_value != size:
            raise ConfigError(f"{key} has {size} at axis {axis}", cure)
        else:
            dim.dim_value = size
