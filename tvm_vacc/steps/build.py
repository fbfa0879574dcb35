"""The second step of a compile: a graph through all passes to kernels, or out of the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from pydantic import TypeAdapter
from tvm import ir, relax

from relay_passes.bundle_params import ENTRY
from relay_passes.weight_plan import PackedWeight, read_plan, tensors_of
from tvm_vacc.artifact.manifest import FileEntry, PassReport, TensorSpec
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.cache.key import Key
from tvm_vacc.cache.store import Cache, Piece
from tvm_vacc.codegen.context import build_context
from tvm_vacc.codegen.dump_code import dump_graph, dump_kernels
from tvm_vacc.codegen.instruments import TunedKernels
from tvm_vacc.codegen.kernels import build_kernels, plan_memory, store_kernels
from tvm_vacc.codegen.linker import Linker
from tvm_vacc.codegen.offloads import offload_report
from tvm_vacc.codegen.options import BuildOptions, BuildWatch
from tvm_vacc.codegen_c.package import write_sources
from tvm_vacc.frontend.import_onnx import ImportedModel
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.pipeline import Step, run_pipeline
from tvm_vacc.progress import Progress, Report
from tvm_vacc.safe_io import sha256_file
from tvm_vacc.target import emits_c

_RECORD = "build.json"


@dataclass(frozen=True)
class Build:
    """What is known of a compiled module besides its kernels; JSON can hold it.

    Attributes:
        plan: how the weights are made.
        sources: what they are made of, by name; files relative to the ONNX file's directory.
        functions: names that the module exports.
        passes: what each pass has done.
        inputs: of the graph as it was read, caches aside where it is a language model.
        outputs: of the graph as it was read.
        caches: of a language model, in the order the compiled function takes them.
    """

    plan: tuple[PackedWeight, ...]
    sources: dict[str, TensorRef]
    functions: tuple[str, ...]
    passes: tuple[PassReport, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    caches: tuple[TensorSpec, ...]

    def tensors(self, root: Path) -> dict[str, TensorRef]:
        """Return the sources, their files found from the ONNX file's directory."""
        return {
            name: dataclasses.replace(ref, file=root / ref.file)
            for name, ref in self.sources.items()
        }


_BUILD = TypeAdapter(Build)


def make_build(
    read: Callable[[bool], ImportedModel],
    steps: Sequence[Step],
    root: Path,
    target: tvm.target.Target,
    linker: Linker | None,
    key: Key,
    cache: Cache,
    writer: ArtifactWriter,
    report: Report,
    *,
    options: BuildOptions,
    watch: BuildWatch,
) -> Build:
    """Put the kernels of a model into the artefact and return what else is known of them.

    Args:
        read: reads the model, with origins where asked to; not called where the kernels are
            in the cache.
        steps: the passes that the model goes through.
        root: the directory of its ONNX file.
        target: what for.
        linker: of the kernels; None: they stay LLVM IR.
        key: all that the kernels depend on.
        cache: where to look for them, and to keep them.
        writer: of the artefact.
        report: takes the progress.
        options: how TVM's passes run.
        watch: what is to be seen of the passes; where it is something, they run.

    Raises:
        VaccError: see `import_onnx` and `run_pipeline`.
    """
    with cache.piece("kernels", key, fresh=watch.why_anew) as piece:
        if not piece.is_ready:
            imported, module, passes = run_passes(read, steps, report, watch)
            build = describe(imported, module, passes, root)
            tuned = TunedKernels()
            names = _write_kernels(
                module, target, linker, piece.directory, report, options, watch, tuned
            )
            build = dataclasses.replace(build, passes=(*passes, *tuning_reports(options, tuned)))
            _keep(piece, build, names)
        for name in piece.files:
            if name != _RECORD:
                writer.adopt(name, piece.place(name, writer.directory / name))
        return _BUILD.validate_json((piece.directory / _RECORD).read_bytes())


