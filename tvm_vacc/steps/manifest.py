"""The last step of a compile: the text files of a model, and the manifest of its artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm

from relay_passes.weight_plan import tensors_of
from schedules.isa import isa_of
from schedules.linear_bf16_tile import products_in
from tvm_vacc.artifact.manifest import Manifest, installed_versions
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.config import CompileOptions
from tvm_vacc.limits import PAGE_SIZE
from tvm_vacc.model_spec import ModelSpec
from tvm_vacc.pipeline import linear_dtype
from tvm_vacc.steps.passes import Build
from tvm_vacc.steps.stored_weights import storage_report
from tvm_vacc.target import processor_of

TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
"""Files of a checkpoint that an artefact carries along, where they are there."""

TOOLS = ("tvm-vacc", "apache-tvm", "apache-tvm-ffi", "torch", "onnx", "numpy")
"""Distributions whose versions the manifest records."""


def copy_text_files(directory: Path, writer: ArtifactWriter) -> None:
    """Copy the tokenizer and its like from a checkpoint's directory."""
    for name in TEXT_FILES:
        if (source := directory / name).is_file():
            writer.copy(source, name)


def make_manifest(
    options: CompileOptions,
    target: tvm.target.Target,
    build: Build,
    weights: tuple[str, ...],
    spec: ModelSpec | None,
    lengths: tuple[int, int] | None,
) -> Manifest:
    """Say what the artefact is.

    Args:
        options: what the user asked for.
        target: what the kernels are compiled for.
        build: what is known of them.
        weights: names of the weights files.
        spec: of a language model; None for a plain graph.
        lengths: prefill bucket and context in tokens of a language model.
    """
    common: dict[str, Any] = {
        "name": options.name,
        "target": str(target),
        "dtype": options.dtype,
        "processor": processor_of(target),
        "quantization": options.quantization.type if options.quantization else "none",
        "products": products_in(
            linear_dtype(options.relax_dtype, options.products, target),
            options.products,
            isa_of(target),
        ),
        "functions": build.functions,
        "weights": weights,
        "storage": storage_report(build.plan, build.sources),
        "parameters": tuple(tensor.name for tensor in tensors_of(build.plan)),
        "sources": {t.name: weight.reads for weight in build.plan for t in weight.tensors},
        "passes": build.passes,
        "tools": installed_versions(*TOOLS),
    }
    if spec is None or lengths is None:
        return Manifest(kind="graph", inputs=build.inputs, outputs=build.outputs, **common)
    return Manifest(
        kind="causal_lm",
        model_spec=spec.to_json(),
        prefill=lengths[0],
        context=lengths[1],
        page_size=PAGE_SIZE,
        caches=build.caches,
        **common,
    )
