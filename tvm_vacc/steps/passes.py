"""The second step of a compile: a graph through all passes, or what came of it out of the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any

import tvm
from pydantic import TypeAdapter
from tvm import ir, relax

from relay_passes.bundle_params import ENTRY
from relay_passes.weight_plan import PackedWeight, read_plan, tensors_of, without_plan
from tvm_vacc.artifact.manifest import FileEntry, PassReport, TensorSpec
from tvm_vacc.cache.key import Key
from tvm_vacc.cache.store import Cache
from tvm_vacc.codegen.dump_code import dump_graph
from tvm_vacc.codegen.kernels import plan_memory
from tvm_vacc.codegen.offloads import offload_report
from tvm_vacc.codegen.options import BuildWatch
from tvm_vacc.frontend.import_onnx import ImportedModel
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.pipeline import Step, run_pipeline
from tvm_vacc.progress import Progress, Report
from tvm_vacc.safe_io import sha256_file
from tvm_vacc.tuning_records import digest_of

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
        kernels: the hash of the module that the kernels are made of.
    """

    plan: tuple[PackedWeight, ...]
    sources: dict[str, TensorRef]
    functions: tuple[str, ...]
    passes: tuple[PassReport, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    caches: tuple[TensorSpec, ...]
    kernels: str

    def tensors(self, root: Path) -> dict[str, TensorRef]:
        """Return the sources, their files found from the ONNX file's directory."""
        return {
            name: dataclasses.replace(ref, file=root / ref.file)
            for name, ref in self.sources.items()
        }


_BUILD = TypeAdapter(Build)


@dataclass(frozen=True)
class Lowered:
    """A graph after all passes.

    Attributes:
        build: what is known of it besides its kernels.
        key: what it depends on.
        module: returns what the kernels are made of, which knows nothing of how the weights are; of
            a graph whose passes were in the cache they run now.
    """

    build: Build
    key: Key
    module: Callable[[], ir.IRModule]


def make_passes(
    read: Callable[[bool], ImportedModel],
    steps: Sequence[Step],
    root: Path,
    key: Key,
    cache: Cache,
    report: Report,
    watch: BuildWatch,
) -> Lowered:
    """Run the passes of a model, unless the cache has what is known of it after them.

    Args:
        read: reads the model, with origins where asked to; not called where nothing runs.
        steps: the passes that the model goes through.
        root: the directory of its ONNX file.
        key: all that the passes depend on.
        cache: where to look for what they find, and to keep it.
        report: takes the progress.
        watch: what is to be seen of the passes; where it is something, they run.

    Raises:
        VaccError: see `import_onnx` and `run_pipeline`.
    """

    @once
    def run() -> tuple[ir.IRModule, Build]:
        imported, module, passes = run_passes(read, steps, report, watch)
        return without_plan(module, ENTRY), describe(imported, module, passes, root)

    with cache.piece("passes", key, fresh=watch.why_anew) as piece:
        if not piece.is_ready:
            _, build = run()
            path = piece.directory / _RECORD
            path.write_bytes(_BUILD.dump_json(build))
            piece.finish({_RECORD: FileEntry(sha256_file(path), path.stat().st_size)})
        build = _BUILD.validate_json((piece.directory / _RECORD).read_bytes())
    return Lowered(build, key, lambda: run()[0])


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
        kernels=digest_of(without_plan(module, ENTRY)),
    )


def _frontend_reports(imported: ImportedModel) -> tuple[PassReport, ...]:
    """Return what was done to the graph before it was imported: matches count nodes removed."""
    done = imported.simplification
    if done is None:
        return ()
    note = done.remark or f"{done.nodes_before} nodes before, {done.nodes_after} after"
    removed = max(0, done.nodes_before - done.nodes_after)
    return (PassReport("onnxsim", removed, None, done.seconds, note),)


def _specs(names: Sequence[str], types: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tuple(map(_dim, ty.shape)), str(ty.dtype))
        for name, ty in zip(names, types[: len(names)], strict=True)
    )


def _dim(dim: Any) -> int | str:
    return int(dim) if isinstance(dim, (int, tvm.tirx.IntImm)) else str(dim)
