"""Sorts the parameters and constants of a function into inputs and weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import ir, relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from relay_passes.base import NUM_INPUT
from tvm_vacc.errors import ConfigError
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.runtime.tensors import to_numpy, to_tvm

_FLOATS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class TensorInMemory(TensorRef):
    """A weight that a script has handed over: it lies in memory, and `file` is only a word."""

    array: np.ndarray = field(kw_only=True, compare=False, repr=False)

    @staticmethod
    def of(name: str, array: np.ndarray) -> TensorInMemory:
        """Describe `array`."""
        where = Path("params")
        return TensorInMemory(name, where, 0, array.shape, str(array.dtype), array=array)

    def rows(self, start: int, stop: int) -> TensorRef:
        """Return the rows `start` to `stop` of the first axis."""
        return TensorInMemory.of(self.name, self.array[start:stop])

    def read(self) -> np.ndarray:
        """Return the array itself."""
        return self.array


@dataclass(frozen=True)
class BoundModule:
    """A module whose weights are told from its inputs.

    Attributes:
        module: its ``main`` takes the inputs first and the weights after them; attribute
            ``num_input`` says how many are inputs.
        weights: by parameter name, in the order of the parameters.
    """

    module: ir.IRModule
    weights: dict[str, TensorRef]

    @property
    def inputs(self) -> list[relax.Var]:
        """The parameters that are no weights."""
        main = self.module["main"]
        return list(main.params[: int(main.attrs[NUM_INPUT])])

    def frozen(self) -> ir.IRModule:
        """Return the module with its weights as constants of ``main``."""
        constants = {name: to_tvm(ref.read()) for name, ref in self.weights.items()}
        main = self.module["main"].with_attr(NUM_INPUT, len(self.inputs))
        module = with_main(self.module, main)
        return relax.transform.BindParams("main", constants)(module)


def bind_weights(module: ir.IRModule, params: Mapping[str, Any] | None) -> BoundModule:
    """Make weights of the parameters in `params`, and of all large constants of floats.

    A constant is a weight too: passes pack weights, and never fold or copy one.

    Raises:
        ConfigError: the module has no ``main``, or `params` does not fit it.
    """
    main = main_of(module)
    given = dict(params or {})
    arrays = {param.name: _array(given, param) for param in main.params if param.name in given}
    if unknown := sorted(given.keys() - arrays.keys()):
        names = [param.name for param in main.params]
        near = difflib.get_close_matches(unknown[0], names, n=1)
        raise ConfigError(
            f"params: main has no parameter {unknown[0]!r}",
            f"did you mean {near[0]!r}?" if near else f"its parameters: {', '.join(names)}",
        )
    lifter = _Lifter({param.name for param in main.params})
    body = lifter.visit_expr(main.body)
    inputs = [param for param in main.params if param.name not in arrays]
    weights = [param for param in main.params if param.name in arrays]
    function = relax.Function(
        [*inputs, *weights, *lifter.params], body, main.ret_ty, main.is_pure, main.attrs
    ).with_attr(NUM_INPUT, len(inputs))
    arrays |= lifter.arrays
    return BoundModule(
        with_main(module, function),
        {name: TensorInMemory.of(name, array) for name, array in arrays.items()},
    )


def main_of(module: ir.IRModule) -> relax.Function:
    """Return the function ``main``.

    Raises:
        ConfigError: there is none, or it is no Relax function.
    """
    names = [gvar.name_hint for gvar in module.get_global_vars()]
    if "main" not in names or not isinstance(module["main"], relax.Function):
        raise ConfigError(
            f"the module holds no Relax function main, but {', '.join(names) or 'nothing'}",
            "make it by relay.frontend.from_onnx, or by tvm.IRModule.from_expr(relay.Function(..))",
        )
    return module["main"]


def with_main(module: ir.IRModule, function: relax.Function) -> ir.IRModule:
    """Return a copy of `module` with `function` as its ``main``."""
    result = ir.IRModule(dict(module.functions_items()), attrs=module.attrs)
    result["main"] = function.with_attr("global_symbol", "main")
    return result


def _array(given: Mapping[str, Any], param: relax.Var) -> np.ndarray:
    value = given[param.name]
    array = to_numpy(value) if isinstance(value, tvm.runtime.Tensor) else np.asarray(value)
    shape = [int(dim) if isinstance(dim, tvm.tirx.IntImm) else None for dim in param.ty.shape]
    fits = len(shape) == array.ndim and all(
        dim in (None, size) for dim, size in zip(shape, array.shape, strict=True)
    )
    if not fits or str(array.dtype) != str(param.ty.dtype):
        raise ConfigError(
            f"params: {param.name} is {array.dtype}{list(array.shape)}, main takes {param.ty}",
            "convert it with astype or reshape",
        )
    return array


@mutator
class _Lifter(PyExprMutator):
    """Replaces constants of floats, unless they are scalars, by parameters."""

    def __init__(self, taken: set[str]) -> None:
        super().__init__()
        self.params: list[relax.Var] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._taken = taken
        self._lifted: dict[Any, relax.Var] = {}

    def visit_generic_const_(self, constant: ir.GenericConst) -> relax.Expr:
        ty = constant.ty
        if not isinstance(ty, relax.TensorType) or str(ty.dtype) not in _FLOATS:
            return constant
        if prod(int(dim) for dim in ty.shape) <= 1:
            return constant
        handle = constant.__chandle__()
        if handle not in self._lifted:
            name = self._fresh_name()
            self._lifted[handle] = relax.Var(name, ty)
            self.params.append(self._lifted[handle])
            self.arrays[name] = to_numpy(constant.value)
        return self._lifted[handle]

    def _fresh_name(self) -> str:
        number = len(self.params)
        while f"p{number}" in self._taken:
            number += 1
        self._taken.add(f"p{number}")
        return f"p{number}"
