"""Where an artefact and a checkpoint part: each operator of each layer against the reference's.

Every operator of the reference is given what the artefact's own has been given, so that it shows
its own error and not what operators before it have brought.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from transformers.models.glm.modeling_glm import GlmRMSNorm

from tvm_vacc.errors import ArtifactError, CheckpointError
from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.frontend.glm_layout import EMBEDDING
from tvm_vacc.passport.divergence import cosines, relative_error
from tvm_vacc.passport.observe import KernelCall, observing
from tvm_vacc.reference.layered import LayeredGlm
from tvm_vacc.runtime.batch import Row
from tvm_vacc.runtime.model import Model

EMBEDDING_MODULE = EMBEDDING.removesuffix(".weight")
HEAD_MODULE = "lm_head"
LAST_NORM = "model.norm"

CACHE_OF_CODES = "kv8"

TOLERANCES = {
    "fp32": 1e-3,
    "bf16": 1e-2,
    "fp16": 1e-2,
    "w8a16": 2.5e-2,
    "w8a8": 7e-2,
    "w4a16": 3e-1,
    CACHE_OF_CODES: 5e-2,
}
"""Relative error that rounding explains, by what weights are stored as: three times the largest of
the demo checkpoint."""


@dataclass(frozen=True)
class Operator:
    """An operator of a layer, and where its result is to be seen.

    Attributes:
        name: what it does.
        module: the checkpoint's module, relative to its layer.
        reader: the module whose input it is, where it is no module's output.
    """

    name: str
    module: str
    reader: str = ""


LAYER = (
    Operator("rms_norm", "input_layernorm"),
    Operator("q", "self_attn.q_proj"),
    Operator("k", "self_attn.k_proj"),
    Operator("v", "self_attn.v_proj"),
    Operator("attention", "self_attn", reader="self_attn.o_proj"),
    Operator("o", "self_attn.o_proj"),
    Operator("rms_norm", "post_attention_layernorm"),
    Operator("gate_up", "mlp.gate_up_proj"),
    Operator("swiglu", "mlp", reader="mlp.down_proj"),
    Operator("down", "mlp.down_proj"),
)
"""The operators of a GLM's layer, in the order in which they run."""


@dataclass(frozen=True)
class Difference:
    """How far an operator's result is from the reference's.

    Attributes:
        module: of the checkpoint.
        operator: what it does.
        relative_error: norm of the difference over the norm of the reference's result.
        cosine: mean over the tokens.
    """

    module: str
    operator: str
    relative_error: float
    cosine: float


def compare(model: Model, checkpoint: Checkpoint, tokens: list[int]) -> Iterator[Difference]:
    """Yield the difference of every operator, from the embedding to the head.

    One layer of the checkpoint is in memory at a time.

    Args:
        model: the artefact.
        checkpoint: what it was compiled from, or should have been.
        tokens: the prompt; no more than one step of the model takes.

    Raises:
        CheckpointError: the checkpoint's dimensions are not the model's.
        ArtifactError: the artefact computes the model in another way, as one made of an .onnx file.
        RequestError: the prompt does not fit the model.
    """
    _require_same_dimensions(model, checkpoint)
    found = _run(model, checkpoint, tokens)
    glm = LayeredGlm(checkpoint)
    embedded = glm.embed(torch.tensor([tokens]))[0].numpy()
    yield _difference(EMBEDDING_MODULE, "embedding", embedded, found.output(EMBEDDING_MODULE))
    for index in range(checkpoint.spec.layers):
        layer = f"model.layers.{index}."
        want = _run_layer(glm, index, found)
        for operator in LAYER:
            pair = want.result(layer, operator), found.result(layer, operator)
            yield _difference(f"{layer}{operator.module}", operator.name, *pair)
    normalised = glm.final_norm(torch.from_numpy(found.input(LAST_NORM)))
    yield _difference(LAST_NORM, "rms_norm", normalised.numpy(), found.output(LAST_NORM))
    logits = glm.logits(torch.from_numpy(found.input(HEAD_MODULE)))
    yield _difference(HEAD_MODULE, "head", logits.numpy(), found.output(HEAD_MODULE))


