"""Relay's API on Relax: ``from tvm_vacc import relay`` where ``from tvm import relay`` stood.

TVM dropped Relay in 0.20. What comes back is what scripts use: the ONNX importer, `build`, the
graph executor, and the operators that a GLM needs. All other names raise an AttributeError that
says what Relax has. With ``TVM_VACC_EXPLAIN=1`` each call prints its equivalent in Relax.
"""

from __future__ import annotations

from tvm_vacc.relay import analysis, backend, elsewhere, frontend, graph_executor, nn, transform
from tvm_vacc.relay.build_module import build
from tvm_vacc.relay.expr import (
    Call,
    Constant,
    Function,
    TensorType,
    Tuple,
    TupleGetItem,
    TupleWrapper,
    Var,
    const,
    var,
)
from tvm_vacc.relay.expr import any_dim as Any
from tvm_vacc.relay.op.create import arange, full, full_like, ones, ones_like, zeros, zeros_like
from tvm_vacc.relay.op.elementwise import (
    abs,
    add,
    cast,
    ceil,
    clip,
    cos,
    divide,
    equal,
    erf,
    exp,
    floor,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    rsqrt,
    sigmoid,
    sin,
    sqrt,
    subtract,
    tanh,
    where,
)
from tvm_vacc.relay.op.index import split, strided_slice, take
from tvm_vacc.relay.op.matmul import matmul
from tvm_vacc.relay.op.reduce import argmax, cumsum, max, mean, min, prod, sum
from tvm_vacc.relay.op.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    repeat,
    reshape,
    squeeze,
    stack,
    tile,
    transpose,
)
from tvm_vacc.relay.param_dict import load_param_dict, save_param_dict
from tvm_vacc.relay.partition import partition_for_tvm_vacc
from tvm_vacc.relay.pass_context import register_config_key

register_config_key()

__all__ = [
    "Any",
    "Call",
    "Constant",
    "Function",
    "TensorType",
    "Tuple",
    "TupleGetItem",
    "TupleWrapper",
    "Var",
    "abs",
    "add",
    "analysis",
    "arange",
    "argmax",
    "backend",
    "broadcast_to",
    "build",
    "cast",
    "ceil",
    "clip",
    "concatenate",
    "const",
    "cos",
    "cumsum",
    "divide",
    "equal",
    "erf",
    "exp",
    "expand_dims",
    "floor",
    "frontend",
    "full",
    "full_like",
    "graph_executor",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "load_param_dict",
    "log",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "nn",
    "not_equal",
    "ones",
    "ones_like",
    "partition_for_tvm_vacc",
    "power",
    "prod",
    "repeat",
    "reshape",
    "rsqrt",
    "save_param_dict",
    "sigmoid",
    "sin",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "strided_slice",
    "subtract",
    "sum",
    "take",
    "tanh",
    "tile",
    "transform",
    "transpose",
    "var",
    "where",
    "zeros",
    "zeros_like",
]


def __getattr__(name: str) -> object:
    raise elsewhere.missing("relay", name)
