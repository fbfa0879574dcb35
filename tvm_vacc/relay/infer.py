"""Types of expressions as they are built, so that operators can ask for the shapes of operands."""

from __future__ import annotations

from typing import Any

from tvm import relax
from tvm.relax.expr import _update_type

from tvm_vacc.artifact.manifest import TensorSpec
from tvm_vacc.errors import ConfigError


def typed(expr: relax.Expr) -> relax.Expr:
    """Fill in the type of `expr`, and of the operands it is made of, and return `expr` itself.

    Relax infers types when a block builder takes an expression in. Relay's operators are called
    without one: each call is inferred on stand-ins of its operands.

    Raises:
        ConfigError: the operator does not take operands of these types.
    """
    if not expr.ty.is_missing():
        return expr
    if isinstance(expr, relax.Tuple):
        _update_type(expr, relax.TupleType([typed(field).ty for field in expr.fields]))
    elif isinstance(expr, relax.TupleGetItem):
        _update_type(expr, typed(expr.tuple_value).ty.fields[expr.index])
    elif isinstance(expr, relax.Call):
        _update_type(expr, _type_of_call(expr))
    return expr


def shape_of(expr: relax.Expr) -> list[Any]:
    """Return the dimensions of a tensor: ints, and expressions where they are symbolic.

    Raises:
        ConfigError: `expr` is no tensor, or its shape is not known.
    """
    ty = typed(expr).ty
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        raise ConfigError(
            f"a tensor of a known shape is needed, this is {ty}", "give its variables a shape"
        )
    return [as_int(dim) for dim in ty.shape]


def dtype_of(expr: relax.Expr) -> str:
    """Return the dtype of a tensor."""
    return str(typed(expr).ty.dtype)


def as_int(dim: Any) -> Any:
    """Return `dim` as an int where it is a number; a symbolic one stays as it is."""
    return int(dim) if hasattr(dim, "value") else dim


def tensor_spec(name: str, ty: relax.Type) -> TensorSpec:
    """Describe a tensor of the type `ty`.

    Raises:
        ConfigError: `ty` is no tensor of a known number of dimensions.
    """
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        raise ConfigError(f"{name} is {ty}", "main may take and return tensors of known ranks only")
    dims = (as_int(dim) for dim in ty.shape)
    shape = tuple(dim if isinstance(dim, int) else str(dim) for dim in dims)
    return TensorSpec(name, shape, str(ty.dtype))


def _type_of_call(call: relax.Call) -> relax.Type:
    stand_ins = [_stand_in(typed(arg)) for arg in call.args]
    copy = relax.Call(call.op, stand_ins, call.attrs, call.ty_args)
    try:
        return relax.BlockBuilder().normalize(copy).ty
    except Exception as error:
        reason = str(error).strip().splitlines()[-1]
        operands = ", ".join(str(arg.ty) for arg in stand_ins)
        raise ConfigError(
            f"{call.op.name} does not take ({operands}): {reason}",
            "check the shapes and dtypes of the operands",
        ) from error


def _stand_in(arg: relax.Expr) -> relax.Expr:
    """A variable of the same type in place of what would have to be bound first."""
    computed = isinstance(arg, (relax.Call, relax.TupleGetItem))
    if computed and isinstance(arg.ty, (relax.TensorType, relax.TupleType)):
        return relax.Var("operand", arg.ty)
    if isinstance(arg, relax.Tuple):
        return relax.Tuple([_stand_in(field) for field in arg.fields])
    return arg
