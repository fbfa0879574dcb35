"""In which formats a model may come, and how one is told from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tvm_vacc.config import RELAX_DTYPES, CompileOptions
from tvm_vacc.errors import ConfigError

SUFFIXES: dict[str, tuple[str, ...]] = {
    "huggingface": (),  # a directory
    "onnx": (".onnx",),
    "pytorch": (".pt2",),
    "relax": (".json", ".py"),
    "yaml": (".yaml", ".yml"),
}
FORMATS = tuple(SUFFIXES)
"""A checkpoint's directory, an ONNX graph, a program of torch.export, a Relax module, a config."""

GRAPH_FORMATS = ("pytorch", "relax")
"""Files of graphs that the YAML has no word for."""

_EXPORT = {
    "keras": "export it to ONNX, with tf2onnx or keras.export(format='onnx')",
    "pb": "export it to ONNX with tf2onnx",
    "tflite": "convert it to ONNX with tf2onnx --tflite",
    "paddle": "convert it to ONNX with paddle2onnx",
    "relay": "TVM dropped Relay: save the model as ONNX, or build it as a Relax module",
}
_PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl"}


def check_format(name: str) -> str:
    """Return `name`, where it is a format.

    Raises:
        ConfigError: it is none; says what to do with models of TVM's former frontends.
    """
    if name not in FORMATS:
        cure = _EXPORT.get(name, f"choose of {', '.join(FORMATS)}")
        raise ConfigError(f"model format {name}: there is no reader for it", cure)
    return name


def guess_format(path: str | Path) -> str:
    """Return the format of the model at `path`, by what its name ends in.

    Raises:
        ConfigError: that tells nothing, or is a file of pickled code.
    """
    path = Path(path)
    if path.is_dir():
        return "huggingface"
    for name, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return name
    if path.suffix.lower() in _PICKLES:
        raise ConfigError(
            f"{path}: is a pickle, which runs whatever code it holds",
            "save the model by torch.export.save as .pt2, or give a directory of safetensors",
        )
    known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    if not path.exists():
        raise ConfigError(f"{path}: no such file or directory", f"known: {known}")
    raise ConfigError(
        f"{path}: its name does not tell its format",
        f"give the format: {', '.join(FORMATS)}, or a name that ends in {known}",
    )


def graph_options(
    path: str | Path, kind: Any, *, dtype: str | None, workspace: str | Path
) -> CompileOptions:
    """Return what the compiler is to do with a file of one of `GRAPH_FORMATS`.

    Args:
        path: the file.
        kind: which format.
        dtype: what its weights are stored as; default fp32.
        workspace: directory for what leads to the artefact.

    Raises:
        ConfigError: there is no such file, or no such dtype.
    """
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise ConfigError(f"{path}: no such file", f"give a file of the format {kind}")
    if dtype is not None and dtype not in RELAX_DTYPES:
        raise ConfigError(f"dtype is {dtype!r}", f"choose of {', '.join(RELAX_DTYPES)}")
    stored: Any = dtype or "fp32"
    return CompileOptions(
        name=f"{path.stem}-{stored}",
        checkpoint=path,
        type=kind,
        prefill=0,
        context=0,
        input_shapes={},
        dtype=stored,
        tp=1,
        merge_params=True,
        workspace=Path(workspace).expanduser().absolute(),
        workers=1,
    )
