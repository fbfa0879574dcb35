"""``relax.ext.tvm_vacc``: functions that a user's own partitioning gives to ``tvm_vacc``, as C.

TVM's pass `relax.transform.RunCodegen` calls it for functions with the attribute
``Codegen="tvm_vacc"``. They go through the pipeline of the target ``tvm_vacc/c`` and come back as a
C source module, which `export_library` compiles with a C compiler, such as
``fcompile=tvm.support.cc.cross_compiler("gcc")``; `inspect_source` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tvm
from tvm import relax

from tvm_vacc.codegen.kernels import plan_memory
from tvm_vacc.codegen_c.tvm_call import c_source_for_tvm
from tvm_vacc.errors import ConfigError
from tvm_vacc.target import C_TAG, TAG
from tvm_vacc.target_string import make_target

_MARKS = ("Codegen", "Composite")


def compile_functions(
    functions: Sequence[relax.Function],
    options: Mapping[str, Any],
    constant_names: Mapping[Any, str],
) -> list[tvm.runtime.Module]:
    """Return one C source module that holds all functions.

    Args:
        functions: each with its ``global_symbol``; composite functions within are taken apart.
        options: what `RunCodegen` was told for ``tvm_vacc``; there are none.
        constant_names: not needed: constants are printed as arrays.

    Raises:
        ConfigError: an option is given.
        TargetError: a function holds something that has no form in C.
    """
    del constant_names
    if options:
        raise ConfigError(
            f"{next(iter(options))}: relax.ext.{TAG} takes no options", "leave target_options out"
        )
    symbols = {str(function.attrs["global_symbol"]): function for function in functions}
    module = relax.transform.LambdaLift()(tvm.IRModule(symbols))
    unmarked = {gvar: _without_marks(function) for gvar, function in module.functions_items()}
    module = relax.transform.InlinePrivateFunctions()(tvm.IRModule(unmarked))
    source = c_source_for_tvm(plan_memory(module, make_target(C_TAG)))
    create = tvm.get_global_func("runtime.CSourceModuleCreate")
    return [create(source, "c", list(symbols), [])]


def _without_marks(function: Any) -> Any:
    for mark in _MARKS:
        if function.attrs and mark in function.attrs:
            function = function.without_attr(mark)
    return function
