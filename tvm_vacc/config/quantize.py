"""The section `frontend.quantize` of the YAML, as a frozen pydantic model."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from tvm_vacc.calibration.options import CalibrationOptions
from tvm_vacc.config.section import Section
from tvm_vacc.limits import MAX_SAMPLES
from tvm_vacc.quantize.scheme import (
    GPTQ,
    ROUND_TO_NEAREST,
    SCHEMES,
    W8A8,
    W8A16,
    Quantization,
    Scheme,
)
from tvm_vacc.strict import RefusedError


def _device(name: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise RefusedError("", f"there is no {name}", "write cpu, or cuda:0 for the first GPU")
    return name


class CalibArgs(Section):
    """`frontend.quantize.calib_args`: of GPTQ (Frantar et al., 2022).

    Attributes:
        true_sequential: calibrate each projection on the output of the quantised ones before it.
        damping: share of the mean diagonal of the Hessian that is added to it; raised where that
            is too little.
        act_order: choose the codes of the inputs first that weigh most.
        nsamples: calibration samples; without it, `dataset.nsamples`.
    """

    true_sequential: bool = True
    damping: float = Field(default=0.01, gt=0, lt=1)
    act_order: bool = False
    nsamples: int | None = Field(default=None, ge=1, le=MAX_SAMPLES)


class Quantize(Section):
    """`frontend.quantize`.

    Attributes:
        type: weights of 8 or 4 bits; activations of 16 bits (float here) or 8; `gptq`: the codes
            are calibrated, otherwise rounded to nearest; `kv8`: an int8 KV cache.
        group_size: inputs that share a scale in 4 bits. Smaller is more accurate and larger:
            a scale costs 16 bits.
        head: `16bit` keeps the output projection as `backend.dtype`; `8bit` is w8a16, or w8a8 where
            `sensitive` is 8bit.
        embedding: `16bit` keeps the embedding table as `backend.dtype`; `8bit` has one scale a row.
        sensitive: of w8a8: `16bit`: the linears that lose most by activations of 8 bits (`down`,
            keys and values) take those of 16, as w8a16 does; `8bit`: all linears are w8a8, which
            costs three times the KL divergence and saves a fifth of the time of a prompt.
        device: where calibration runs.
        calib_args: see `CalibArgs`.
    """

    type: Literal[
        "w8a16",
        "w8a8",
        "w4a16",
        "w8a16_gptq",
        "w4a16_gptq",
        "w16kv8",
        "w8a16_kv8",
        "w8a16_gptq_kv8",
        "w8a8_kv8",
        "w4a16_kv8",
        "w4a16_gptq_kv8",
    ]
    group_size: Literal[32, 64, 128] = 64
    head: Literal["16bit", "8bit"] = "16bit"
    embedding: Literal["16bit", "8bit"] = "16bit"
    sensitive: Literal["16bit", "8bit"] = "16bit"
    device: Annotated[str, AfterValidator(_device)] = "cpu"
    calib_args: CalibArgs = CalibArgs()

    @model_validator(mode="after")
    def _refuse_a_head_alone(self) -> Quantize:
        if self.type == "w16kv8" and self.head == "8bit":
            message = "w16kv8 leaves the weights of all linears as they are"
            raise RefusedError("head", message, "write head: 16bit, or type: w8a16_kv8")
        return self

    @property
    def options(self) -> Quantization:
        """What the compiler needs to know; keys without effect on `type` leave no trace in it."""
        scheme = self._scheme
        return Quantization(
            type=self.type,
            scheme=scheme,
            quantizer=GPTQ if self.is_calibrated else ROUND_TO_NEAREST,
            group_size=self.group_size if scheme is not None and scheme.weight_bits < 8 else 0,
            head=self._head,
            embedding=self.embedding == "8bit",
            kv8=self.has_kv8,
            spares_activations=scheme is not W8A8 or self.sensitive == "16bit",
        )

    @property
    def is_calibrated(self) -> bool:
        """Whether calibration chooses the codes."""
        return "gptq" in self.type.split("_")

    @property
    def has_kv8(self) -> bool:
        """Whether the KV cache is of int8."""
        return self.type.endswith("kv8")

    @property
    def calibration(self) -> CalibrationOptions:
        """What calibration needs to know."""
        return CalibrationOptions(
            damping=self.calib_args.damping,
            true_sequential=self.calib_args.true_sequential,
            act_order=self.calib_args.act_order,
            device=self.device,
        )

    @property
    def _scheme(self) -> Scheme | None:
        return SCHEMES.get(self.type.partition("_")[0])

    @property
    def _head(self) -> Scheme | None:
        if self.head == "16bit":
            return None
        return W8A8 if self._scheme is W8A8 and self.sensitive == "8bit" else W8A16

    @property
    def without_effect(self) -> dict[str, str]:
        """Keys that were given and have no effect on `type`, each with the reason."""
        reasons = {}
        if not self.is_calibrated:
            reasons["device"] = "rounding to nearest needs no calibration"
            reasons["calib_args"] = "rounding to nearest needs no calibration"
        if self._scheme is None or self._scheme.activations != "int8":
            reasons["sensitive"] = "only w8a8 has activations of 8 bits"
        if self._scheme is None:
            reasons["group_size"] = "no weight of a linear is quantised"
        elif self._scheme.weight_bits == 8:
            reasons["group_size"] = "8-bit weights have one scale an output channel"
        return {key: reason for key, reason in reasons.items() if key in self.model_fields_set}
