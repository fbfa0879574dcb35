"""Prints functions in the form in which TVM's virtual machine calls them, as one file of C."""

from __future__ import annotations

from importlib.resources import files

import tvm

from tvm_vacc.codegen_c.package import print_package
from tvm_vacc.codegen_c.signature import Signature
from tvm_vacc.errors import TargetError

_HEADERS = ("vacc.h", "vacc_lanes.h", "vacc_vectors.h", "vacc_kernels.h", "vacc_model.h")
_CALLS = "vacc_tvm.h"


def c_source_for_tvm(module: tvm.ir.IRModule) -> str:
    """Return the source of a library that TVM loads: all of the package's files in one.

    TVM calls each Relax function by its name in the module.

    Args:
        module: scheduled, with its memory planned.

    Raises:
        TargetError: something has no form in C, or a dimension is no axis of an input.
    """
    package = print_package(module)
    calls = (files("tvm_vacc.codegen_c") / "runtime" / _CALLS).read_text("utf-8")
    parts = [*(package.files[name] for name in _HEADERS), calls]
    parts += [text for name, text in package.files.items() if name.endswith(".c")]
    body = "\n".join(parts)
    for name in (*_HEADERS, _CALLS):
        body = body.replace(f'#include "{name}"\n', "")
    lines = body.splitlines()
    includes = sorted({line for line in lines if line.startswith("#include <")})
    body = "\n".join(line for line in lines if line not in includes)
    exported = [_call(*item) for item in package.signatures.items()]
    # Libraries that a process loads must not take each other's functions.
    hidden = ("#pragma GCC visibility push(hidden)", "#pragma GCC visibility pop\n")
    return "\n".join([*includes, "", hidden[0], "", body, *exported, hidden[1]])


def _call(symbol: str, signature: Signature) -> str:
    tensors = [*signature.inputs, *signature.outputs]
    name, count = signature.name, len(tensors)
    lines = [f"    arguments.{dim} = {_extent(dim, signature)};\n" for dim in signature.dims]
    lines += [
        f"    arguments.{tensor.name} = {cast}vacc_tvm_data(tensors[{index}]);\n"
        for index, tensor in enumerate(tensors)
        for cast in [f"({tensor.ctype.scalar} *)"]
    ]
    return (
        f"static int call_{name}(const void *arguments, void *workspace) {{\n"
        f"    return {name}((const struct {name}_arguments *)arguments, workspace);\n}}\n\n"
        f"TVM_FFI_DLL_EXPORT int __tvm_ffi_{symbol}(\n"
        "    void *self, const TVMFFIAny *values, int32_t count, TVMFFIAny *result) {\n"
        f"    DLTensor *tensors[{count}];\n"
        f"    struct {name}_arguments arguments;\n"
        "    (void)self;\n"
        f"    if (!vacc_tvm_tensors(values, count, tensors, {count})) {{\n"
        f'        return vacc_tvm_raise("{symbol}: {count} dense tensors on the CPU are due");\n'
        "    }\n"
        f"{''.join(lines)}"
        f"    return vacc_tvm_call(\n"
        f"        call_{name}, &arguments, {name}_workspace(&arguments), result);\n}}\n"
    )


def _extent(dim: str, signature: Signature) -> str:
    """Return where a dimension is read: an axis of an input."""
    for index, tensor in enumerate(signature.inputs):
        if dim in tensor.dims:
            return f"tensors[{index}]->shape[{tensor.dims.index(dim)}]"
    raise TargetError(
        f"{signature.name}: the dimension {dim} is no axis of an input",
        "compile for tvm_vacc instead",
    )
