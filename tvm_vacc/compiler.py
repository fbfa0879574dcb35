"""From a checkpoint or an ONNX file to an artefact: the whole way, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_vacc.config import (
    DEFAULT_CONTEXT,
    DEFAULT_PREFILL,
    CompileOptions,
    Config,
    load_config,
)
from tvm_vacc.errors import ConfigError, OnnxError
from tvm_vacc.frontend.check_onnx import check_onnx
from tvm_vacc.frontend.checkpoint import open_checkpoint, read_spec
from tvm_vacc.frontend.export_onnx import export_onnx
from tvm_vacc.frontend.import_onnx import ImportedModel, import_onnx
from tvm_vacc.limits import SEQUENCE_MULTIPLE
from tvm_vacc.model_spec import ModelSpec
from tvm_vacc.packaging import Package, write_artifact
from tvm_vacc.pipeline import check_pass_names, glm_pipeline, graph_pipeline, run_pipeline
from tvm_vacc.progress import Progress
from tvm_vacc.target_string import make_target

Report = Callable[[Progress], None]

PAST = "past_key_values."
"""What the names of cached inputs begin with, in every exporter's graphs of language models."""


def compile(
    path: str | Path | Config,
    *,
    output: str | Path | None = None,
    target: str = "tvm_vacc",
    dtype: str | None = None,
    prefill: int | None = None,
    context: int | None = None,
    progress: Report | None = None,
    print_ir_after: Sequence[str] = (),
    show: Callable[[str], None] = print,
) -> Path:
    """Compile a model and return the artefact's directory.

    Args:
        path: a YAML config, a checkpoint's directory, an .onnx file, or a `Config`. A language
            model as ONNX (inputs ``past_key_values.*``) needs its config.json beside it.
        output: the artefact's directory; default: ``workspace/name`` as the config says.
        target: a target string, such as ``"tvm_vacc -mcpu=znver4"`` or ``"tvm_vacc -mcpu=native"``.
        dtype: `fp16`, `bf16` or `fp32`: what weights and KV cache are stored as; not with a config.
        prefill: longest number of tokens a call takes; not with a config.
        context: longest sequence in tokens; not with a config.
        progress: is told how far each phase has come.
        print_ir_after: names of passes after which the module is shown.
        show: takes the text of a module.

    Raises:
        VaccError: the input cannot be compiled; one line with the cure.
    """
    report = progress or (lambda _: None)
    options = resolve_options(path, output=output, dtype=dtype, prefill=prefill, context=context)
    tvm_target = make_target(target)
    model = _read_model(options, report)
    if model.spec is None:
        lengths = None
        steps = graph_pipeline(options.relax_dtype)
    else:
        lengths = _lengths(options, model.spec)
        steps = glm_pipeline(model.spec.layers, options.relax_dtype, prefill=lengths[0])
    check_pass_names(steps, print_ir_after)
    module, passes = run_pipeline(
        model.imported.module,
        steps,
        print_after=print_ir_after,
        show=show,
        progress=lambda done, total: report(Progress("passes", done, total, "passes")),
    )
    package = Package(
        options=options,
        target=tvm_target,
        imported=model.imported,
        module=module,
        passes=passes,
        spec=model.spec,
        lengths=lengths,
        text_files=model.directory,
    )
    return write_artifact(package, options.output if output is None else Path(output), report)


def resolve_options(
    path: str | Path | Config,
    *,
    output: str | Path | None = None,
    dtype: str | None = None,
    prefill: int | None = None,
    context: int | None = None,
) -> CompileOptions:
    """Return what the compiler is to do, read from a config or made for a checkpoint.

    Without a config the workspace is where `output` is to stand, else ``workspace``.

    Raises:
        ConfigError: the config cannot be used, or an argument is given beside it.
    """
    if isinstance(path, Config):
        config = path
    elif Path(path).suffix in (".yaml", ".yml"):
        config = load_config(path)
    else:
        workspace = "workspace" if output is None else Path(output).expanduser().absolute().parent
        made = Config.for_checkpoint(
            path, dtype=dtype, prefill=prefill, context=context, workspace=workspace
        )
        return made.compile_options
    given = {"dtype": dtype, "prefill": prefill, "context": context}
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name} is given beside a config", f"write {name} into the config")
    return config.compile_options


@dataclass(frozen=True)
class _Model:
    """What the frontend hands on.

    Attributes:
        imported: the model in Relax.
        spec: its structure; None for a model that is no language model.
        directory: where its tokenizer's files are.
    """

    imported: ImportedModel
    spec: ModelSpec | None
    directory: Path


def _read_model(options: CompileOptions, report: Report) -> _Model:
    if options.type == "onnx":
        return _read_onnx(options.checkpoint, options.relax_dtype)
    checkpoint = open_checkpoint(options.checkpoint)
    report(Progress("export", 0, 1, "graphs"))
    onnx_path = options.workspace / f"{options.name}.onnx" / "model.onnx"
    onnx_path.parent.mkdir(parents=True, exist_ok=True)
    export_onnx(checkpoint, onnx_path)
    check_onnx(onnx_path)
    report(Progress("export", 1, 1, "graphs"))
    return _Model(import_onnx(onnx_path), checkpoint.spec, checkpoint.path)


def _read_onnx(path: Path, dtype: str) -> _Model:
    imported = import_onnx(path)
    caches = sum(name.startswith(PAST) for name in imported.inputs)
    if not caches:
        return _Model(imported, None, path.parent)
    spec = read_spec(path.parent, dtype)
    if caches != 2 * spec.layers:
        raise OnnxError(
            f"{path}: {caches} inputs {PAST}*, its config.json tells of {spec.layers} layers",
            "put the config.json of the exported model beside it",
        )
    return _Model(imported, spec, path.parent)


def _lengths(options: CompileOptions, spec: ModelSpec) -> tuple[int, int]:
    """Return prefill bucket and context in tokens, held against what the model can do."""
    longest = spec.max_positions // SEQUENCE_MULTIPLE * SEQUENCE_MULTIPLE
    context = options.context or min(DEFAULT_CONTEXT, longest)
    if context > spec.max_positions:
        raise ConfigError(
            f"{options.checkpoint}: the model knows {spec.max_positions} positions, the context "
            f"is {context}",
            f"give at most {longest}",
        )
    return options.prefill or min(DEFAULT_PREFILL, context), context
