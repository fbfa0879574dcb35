"""The section `frontend.quantize` of the YAML, as a frozen pydantic model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tvm_vacc.config_section import Section
from tvm_vacc.quantize.scheme import ROUND_TO_NEAREST, SCHEMES, W8A16, Quantization
from tvm_vacc.strict import RefusedError


class CalibArgs(Section):
    """`frontend.quantize.calib_args`: of GPTQ (Frantar et al., 2022).

    Attributes:
        true_sequential: calibrate each projection on the output of the quantised ones before it.
        damping: share of the mean diagonal of the Hessian that is added to it.
        nsamples: calibration samples.
    """

    true_sequential: bool = False
    damping: float = Field(default=0.01, gt=0, lt=1)
    nsamples: int = Field(default=128, ge=1)


_LATER = {
    "w8a16_gptq": "write w8a16",
    "w4a16_gptq": "write w4a16",
    "w16kv8": "leave frontend.quantize out",
    "w8a16_kv8": "write w8a16",
    "w8a16_gptq_kv8": "write w8a16",
    "w8a8_kv8": "write w8a8",
    "w4a16_kv8": "write w4a16",
    "w4a16_gptq_kv8": "write w4a16",
}
"""Types that are known and cannot be made yet, and what to do instead."""


class Quantize(Section):
    """`frontend.quantize`.

    Attributes:
        type: weights of 8 or 4 bits; activations of 16 bits (float here) or 8; `gptq`: the codes
            are calibrated, otherwise rounded to nearest; `kv8`: an int8 KV cache.
        group_size: inputs that share a scale in 4 bits. Smaller is more accurate and larger:
            a scale costs 16 bits.
        head: `16bit` keeps the output projection as `backend.dtype`; `8bit` is w8a16.
        embedding: `16bit` keeps the embedding table as `backend.dtype`; `8bit` has one scale a row.
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
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d{1,3})?)$")
    calib_args: CalibArgs = CalibArgs()

    @model_validator(mode="after")
    def _refuse_what_is_not_there(self) -> Quantize:
        if self.type in _LATER:
            raise RefusedError("type", f"{self.type} comes in a later version", _LATER[self.type])
        return self

    @property
    def options(self) -> Quantization:
        """What the compiler needs to know."""
        return Quantization(
            type=self.type,
            scheme=SCHEMES[self.type],
            quantizer=ROUND_TO_NEAREST,
            group_size=self.group_size,
            head=W8A16 if self.head == "8bit" else None,
            embedding=self.embedding == "8bit",
        )

    @property
    def without_effect(self) -> dict[str, str]:
        """Keys that were given and have no effect on `type`, each with the reason."""
        reasons = {
            "device": "rounding to nearest needs no calibration",
            "calib_args": "rounding to nearest needs no calibration",
        }
        if SCHEMES[self.type].weight_bits == 8:
            reasons["group_size"] = "8-bit weights have one scale an output channel"
        return {key: reason for key, reason in reasons.items() if key in self.model_fields_set}
