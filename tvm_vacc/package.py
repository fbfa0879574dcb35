"""An artefact in one file: compiled to a directory, packed, the directory removed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tvm_vacc.artifact.archive import pack_artifact
from tvm_vacc.artifact.manifest import MANIFEST_NAME, Manifest, read_manifest
from tvm_vacc.artifact.replace import destination_lock
from tvm_vacc.compiler import compile
from tvm_vacc.config import Config
from tvm_vacc.errors import ArtifactError


def compile_tar(
    model: str | Path | Config, output: str | Path, **options: Any
) -> tuple[Path, Manifest]:
    """Compile a model to the tar file `output`; return its path, and what it is.

    The cache beside it is that of a directory there; packed weights stand on the disk twice until
    the tar is whole.

    Args:
        model: see `tvm_vacc.compile`.
        output: the file; replaced where it is there.
        options: further arguments of `tvm_vacc.compile`.

    Raises:
        VaccError: see `tvm_vacc.compile`; also a directory stands at `output`.
    """
    output = Path(output).expanduser().absolute()
    if output.is_dir():
        raise ArtifactError(f"{output}: is a directory", "choose another name for the tar")
    directory = compile(model, output=output.with_name(f".{output.name}.artefact"), **options)
    with destination_lock(directory):
        try:
            manifest = read_manifest(directory / MANIFEST_NAME)
            pack_artifact(directory, output)
        except OSError as error:
            reason = error.strerror or error
            raise ArtifactError(
                f"{output}: cannot be written ({reason})", "free some space"
            ) from error
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    return output, manifest
