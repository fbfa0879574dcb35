"""The first step of a compile: what is to be made, as a config says or for a model without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from tvm_vacc.config import CompileOptions, Config, load_config
from tvm_vacc.errors import ConfigError
from tvm_vacc.model_format import GRAPH_FORMATS, graph_options, guess_format


def resolve_options(
    path: str | Path | Config,
    *,
    output: str | Path | None = None,
    dtype: str | None = None,
    prefill: int | None = None,
    context: int | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    model_format: str | None = None,
    name: str | None = None,
) -> CompileOptions:
    """Return what the compiler is to do, read from a config or made for a model.

    Without a config the workspace is where `output` is to stand, else ``workspace``.

    Raises:
        ConfigError: the config cannot be used, or an argument is given beside it.
    """
    given = {"dtype": dtype, "prefill": prefill, "context": context, "input_shapes": input_shapes}
    found = "yaml" if isinstance(path, Config) else model_format or guess_format(path)
    if found == "yaml" or isinstance(path, Config):
        for argument, value in given.items():
            if value is not None:
                raise ConfigError(
                    f"{argument} is given beside a config", f"write {_KEYS[argument]} into it"
                )
        config = path if isinstance(path, Config) else load_config(path)
        return _named(config.compile_options, name)
    workspace = "workspace" if output is None else Path(output).expanduser().absolute().parent
    if found in GRAPH_FORMATS:
        options = graph_options(path, found, dtype=dtype, workspace=workspace)
    else:
        options = Config.for_checkpoint(
            path, dtype=dtype, prefill=prefill, context=context, workspace=workspace
        ).compile_options
    if input_shapes:
        if found != "onnx":
            raise ConfigError(f"{path}: input_shapes: {_OWN_SHAPES[found]}", "leave them out")
        shapes = {input_name: tuple(dims) for input_name, dims in input_shapes.items()}
        options = dataclasses.replace(options, input_shapes=shapes)
    return _named(options, name)


_KEYS = {
    "dtype": "backend.dtype",
    "prefill": "frontend.shape.input_ids",
    "context": "frontend.shape.input_ids",
    "input_shapes": "frontend.shape",
}
_OWN_SHAPES = {
    "huggingface": "a language model takes prompts of any length: say how long they get by "
    "prefill and context",
    "pytorch": "the shapes of an exported program are those of torch.export's dynamic_shapes",
    "relax": "the shapes of a Relax module stand in it",
}


def _named(options: CompileOptions, name: str | None) -> CompileOptions:
    return options if name is None else dataclasses.replace(options, name=name)
