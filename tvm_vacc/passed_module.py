"""A model after all passes of its pipeline, for what works on its kernels without an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm

from tvm_vacc.cache.store import DIRECTORY, Cache
from tvm_vacc.compiler import passes_of
from tvm_vacc.config import Config
from tvm_vacc.pipeline import run_pipeline
from tvm_vacc.steps.model_entry import open_model
from tvm_vacc.steps.options import resolve_options
from tvm_vacc.steps.stored_codes import with_stored_codes


def passed_module(
    path: str | Path | Config, target: tvm.target.Target, directory: Path, **given: Any
) -> tvm.ir.IRModule:
    """Run the passes of a model and return what kernels are made of.

    Args:
        path: see `tvm_vacc.compile`.
        target: what for.
        directory: for what a compile keeps beside its artefact.
        given: arguments of `resolve_options`.

    Raises:
        VaccError: see `tvm_vacc.compile`.
    """
    options = resolve_options(path, output=directory / "model", **given)
    model = open_model(options, Cache(directory / DIRECTORY, "model"), lambda _: None)
    options = with_stored_codes(options, model.stored)
    module, _ = run_pipeline(model.read(False).module, passes_of(model, options, target))
    return module
