"""From a checkpoint or an ONNX file to an artefact: the whole way, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tvm

from relay_passes.choose_tiles import ChooseTiles
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.cache.explain import Explanation
from tvm_vacc.cache.key import Key, digest_of, tool_parts
from tvm_vacc.cache.store import DIRECTORY, Cache
from tvm_vacc.codegen.dump_code import check_formats
from tvm_vacc.codegen.linker import Linker, find_linker
from tvm_vacc.codegen.options import BuildOptions, BuildWatch
from tvm_vacc.codegen.pass_names import check_pass_names
from tvm_vacc.codegen_c.hand_off import write_hand_off
from tvm_vacc.config import CompileOptions, Config
from tvm_vacc.errors import ConfigError
from tvm_vacc.estimate import estimate, require_room
from tvm_vacc.pipeline import (
    Step,
    chosen,
    glm_pipeline,
    graph_pipeline,
    linear_dtype,
)
from tvm_vacc.progress import Report
from tvm_vacc.steps.calibrate import choose_codes, read_samples
from tvm_vacc.steps.kernels import making_kernels
from tvm_vacc.steps.manifest import copy_text_files, make_manifest
from tvm_vacc.steps.model_entry import Model, open_model
from tvm_vacc.steps.options import resolve_options
from tvm_vacc.steps.passes import make_passes
from tvm_vacc.steps.passport import check_yardstick, make_passport, promoted_layers
from tvm_vacc.steps.stored_codes import stored_matrices, with_stored_codes
from tvm_vacc.steps.weights import make_weights
from tvm_vacc.target import C_TAG, emits_c, triple_of
from tvm_vacc.target_string import make_target


def compile(
    path: str | Path | Config,
    *,
    output: str | Path | None = None,
    target: str = "tvm_vacc",
    dtype: str | None = None,
    prefill: int | None = None,
    context: int | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    model_format: str | None = None,
    name: str | None = None,
    progress: Report | None = None,
    build: BuildOptions | None = None,
    watch: BuildWatch | None = None,
    reuse: bool = True,
    explain: Callable[[Explanation], None] | None = None,
    passport: bool = True,
    cross_compiler: str | None = None,
    cross_compiler_options: Sequence[str] = (),
) -> Path:
    """Compile a model and return the artefact's directory.

    What earlier compiles beside `output` have made is reused where nothing that it depends on has
    changed; what a killed one has begun is finished.

    Args:
        path: a checkpoint's directory, an .onnx file, a program of torch.export (.pt2), a Relax
            module (.json, .py), a YAML config, or a `Config`. A language model as ONNX (inputs
            ``past_key_values.*``) needs its config.json beside it.
        output: the artefact's directory; default: ``workspace/name`` as the config says.
        target: a target string, such as ``"tvm_vacc -mcpu=znver4"`` or ``"tvm_vacc -mcpu=native"``.
        dtype: `fp16`, `bf16` or `fp32`: what weights and KV cache are stored as; not with a config.
        prefill: longest number of tokens a call takes; not with a config.
        context: longest sequence in tokens; not with a config.
        input_shapes: of inputs of an ONNX graph, for any of them; a size below 1 leaves that
            dimension as it is declared. Not with a config.
        model_format: of `tvm_vacc.model_format.FORMATS`; default: as the file looks.
        name: of the artefact, in its manifest; default: the config's, or the file's.
        progress: is told how far each phase has come.
        build: how passes run.
        watch: what is to be seen of them.
        reuse: off: everything is made anew.
        explain: is told of each piece whether it was reused, and why not.
        passport: off: accuracy is not measured, whatever the config says.
        cross_compiler: the program that links the kernels, or ``none``: they are compiled when the
            artefact is loaded. By default g++ or its like, for another machine ``<triple>-g++``.
        cross_compiler_options: further arguments to it.

    Raises:
        VaccError: the input cannot be compiled; one line with the cure.
    """
    report = progress or (lambda _: None)
    options = resolve_options(
        path,
        output=output,
        dtype=dtype,
        prefill=prefill,
        context=context,
        input_shapes=input_shapes,
        model_format=model_format,
        name=name,
    )
    tvm_target = make_target(target)
    linker = linker_for(tvm_target, cross_compiler, cross_compiler_options)
    build, watch = build or BuildOptions(), watch or BuildWatch()
    check_formats(watch.formats, tvm_target)
    with ArtifactWriter(options.output if output is None else output) as writer:
        require_room(estimate(options), writer.destination.parent)
        samples = read_texts(options, report, passport=passport)
        cache = Cache(writer.destination.parent / DIRECTORY, writer.destination.name, reuse=reuse)
        model = open_model(options, cache, report)
        options = with_stored_codes(options, model.stored)
        steps = steps_of(model, options, tvm_target, build, watch)
        promoted = _promoted(model, options, cache, report) if passport else ()
        if promoted:
            steps = steps_of(model, options, tvm_target, build, watch, promoted)
        lowered = make_passes(
            model.read,
            steps,
            model.onnx.parent,
            _passes_key(model, options, steps, build),
            cache,
            report,
            watch,
        )
        built, root = lowered.build, model.onnx.parent
        with making_kernels(
            lowered, tvm_target, linker, cache, writer, report, options=build, watch=watch
        ) as finish_kernels:
            codes = choose_codes(built.plan, built.tensors(root), samples, options, cache, report)
            weights = make_weights(
                codes.plan,
                codes.sources,
                cache,
                writer,
                report,
                merge=options.merge_params,
                workers=options.workers,
            )
            passes = (*built.passes, *finish_kernels())
        built = dataclasses.replace(built, passes=passes)
        if model.spec is not None:
            copy_text_files(model.text_files, writer)
        manifest = make_manifest(options, tvm_target, built, weights, model.spec, model.lengths)
        if emits_c(tvm_target):
            write_hand_off(writer.directory, manifest)
        manifest = dataclasses.replace(manifest, calibration=codes.weights)
        if passport:
            measured = make_passport(options, manifest, cache, writer, report)
            manifest = dataclasses.replace(manifest, passport=measured)
        writer.commit(manifest)
        cache.close()
    if explain is not None:
        for explanation in cache.explanations:
            explain(explanation)
    return writer.destination


def read_texts(
    options: CompileOptions, report: Report = lambda _: None, *, passport: bool = True
) -> np.ndarray | None:
    """Read what calibration and the passport run on, so that a fault of it costs no work.

    Args:
        options: what is to be compiled.
        report: takes the progress of large files.
        passport: whether accuracy is measured where it can be.

    Returns:
        The samples of `read_samples`; None where nothing is calibrated.

    Raises:
        VaccError: a text cannot be used, or the device of calibration is not there.
    """
    samples = read_samples(options, report)
    if passport:
        check_yardstick(options)
    return samples


def steps_of(
    model: Model,
    options: CompileOptions,
    target: tvm.target.Target,
    build: BuildOptions,
    watch: BuildWatch,
    promoted: tuple[int, ...] = (),
) -> tuple[Step, ...]:
    """Return the passes that a model goes through, as the user wants them; see `glm_pipeline`.

    Raises:
        ConfigError: a pass is named that there is not, or that cannot be left out.
    """
    steps = passes_of(model, options, target, promoted)
    if build.tuning is not None:
        steps = (*steps, Step(ChooseTiles(build.tuning.tiles), optional=True))
    named = (*build.disabled, *watch.print_before, *watch.print_after)
    check_pass_names(steps, named, target)
    return chosen(steps, build.opt_level, build.disabled)


def _promoted(
    model: Model, options: CompileOptions, cache: Cache, report: Report
) -> tuple[int, ...]:
    """Return the layers of a language model whose KV cache must have a wider range than fp16."""
    if model.lengths is None:
        return ()
    return promoted_layers(options, model.lengths[1], cache, report)


def passes_of(
    model: Model,
    options: CompileOptions,
    target: tvm.target.Target,
    promoted: tuple[int, ...] = (),
) -> tuple[Step, ...]:
    """Return the passes that a model goes through; see `glm_pipeline` for `promoted`."""
    linears = linear_dtype(options.relax_dtype, options.products, target)
    if model.spec is None or model.lengths is None:
        return graph_pipeline(
            options.relax_dtype,
            options.quantization,
            products=options.products,
            linears=linears,
        )
    return glm_pipeline(
        model.spec.layers,
        options.relax_dtype,
        prefill=model.lengths[0],
        quantization=options.quantization,
        products=options.products,
        linears=linears,
        stored=stored_matrices(model.stored),
        promoted=promoted,
    )


def linker_for(
    target: tvm.target.Target, cross_compiler: str | None, options: Sequence[str]
) -> Linker | None:
    """Return what links the kernels of a compile; None where nothing does.

    Raises:
        ConfigError: a linker is given for C sources, or is not there.
        TargetError: no linker for `target` is there.
    """
    if not emits_c(target):
        return find_linker(triple_of(target), cross_compiler, options)
    if cross_compiler is not None or options:
        raise ConfigError(
            f"--cross-compiler is given for {C_TAG}, whose sources nothing links here",
            "leave it out, and give the compiler to cmake",
        )
    return None


def _passes_key(
    model: Model, options: CompileOptions, steps: Sequence[Step], build: BuildOptions
) -> Key:
    """All that the passes depend on; the first ones stand in them already, for explanations."""
    return Key(
        {
            "dtype": options.dtype,
            "quantization": str(options.quantization),
            "prefill": str(model.lengths[0]) if model.lengths else "none",
            "passes": digest_of(repr(steps)),
            **build.pass_parts,
            **model.parts,
            **tool_parts("apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnxsim"),
        }
    )
