"""Builds small modules by hand: what an exporter might have written, or nearly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import ir, relax, tirx

Shape = Sequence[Any]


def dim(name: str) -> tirx.Var:
    """A symbolic dimension."""
    return tirx.Var(name, "int64")


def module(
    inputs: dict[str, Shape],
    weights: dict[str, Shape],
    body: Callable[..., relax.Expr | list[relax.Expr]],
    dtypes: dict[str, str] | None = None,
) -> ir.IRModule:
    """A module whose `main` takes `inputs`, then `weights` (fp32 unless `dtypes` says otherwise).

    `body` gets ``emit`` and the parameters, and returns the result or results.
    """
    params = [
        relax.Var(name, relax.TensorType(list(shape), (dtypes or {}).get(name, "float32")))
        for name, shape in {**inputs, **weights}.items()
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            result = body(builder.emit, *params)
            result = relax.Tuple(result) if isinstance(result, list) else result
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    built = builder.get()
    built["main"] = built["main"].with_attr("num_input", len(inputs))
    return built
