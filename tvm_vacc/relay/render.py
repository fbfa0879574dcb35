"""Relax expressions as the Python that builds them."""

from __future__ import annotations

import inspect
from functools import reduce
from typing import Any

import numpy as np
import tvm
from tvm import ir, relax

from tvm_vacc.runtime.tensors import to_numpy

MAX_ELEMENTS = 16
"""Elements of a constant that are written out; a longer one is shown by its shape and dtype."""

_ARITHMETIC = {
    tvm.tirx.Add: "+",
    tvm.tirx.Sub: "-",
    tvm.tirx.Mul: "*",
    tvm.tirx.FloorDiv: "//",
    tvm.tirx.FloorMod: "%",
}
"""What the dimensions of results are computed by."""


class Renderer:
    """Writes expressions down; whoever derives from it knows the names of some."""

    def name_of(self, expr: relax.Expr) -> str | None:
        """Return the name that stands for `expr`, or None: then it is written out."""
        raise NotImplementedError

    def source(self, expr: Any) -> str:
        """Return Python that evaluates to `expr`."""
        if isinstance(expr, str):  # TVM's dtypes are texts with a repr of their own
            return repr(str(expr))
        if expr is None or isinstance(expr, (bool, int, float)):
            return repr(expr)
        if not isinstance(expr, ir.Expr):  # an attribute of several numbers
            return self._list(expr)
        if isinstance(expr, (tvm.tirx.IntImm, tvm.tirx.FloatImm)):
            return repr(expr.value)
        name = self.name_of(expr)
        if name is not None:
            return name
        if isinstance(expr, ir.GenericConst):
            return _constant(to_numpy(expr.value), str(expr.ty.dtype))
        if isinstance(expr, relax.Tuple):
            numbers = all(ir.is_prim_expr(field) for field in expr.fields)
            fields = self._list(expr.fields)
            return fields if numbers else f"relax.Tuple({fields})"
        if isinstance(expr, relax.ShapeExpr):
            return self._list(expr.values)
        if isinstance(expr, relax.TupleGetItem):
            return f"relax.TupleGetItem({self.source(expr.tuple_value)}, {expr.index})"
        if type(expr) in _ARITHMETIC:
            a, b = self.source(expr.a), self.source(expr.b)
            return f"({a} {_ARITHMETIC[type(expr)]} {b})"
        return self._call(expr)

    def variable(self, var: relax.Var) -> str:
        """Return Python that makes `var` anew."""
        ty = var.ty
        if not isinstance(ty, relax.TensorType) or ty.shape is None:
            return f'relax.Var("{var.name}", relax.{ty!r})'
        return f'relax.Var("{var.name}", relax.TensorType({self._list(ty.shape)}, "{ty.dtype}"))'

    def _list(self, items: Any) -> str:
        return f"[{', '.join(self.source(item) for item in items)}]"

    def _call(self, call: relax.Call) -> str:
        """Operands and attributes in the order of the Python function of the operator."""
        path = call.op.name.removeprefix("relax.")
        function = reduce(getattr, path.split("."), relax.op)
        operands = iter(call.args)
        words = []
        for name in inspect.signature(function).parameters:
            if call.attrs is not None and hasattr(call.attrs, name):
                words.append(f"{name}={self._attribute(getattr(call.attrs, name))}")
            elif (operand := next(operands, None)) is not None:
                words.append(f"{name}={self.source(operand)}")
        return f"relax.op.{path}({', '.join(words)})"

    def _attribute(self, attribute: Any) -> str:
        return "None" if str(attribute) in ("", "void") else self.source(attribute)


def _constant(array: np.ndarray, dtype: str) -> str:
    if array.ndim == 0:
        return f'relax.const({array.item()!r}, "{dtype}")'
    if array.size <= MAX_ELEMENTS:
        return f'relax.const(np.array({array.tolist()!r}), "{dtype}")'
    return f'relax.const(np.zeros({array.shape!r}), "{dtype}")'
