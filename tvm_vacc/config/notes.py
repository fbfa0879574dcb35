"""Keys of a config that are accepted and have no effect."""

from __future__ import annotations

from tvm_vacc.config.calibration import is_calibrated
from tvm_vacc.config.schema import Backend, Dataset, Frontend

_NO_EFFECT = {
    "b2s": "batch rows always run as one sequence",
    "align_qkv": "one rank holds all KV heads",
    "data_type": "activations are fp32 on a CPU",
    "gather_data_vccl_dsp_enable": "there is no accelerator to gather on",
}


def keys_without_effect(
    frontend: Frontend, backend: Backend, dataset: Dataset | None
) -> tuple[str, ...]:
    """Return one line for each key that was given and has no effect here."""
    sections = (
        ("frontend.model_kwargs", frontend.model_kwargs),
        ("backend.compile", backend.compile),
    )
    notes = [
        f"{path}.{key} has no effect: {_NO_EFFECT[key]}"
        for path, section in sections
        for key in sorted(section.model_fields_set & _NO_EFFECT.keys())
    ]
    if frontend.quantize is not None:
        reasons = frontend.quantize.without_effect
        notes += [
            f"frontend.quantize.{key} has no effect: {reason}" for key, reason in reasons.items()
        ]
    if dataset is not None and not is_calibrated(frontend):
        notes.append("dataset has no effect: rounding to nearest reads no calibration data")
    return tuple(notes)
