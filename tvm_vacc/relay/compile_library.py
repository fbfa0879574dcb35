"""A plain graph in one shared library, its weights inside: ``tvmc compile -f so``."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tvm

from relay_passes.bundle_params import ENTRY
from relay_passes.weight_plan import read_plan, tensors_of
from tvm_vacc.artifact.manifest import Manifest, TensorSpec
from tvm_vacc.codegen.dump_code import check_formats
from tvm_vacc.codegen.instruments import TunedKernels
from tvm_vacc.codegen.kernels import build_kernels
from tvm_vacc.codegen.linker import Linker
from tvm_vacc.codegen.options import BuildOptions, BuildWatch
from tvm_vacc.compiler import linker_for, steps_of
from tvm_vacc.config import Config
from tvm_vacc.errors import ConfigError
from tvm_vacc.progress import Progress, Report
from tvm_vacc.relay.factory import GraphExecutorFactoryModule
from tvm_vacc.runtime.signature import Signature
from tvm_vacc.runtime.tensors import to_tvm
from tvm_vacc.steps.manifest import make_manifest
from tvm_vacc.steps.model_entry import open_graph
from tvm_vacc.steps.options import resolve_options
from tvm_vacc.steps.passes import describe, run_passes
from tvm_vacc.steps.stored_weights import pack_weight
from tvm_vacc.steps.write_kernels import tuning_reports
from tvm_vacc.target_string import make_target

_TAR = "compile it with -f tar: one file, which holds all of it"


def compile_library(
    path: str | Path | Config,
    *,
    output: str | Path,
    target: str = "tvm_vacc",
    dtype: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    model_format: str | None = None,
    name: str = "default",
    progress: Report | None = None,
    build: BuildOptions | None = None,
    watch: BuildWatch | None = None,
    cross_compiler: str | None = None,
    cross_compiler_options: Sequence[str] = (),
) -> tuple[Path, Manifest]:
    """Compile a graph to the shared library `output`; all is made anew, in memory.

    `tvm_vacc.load` opens it, and so does TVM itself: ``load_module(path)["default"](tvm.cpu())``.

    Args:
        path: a graph: an .onnx file, a .pt2 file, a Relax module, or a config of an .onnx file.
        output: the library; replaced where it is there.
        name: by which it opens.
        target: see `tvm_vacc.compile`, as the others.

    Returns:
        The library, and what it is.

    Raises:
        ConfigError: the model is a language model, whose cache and tokenizer no library holds, or
            nothing is there to link with.
        VaccError: see `tvm_vacc.compile`.
    """
    report, output = progress or (lambda _: None), Path(output).expanduser().absolute()
    build, watch = build or BuildOptions(), watch or BuildWatch()
    if not (name.isidentifier() and name.isascii()):
        raise ConfigError(f"module name {name!r}", "give letters, digits and underscores")
    options = resolve_options(
        path, dtype=dtype, input_shapes=input_shapes, model_format=model_format
    )
    tvm_target = make_target(target)
    linker = linker_for(tvm_target, cross_compiler, cross_compiler_options)
    if linker is None:
        raise ConfigError("-f so: nothing is there to link with", _TAR)
    check_formats(watch.formats, tvm_target)
    with tempfile.TemporaryDirectory() as workspace:
        options = dataclasses.replace(options, workspace=Path(workspace))
        model = None if options.type == "huggingface" else open_graph(options, report)
        if model is None or model.spec is not None:
            raise ConfigError("-f so: a library holds neither KV cache nor tokenizer", _TAR)
        steps = steps_of(model, options, tvm_target, build, watch)
        imported, module, passes = run_passes(model.read, steps, report, watch)
        tuned = TunedKernels()
        executable = build_kernels(
            module,
            tvm_target,
            lambda done, total: report(Progress("kernels", done, total, "steps")),
            build=build,
            watch=watch,
            tuned=tuned,
        )
        passes = (*passes, *tuning_reports(build, tuned))
        built = describe(imported, module, passes, model.onnx.parent)
        plan = read_plan(module[ENTRY])
        arrays = [array for entry in plan for array in pack_weight(entry, imported.weights)]
    manifest = make_manifest(options, tvm_target, built, (), None, None)
    factory = _factory(executable, tvm_target, module, manifest, arrays, name)
    _export(factory, output, linker)
    return output, manifest


def _factory(
    executable: tvm.runtime.Executable,
    target: tvm.target.Target,
    module: tvm.ir.IRModule,
    manifest: Manifest,
    arrays: Sequence[np.ndarray],
    name: str,
) -> GraphExecutorFactoryModule:
    bytecode = executable.mod
    kernels = tuple(bytecode.imports)
    bytecode.clear_imports()
    made = tensors_of(read_plan(module[ENTRY]))
    weights = {tensor.name: to_tvm(array) for tensor, array in zip(made, arrays, strict=True)}
    params = tuple(TensorSpec(tensor.name, tensor.shape, tensor.dtype) for tensor in made)
    return GraphExecutorFactoryModule(
        bytecode=bytecode,
        kernels=kernels,
        target=target,
        libmod_name=name,
        signature=Signature(manifest.inputs, params, manifest.outputs, (), manifest),
        params=weights,
        ir_mod=module,
    )


def _export(factory: GraphExecutorFactoryModule, output: Path, linker: Linker) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.tmp-{os.getpid()}.so")  # TVM reads the suffix
    try:
        linker.link(factory, part)
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)