def run_passes(
    read: Callable[[bool], ImportedModel], steps: Sequence[Step], report: Report, watch: BuildWatch
) -> tuple[ImportedModel, ir.IRModule, tuple[PassReport, ...]]:
    """Read a model and run its passes; what `watch` asks of the graph is handed out.

    Returns:
        The model as it was read, the module that the kernels are made of, and what was done.

    Raises:
        VaccError: see `import_onnx` and `run_pipeline`.
    """
    imported = read(watch.offloads is not None)
    module, passes = run_pipeline(
        imported.module,
        steps,
        print_before=watch.print_before,
        print_after=watch.print_after,
        show=watch.show,
        progress=lambda done, total: report(Progress("passes", done, total, "passes")),
    )
    if watch.offloads is not None:
        watch.offloads(offload_report(imported, module))
    dump_graph(module, watch, plan_memory)
    return imported, module, (*_frontend_reports(imported), *passes)


def _write_kernels(
    module: ir.IRModule,
    target: tvm.target.Target,
    linker: Linker | None,
    directory: Path,
    report: Report,
    options: BuildOptions,
    watch: BuildWatch,
    tuned: TunedKernels,
) -> tuple[str, ...]:
    """Write machine code to `directory`, or C where that is the target; return the files."""

    def tell(done: int, total: int) -> None:
        report(Progress("kernels", done, total, "steps"))

    if not emits_c(target):
        kernels = build_kernels(module, target, tell, build=options, watch=watch, tuned=tuned)
        return store_kernels(kernels, directory, linker)
    tell(0, 1)
    with build_context(options, watch, tuned):
        planned = plan_memory(module, target)
        names = write_sources(planned, directory)
    dump_kernels(planned, None, watch)
    return names


def _keep(piece: Piece, build: Build, names: Sequence[str]) -> None:
    (piece.directory / _RECORD).write_bytes(_BUILD.dump_json(build))
    files = {}
    for name in (*names, _RECORD):
        path = piece.directory / name
        files[name] = FileEntry(sha256_file(path), path.stat().st_size)
    piece.finish(files)


def describe(
    imported: ImportedModel, module: ir.IRModule, passes: tuple[PassReport, ...], root: Path
) -> Build:
    """Return what is known of a module after its passes; `root` is its ONNX file's directory."""
    plan = read_plan(module[ENTRY])
    main = imported.module["main"]
    returned = main.ret_ty
    outputs = list(returned.fields) if isinstance(returned, relax.TupleType) else [returned]
    bundled = list(module[ENTRY].params[-1].ty.fields)
    caches = bundled[: len(bundled) - len(tensors_of(plan))]
    used = {name for weight in plan for name in weight.reads}
    return Build(
        plan=plan,
        sources={
            name: dataclasses.replace(ref, file=ref.file.relative_to(root))
            for name, ref in imported.weights.items()
            if name in used
        },
        functions=tuple(
            sorted(
                gvar.name_hint
                for gvar, function in module.functions_items()
                if isinstance(function, relax.Function)
            )
        ),
        passes=passes,
        inputs=_specs(imported.inputs, [param.ty for param in main.params]),
        outputs=_specs(imported.outputs, outputs),
        caches=_specs([f"cache.{index}" for index in range(len(caches))], caches),
    )


def _frontend_reports(imported: ImportedModel) -> tuple[PassReport, ...]:
    """Return what was done to the graph before it was imported: matches count nodes removed."""
    done = imported.simplification
    if done is None:
        return ()
    note = done.remark or f"{done.nodes_before} nodes before, {done.nodes_after} after"
    removed = max(0, done.nodes_before - done.nodes_after)
    return (PassReport("onnxsim", removed, None, done.seconds, note),)


def tuning_reports(options: BuildOptions, tuned: TunedKernels) -> tuple[PassReport, ...]:
    """Return which kernels were scheduled by tuning records, where there were some."""
    if options.tuning is None:
        return ()
    note = ", ".join(tuned.names) or "no kernel of this model gains by these records"
    return (PassReport("apply_tuning_records", len(tuned.names), None, tuned.seconds, note),)


def _specs(names: Sequence[str], types: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tuple(map(_dim, ty.shape)), str(ty.dtype))
        for name, ty in zip(names, types[: len(names)], strict=True)
    )


def _dim(dim: Any) -> int | str:
    return int(dim) if isinstance(dim, (int, tvm.tirx.IntImm)) else str(dim)
