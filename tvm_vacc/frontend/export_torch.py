"""A program of torch.export to an ONNX file, its weights beside it."""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import warnings
import zipfile
from pathlib import Path

from tvm_vacc.errors import OnnxError
from tvm_vacc.frontend.pt2_archive import check_pt2


def export_torch(path: Path, onnx_path: Path) -> None:
    """Write the program in the ``.pt2`` file `path` as ONNX to `onnx_path`.

    Dynamic dimensions stay symbolic.

    Raises:
        OnnxError: the file could run code (`check_pt2`), or torch cannot read or export it.
    """
    import torch

    check_pt2(path)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if "/data/sample_inputs/" in name:
                _check_sample(archive.read(name), f"{path}: {name}")
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it tells of torchvision, not asked for
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
            torch.onnx.export(program, f=str(onnx_path), dynamo=True, external_data=True)
    except Exception as error:  # of whatever class: operators, versions, torch's own asserts
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise OnnxError(
            f"{path}: torch cannot export it to ONNX: {reason:.200}",
            "export the model by torch.onnx.export yourself, and compile the .onnx file",
        ) from error


def _check_sample(data: bytes, where: str) -> None:
    """Torch unpickles sample inputs without limits where its own limited reader fails."""
    import torch

    try:
        if data:
            torch.load(io.BytesIO(data), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise OnnxError(
            f"{where}: holds more than tensors", "export the model with tensors as sample inputs"
        ) from error
