"""GPTQ over a checkpoint, one layer in memory at a time, each behind the quantised ones before it.

Source: Frantar et al., 2022, section 4: the inputs of a layer are those that the quantised layers
before it make, so that later layers make up for earlier errors. With `true_sequential` this holds
inside a layer, too: o sees what the quantised q, k and v make.

A killed run goes on: finished layers are on the disk. The hidden states behind them are not
written, which would take gigabytes a layer; running the quantised layers again takes a small part
of the time that quantising them took.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tvm_vacc.artifact.calibration import CalibratedWeight
from tvm_vacc.calibration.codes_file import Codes, read_codes, write_codes
from tvm_vacc.calibration.codes_record import codes_names, read_record
from tvm_vacc.calibration.device import require_device
from tvm_vacc.calibration.hidden_states import batches, new_hidden_states
from tvm_vacc.calibration.layer_inputs import gather_hessians
from tvm_vacc.calibration.options import CalibrationOptions, CodesWanted
from tvm_vacc.calibration.quantize_linear import quantize_linear
from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.frontend.glm_layout import HEAD
from tvm_vacc.progress import Progress, Report
from tvm_vacc.quantize.gptq import dequantized, output_power
from tvm_vacc.reference.layered import LayeredGlm

READERS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_up_proj",),
    ("mlp.down_proj",),
)
"""The linears of a layer in their order; those that read one input together."""


class _Made(NamedTuple):
    """Codes and reports by the names of the weights."""

    codes: dict[str, Codes]
    weights: list[CalibratedWeight]


def calibrate(
    checkpoint: Checkpoint,
    samples: np.ndarray,
    wanted: CodesWanted,
    options: CalibrationOptions,
    directory: Path,
    report: Report,
) -> None:
    """Write the codes of all layers, and of the head where it is wanted, to `directory`.

    Memory: one layer in fp32, the Hessians of the linears that are quantised together, four
    matrices like the largest of these, and the activations of a batch; see also `hidden_states`.

    Args:
        checkpoint: of either layout.
        samples: token ids ``[samples, seqlen]`` int64.
        wanted: which linears, and onto which grid.
        options: how.
        directory: may hold what a killed run has left; see `codes_record` for the files.
        report: takes the progress.

    Raises:
        ConfigError: there is no such device.
        CheckpointError: a weight, or a hidden state, is not finite.
        OSError: the files cannot be written.
    """
    require_device(options.device)
    glm = LayeredGlm(checkpoint, options.device)
    names = list(codes_names(checkpoint.spec.layers, head=wanted.head))
    report(Progress("calibrate", 0, len(names), "layers"))
    count, seqlen = samples.shape
    states = new_hidden_states((count, seqlen, checkpoint.spec.hidden), directory)
    for batch, ids in zip(batches(states), batches(torch.from_numpy(samples)), strict=True):
        batch.copy_(glm.embed(ids))
    resumed = 0
    for done, name in enumerate(names):
        is_finished = resumed == done and read_record(directory, name) is not None
        resumed += is_finished
        if name == "head":
            made = None if is_finished else _quantize_head(glm, states, options)
        else:
            layer = glm.layer(done)
            if is_finished:
                _set_weights(layer, done, read_codes(directory, name))
                made = None
            else:
                made = _quantize_layer(glm, layer, done, states, wanted, options)
            for batch in batches(states):
                batch.copy_(glm.run(layer, batch.to(glm.device)))
        if made is not None:
            write_codes(directory, name, made.codes, tuple(made.weights))
        report(Progress("calibrate", done + 1, len(names), "layers", skipped=resumed))


def _quantize_layer(
    glm: LayeredGlm,
    layer: nn.Module,
    index: int,
    states: Tensor,
    wanted: CodesWanted,
    options: CalibrationOptions,
) -> _Made:
    """Quantise the linears of `layer`, which has the new weights then."""
    made = _Made({}, [])
    steps = [[group] for group in READERS] if options.true_sequential else [list(READERS)]
    for groups in steps:
        readers = [_linear(layer, group[0]) for group in groups]
        hessians = gather_hessians(lambda batch: glm.run(layer, batch), states, readers)
        for group, hessian in zip(groups, hessians, strict=True):
            for reader in group:
                linear = _linear(layer, reader)
                name = _weight_name(index, reader)
                group_size = linear.in_features if wanted.bits == 8 else wanted.group_size
                weight = linear.weight.data
                codes, told = quantize_linear(
                    name, weight, hessian, wanted.bits, group_size, options
                )
                linear.weight.data = dequantized(*codes)
                made.codes[name] = codes
                made.weights.append(told)
    return made


def _quantize_head(glm: LayeredGlm, states: Tensor, options: CalibrationOptions) -> _Made:
    """Quantise the head in 8 bits, some rows at a time: rows do not depend on each other."""
    hidden = states.shape[-1]
    hessian = torch.zeros(hidden, hidden, device=glm.device)
    for batch in batches(states):
        tokens = glm.final_norm(batch.to(glm.device)).flatten(0, -2)
        hessian.addmm_(tokens.T, tokens)
    parts: list[Codes] = []
    power = error = rounded = damping = 0.0
    for part in glm.head_parts():
        codes, told = quantize_linear(HEAD, part, hessian, 8, hidden, options)
        parts.append(codes)
        share = output_power(part, hessian)
        power, damping = power + share, told.damping
        error, rounded = error + share * told.error**2, rounded + share * told.rounded**2
    whole = Codes(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    power = power or 1.0
    told = CalibratedWeight(HEAD, (error / power) ** 0.5, (rounded / power) ** 0.5, damping)
    return _Made({HEAD: whole}, [told])


def _set_weights(layer: nn.Module, index: int, made: dict[str, Codes]) -> None:
    for group in READERS:
        for reader in group:
            linear = _linear(layer, reader)
            codes = made[_weight_name(index, reader)]
            linear.weight.data = dequantized(*codes).to(linear.weight.device)


def _linear(layer: nn.Module, reader: str) -> nn.Linear:
    linear = layer.get_submodule(reader)
    assert isinstance(linear, nn.Linear)
    return linear


def _weight_name(index: int, reader: str) -> str:
    return f"model.layers.{index}.{reader}.weight"
