"""What transformers' GLM in fp32 says to the yardstick, written to files layer by layer.

One layer is in memory at a time, and the logits of all tokens never are: the head goes over them
part by part, into a file. What is finished of a run that was killed is not computed again.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers.models.glm.modeling_glm import GlmDecoderLayer

from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.model_spec import ModelSpec
from tvm_vacc.passport.divergence import log_softmax
from tvm_vacc.passport.reference_files import (
    LOGITS,
    hidden_file,
    map_array,
    ranges_file,
    write_array,
)
from tvm_vacc.passport.yardstick import YARDSTICK_FILE, Predictions, top_tokens
from tvm_vacc.progress import Progress, Report
from tvm_vacc.reference.layered import HEAD, LayeredGlm


def make_reference(
    checkpoint: Checkpoint, tokens: list[int], first: int, directory: Path, report: Report
) -> None:
    """Write `LOGITS`, `YARDSTICK_FILE`, and of each layer `hidden_file` and `ranges_file`.

    Args:
        checkpoint: the model.
        tokens: the yardstick.
        first: the first position that is scored.
        directory: where to; may hold what an earlier run of the same arguments has finished.
        report: takes the progress, in bytes of weights.

    Raises:
        OSError: the checkpoint cannot be read, or the directory not written.
    """
    glm = LayeredGlm(checkpoint)
    progress = _Bytes(checkpoint, report)
    ids = torch.tensor([tokens])
    hidden: torch.Tensor | None = None
    for index in range(glm.spec.layers):
        path = directory / hidden_file(index)
        if is_done := path.exists():
            hidden = torch.from_numpy(np.array(map_array(path)))[None]
        else:
            layer = glm.layer(index)
            seen = _see_keys_and_values(layer)
            hidden = glm.run(layer, glm.embed(ids) if hidden is None else hidden)
            write_array(directory / ranges_file(index), _ranges(*seen, glm.spec))
            write_array(path, hidden[0].numpy())
        progress.layer(index, skipped=is_done)
    assert hidden is not None
    _write_logits(glm, glm.final_norm(hidden)[0], directory / LOGITS)
    _predictions(tokens, first, directory / LOGITS).save(directory / YARDSTICK_FILE)
    progress.end()


def _see_keys_and_values(layer: GlmDecoderLayer) -> tuple[list[Tensor], list[Tensor]]:
    """Return two lists, which a run of `layer` appends its keys and its values to."""
    keys: list[Tensor] = []
    values: list[Tensor] = []
    attention = layer.self_attn
    for linear, seen in ((attention.k_proj, keys), (attention.v_proj, values)):
        linear.register_forward_hook(lambda _module, _inputs, made, seen=seen: seen.append(made))
    return keys, values


def _ranges(keys: list[Tensor], values: list[Tensor], spec: ModelSpec) -> np.ndarray:
    """Return the largest key and value, as `ranges_file` holds them."""
    key = torch.cat(keys).unflatten(-1, (spec.kv_heads, spec.head_dim))
    pairs = key[..., : spec.rotary_dim].unflatten(-1, (-1, 2)).norm(dim=-1)
    still = key[..., spec.rotary_dim :].abs()
    largest_key = max(float(part.max()) for part in (pairs, still) if part.numel())
    return np.array([largest_key, float(torch.cat(values).abs().max())], np.float32)


def _write_logits(glm: LayeredGlm, normalised: torch.Tensor, path: Path) -> None:
    partial = path.with_suffix(".partial")
    shape = (len(normalised), glm.spec.vocab)
    logits = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
    start = 0
    for part in glm.head_parts():
        logits[:, start : start + len(part)] = (normalised @ part.T).numpy()
        start += len(part)
    logits.flush()
    os.replace(partial, path)


def _predictions(tokens: list[int], first: int, logits_file: Path) -> Predictions:
    logits = map_array(logits_file)
    following, ids, log_probabilities = [], [], []
    for position in range(first, len(tokens) - 1):
        found = log_softmax(logits[position])
        top = top_tokens(found)
        following.append(found[tokens[position + 1]])
        ids.append(top)
        log_probabilities.append(found[top])
    return Predictions(
        tokens=np.array(tokens, np.int64),
        first=first,
        next_log_probability=np.array(following),
        top_ids=np.array(ids, np.int64),
        top_log_probabilities=np.array(log_probabilities),
    )


class _Bytes:
    """Tells how far the reference has come, by the weights that it has read."""

    def __init__(self, checkpoint: Checkpoint, report: Report) -> None:
        sizes = {name: ref.nbytes for name, ref in checkpoint.tensors.items()}
        self._layers = [0] * checkpoint.spec.layers
        for name, size in sizes.items():
            _, kind, *rest = name.split(".")
            if kind == "layers":
                self._layers[int(rest[0])] += size
        self._total = sum(self._layers) + sizes.get(HEAD, 0)
        self._report, self._done, self._skipped = report, 0, 0
        self._tell("")

    def layer(self, index: int, *, skipped: bool) -> None:
        self._done += self._layers[index]
        self._skipped += self._layers[index] if skipped else 0
        self._tell(f"layer {index + 1}/{len(self._layers)}")

    def end(self) -> None:
        self._done = self._total
        self._tell("")

    def _tell(self, note: str) -> None:
        done = Progress("reference", self._done, self._total, "bytes", note, self._skipped)
        self._report(done)