def tolerance_of(model: Model) -> float:
    """Return the relative error that the model's coarsest weights, or its cache, explain."""
    manifest = model.manifest
    stored = {weights.stored_as for weights in manifest.storage if weights.kind != "other"}
    if manifest.caches[0].dtype == "int8":
        stored.add(CACHE_OF_CODES)
    return max(TOLERANCES[name] for name in stored)


@dataclass
class _Seen:
    """What went into the modules and came out of them, by their names."""

    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)

    def result(self, layer: str, operator: Operator) -> np.ndarray:
        if operator.reader:
            return self.input(f"{layer}{operator.reader}")
        return self.output(f"{layer}{operator.module}")

    def input(self, module: str) -> np.ndarray:
        return self._of(self.inputs, module)

    def output(self, module: str) -> np.ndarray:
        return self._of(self.outputs, module)

    def _of(self, arrays: dict[str, np.ndarray], module: str) -> np.ndarray:
        if module not in arrays:
            raise ArtifactError(
                f"no kernel of the artefact computes {module}",
                "compare an artefact that was compiled from a checkpoint by this version",
            )
        return arrays[module]


def _run(model: Model, checkpoint: Checkpoint, tokens: list[int]) -> _Seen:
    """Run the artefact; a kernel that computes several modules at once has its result cut apart."""
    model.check_prompt(tokens, len(tokens))
    seen = _Seen()

    def see(call: KernelCall) -> None:
        known = [name for name in call.reads if name in checkpoint.tensors]
        weights = [name for name in known if name.endswith(".weight")]
        modules = [name.removesuffix(".weight") for name in weights]
        if not call.inputs and modules:
            seen.outputs[EMBEDDING_MODULE] = call.output
            return
        if modules == [EMBEDDING_MODULE]:  # tied embeddings: the table is the head
            modules = [HEAD_MODULE]
        widths = [checkpoint.tensors[name].shape[0] for name in weights]
        parts = np.split(call.output, np.cumsum(widths)[:-1], axis=-1) if modules else []
        for module, part in zip(modules, parts, strict=True):
            seen.inputs[module], seen.outputs[module] = call.inputs[0], part

    with observing(model, see), model.temporary_sequence() as sequence:
        model.step([Row(sequence, tokens, all_logits=True)])
    return seen


def _run_layer(glm: LayeredGlm, index: int, found: _Seen) -> _Seen:
    """Run a layer of the reference; each module hands on what the artefact has found there."""
    layer, seen = glm.layer(index), _Seen()

    def watch(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, args: tuple[torch.Tensor, ...], made: torch.Tensor) -> torch.Tensor:
            seen.inputs[name], seen.outputs[name] = args[0][0].numpy(), made[0].numpy()
            return torch.from_numpy(found.output(name))[None]

        module.register_forward_hook(hook)

    for name, module in layer.named_modules():
        if isinstance(module, (nn.Linear, GlmRMSNorm)):
            watch(f"model.layers.{index}.{name}", module)
    start = found.input(f"model.layers.{index}.{LAYER[0].module}")
    glm.run(layer, torch.from_numpy(start)[None])
    return seen


def _difference(module: str, operator: str, reference: np.ndarray, found: np.ndarray) -> Difference:
    error = relative_error(reference, found)
    return Difference(module, operator, error, float(cosines(reference, found).mean()))


def _require_same_dimensions(model: Model, checkpoint: Checkpoint) -> None:
    for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab"):
        ours, theirs = getattr(model.spec, name), getattr(checkpoint.spec, name)
        if ours != theirs:
            raise CheckpointError(
                f"{checkpoint.path}: its {name} is {theirs}, the artefact's {ours}",
                "give the checkpoint that it was compiled from",
            )
