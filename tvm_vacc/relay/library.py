"""A library that TVM's own ``load_module`` reads back, with the function ``default`` inside.

What `relay.build` makes is bytecode for Relax's virtual machine and kernels. Scripts call
``load_module(path)["default"](device)``, which must be native code in the library: a dozen lines
of LLVM IR that hand the library itself and its graph to Python. Weights, and the graph once more,
travel along as the constants of a second, trivial piece of bytecode.

The tree of modules is ``entry and kernels -> what travels along -> bytecode``: each is found from
the one before by what TVM itself can do, so that a server of its RPC, which has nothing of ours,
opens a library too (`tvm_vacc.runtime.library`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import tvm
from tvm import relax, tirx

from tvm_vacc.runtime.library import ENTRY, GRAPH, OPENER, WEIGHTS

# The handle of a library is the address of a C++ object with virtual functions, whose header may
# stand behind the pointer to them: it is where the type index (an int32, 8 bytes on) says so.
_IR = """\
{layout}
@__tvm_ffi__library_ctx = linkonce dllexport global ptr null, align 8
@__TVMFFIFunctionCall = linkonce dllexport global ptr null, align 8
@__TVMFFIEnvModLookupFromImports = linkonce dllexport global ptr null, align 8
@opener = private constant {opener}
@graph = private constant {graph}

define dllexport i32 @__tvm_ffi_{name}(ptr %self, ptr %args, i32 %count, ptr %result) {{
entry:
  %function = alloca ptr, align 8
  %total = add i32 %count, 2
  %all = alloca {{ i32, i32, ptr }}, i32 %total, align 8
  %library = load ptr, ptr @__tvm_ffi__library_ctx, align 8
  %lookup = load ptr, ptr @__TVMFFIEnvModLookupFromImports, align 8
  %found = call i32 %lookup(ptr %library, ptr @opener, ptr %function)
  %is_found = icmp eq i32 %found, 0
  br i1 %is_found, label %call, label %fail

call:
  store {{ i32, i32, ptr }} {{ i32 {raw_string}, i32 0, ptr @graph }}, ptr %all, align 8
  %behind = getelementptr i8, ptr %library, i64 8
  %type_at = getelementptr i8, ptr %behind, i64 8
  %type = load i32, ptr %type_at, align 4
  %is_behind = icmp eq i32 %type, {module}
  %header = select i1 %is_behind, ptr %behind, ptr %library
  %second = getelementptr {{ i32, i32, ptr }}, ptr %all, i32 1
  store {{ i32, i32, ptr }} {{ i32 {module}, i32 0, ptr null }}, ptr %second, align 8
  %object = getelementptr i8, ptr %second, i64 8
  store ptr %header, ptr %object, align 8
  %rest = getelementptr {{ i32, i32, ptr }}, ptr %all, i32 2
  %wide = zext i32 %count to i64
  %bytes = mul i64 %wide, 16
  call void @llvm.memcpy.p0.p0.i64(ptr align 8 %rest, ptr align 8 %args, i64 %bytes, i1 false)
  %invoke = load ptr, ptr @__TVMFFIFunctionCall, align 8
  %handle = load ptr, ptr %function, align 8
  %status = call i32 %invoke(ptr %handle, ptr %all, i32 %total, ptr %result)
  ret i32 %status

fail:
  ret i32 %found
}}

@__tvm_ffi_{entry} = dllexport alias i32 (ptr, ptr, i32, ptr), ptr @__tvm_ffi_{name}

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

!llvm.module.flags = !{{!0}}
!0 = !{{i32 2, !"tvm_target", !"{target}"}}
"""
_RAW_STRING_INDEX = 8
_MODULE_INDEX = 73
"""Type indices of the FFI's stable C interface (``kTVMFFIRawStr``, ``kTVMFFIModule``)."""


def assemble_library(
    bytecode: tvm.runtime.Module,
    kernels: Sequence[tvm.runtime.Module],
    target: tvm.target.Target,
    name: str,
    graph_json: str,
    weights: Mapping[str, tvm.runtime.Tensor] | None,
) -> tvm.runtime.Module:
    """Return a module that can be exported.

    Args:
        bytecode: that imports nothing.
        kernels: what it calls.
        target: what they were compiled for.
        name: of the function inside that opens it, mostly ``default``.
        graph_json: what that function passes on.
        weights: what is to travel along; None for nothing.
    """
    parcel = _parcel(weights or {}, graph_json, target)
    parcel.import_module(bytecode)
    library = _load_ir(_entry_ir(target, name, graph_json), "entry.ll")
    for module in (*kernels, parcel):
        library.import_module(module)
    return library


def _parcel(
    weights: Mapping[str, tvm.runtime.Tensor], graph_json: str, target: tvm.target.Target
) -> tvm.runtime.Module:
    """Return bytecode whose functions `WEIGHTS` and `GRAPH` return what a library holds."""
    tensors = relax.Tuple([relax.const(tensor) for tensor in weights.values()])
    builder = relax.BlockBuilder()
    for name, value in ((WEIGHTS, tensors), (GRAPH, tvm.ir.StringImm(graph_json))):
        with builder.function(name, []):
            builder.emit_func_output(value)
    # The stock pipeline: there is nothing to optimise, and ours folds constants.
    module = relax.build(builder.finalize(), target, relax_pipeline="zero").mod
    module.clear_imports()
    return module


def _load_ir(text: str, name: str) -> tvm.runtime.Module:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_text(text)
        return tvm.runtime.load_module(str(path))


def _entry_ir(target: tvm.target.Target, name: str, graph_json: str) -> str:
    return _IR.format(
        layout=_data_layout(target),
        name=name,
        entry=ENTRY,
        opener=_c_string(OPENER),
        graph=_c_string(graph_json),
        raw_string=_RAW_STRING_INDEX,
        module=_MODULE_INDEX,
        target=_escaped(str(target).encode()),
    )


def _data_layout(target: tvm.target.Target) -> str:
    """Return the lines that name the processor's layout of data, as TVM writes them."""
    nothing = tirx.PrimFunc([], tirx.Evaluate(tirx.const(0, "int32")))
    module = tvm.IRModule({"nothing": nothing.with_attr("global_symbol", "nothing")})
    lines = tvm.compile(module, target=target).mod.inspect_source("ll").splitlines()
    return "\n".join(line for line in lines if line.startswith("target "))


def _c_string(text: str) -> str:
    data = text.encode() + b"\0"
    return f'[{len(data)} x i8] c"{_escaped(data)}"'


def _escaped(data: bytes) -> str:
    plain = {*range(0x20, 0x7F)} - {*b'"\\'}
    return "".join(chr(byte) if byte in plain else f"\\{byte:02X}" for byte in data)
