"""Compiles to any of the output formats: what the command line and the Python API share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_vacc.artifact.kernel_files import LIBRARY_SUFFIX
from tvm_vacc.artifact.manifest import MANIFEST_NAME, Manifest, read_manifest
from tvm_vacc.errors import ConfigError

if TYPE_CHECKING:
    from tvm_vacc.config import Config

FORMATS = ("dir", "tar", "so", "mlf")
_LIBRARY_OPTIONS = (
    *("target", "dtype", "input_shapes", "model_format", "progress", "build", "watch"),
    *("cross_compiler", "cross_compiler_options"),
)


def compile_package(
    model: str | Path | Config,
    output: Path,
    form: str,
    *,
    name: str | None = None,
    **options: Any,
) -> tuple[Path, Manifest]:
    """Compile `model` to `output` and return its path, and what it is.

    Args:
        model: see `tvm_vacc.compile`.
        output: a directory, or a file; with ``mlf`` a name that ends in ``.tar`` means a file.
        form: of `FORMATS`; the target says whether it is C.
        name: of the artefact; of a library, the function by which it opens.
        options: further arguments of `tvm_vacc.compile`.

    Raises:
        VaccError: see `tvm_vacc.compile` and `compile_library`.
    """
    try:
        return _compile(model, output, form, name, options)
    except ConfigError as error:
        if not options.get("input_shapes"):
            raise
        # What a config says under frontend.shape was said by the option here.
        message = error.message.replace("frontend.shape.", "--input-shapes: ")
        raise ConfigError(message, error.cure) from error


def _compile(
    model: str | Path | Config, output: Path, form: str, name: str | None, options: dict[str, Any]
) -> tuple[Path, Manifest]:
    if form == "so":
        if output.suffix != LIBRARY_SUFFIX:
            raise ConfigError(f"{output}: a library's name ends in .so", f"write {output}.so")
        from tvm_vacc.relay.compile_library import compile_library

        given = {key: value for key, value in options.items() if key in _LIBRARY_OPTIONS}
        return compile_library(model, output=output, name=name or "default", **given)
    if form == "tar" or (form == "mlf" and output.suffix == ".tar"):
        from tvm_vacc.package import compile_tar

        return compile_tar(model, output, name=name, **options)
    from tvm_vacc import compiler

    path = compiler.compile(model, output=output, name=name, **options)
    return path, read_manifest(path / MANIFEST_NAME)
