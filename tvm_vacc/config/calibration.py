"""What a config says of calibration, in two sections: `frontend.quantize` and `dataset`."""

from __future__ import annotations

import dataclasses

from tvm_vacc.calibration.texts_source import TextSource
from tvm_vacc.config.quantize import Quantize
from tvm_vacc.config.schema import Dataset, Frontend
from tvm_vacc.strict import RefusedError


def is_calibrated(frontend: Frontend) -> bool:
    """Whether calibration chooses the codes."""
    return frontend.quantize is not None and frontend.quantize.is_calibrated


def refuse_calibration(frontend: Frontend, dataset: Dataset | None) -> None:
    """Refuse calibration without a checkpoint, or with two numbers of samples.

    Raises:
        RefusedError: with the key and a cure.
    """
    quantize = frontend.quantize
    if quantize is None or not quantize.is_calibrated:
        return
    if frontend.type == "onnx":
        message = f"{quantize.type} is calibrated on a checkpoint, and frontend.type is onnx"
        cure = f"write {quantize.type.partition('_')[0]}"
        raise RefusedError("frontend.quantize.type", message, cure)
    given = quantize.calib_args.nsamples
    twice = given and dataset is not None and "nsamples" in dataset.model_fields_set
    if dataset is not None and twice and given != dataset.nsamples:
        message = f"{given}, and dataset.nsamples is {dataset.nsamples}"
        key = "frontend.quantize.calib_args.nsamples"
        raise RefusedError(key, message, "write one of the two")


def calibration_texts(quantize: Quantize | None, dataset: Dataset | None) -> TextSource:
    """Return what calibration reads; of two keys for the number of samples one is enough."""
    source = (dataset or Dataset()).source
    given = quantize and quantize.calib_args.nsamples
    return dataclasses.replace(source, nsamples=given) if given else source
