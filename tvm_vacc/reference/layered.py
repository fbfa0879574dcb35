"""transformers' GLM in fp32, from the checkpoint's own files, one layer in memory at a time.

`GlmForCausalLM` itself would take four bytes a weight for the whole model: 38 GB for GLM-4-9B.
Calibration and the accuracy passport go through it layer by layer instead: hidden states of all
texts through layer 0, then through layer 1, and so on. The modules are those of transformers
(`transformers.models.glm.modeling_glm`), so the arithmetic is the reference's own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import GlmConfig
from transformers.models.glm.modeling_glm import (
    GlmDecoderLayer,
    GlmRMSNorm,
    GlmRotaryEmbedding,
)

from tvm_vacc.frontend.checkpoint import Checkpoint
from tvm_vacc.frontend.glm_layout import EMBEDDING
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.model_spec import ModelSpec

HEAD = "lm_head.weight"
HEAD_ROWS = 16384
"""Rows of the head in memory at a time: 256 MB in fp32 at a width of 4096."""


def glm_config(spec: ModelSpec) -> GlmConfig:
    """Return the config with which transformers builds the model of `spec`."""
    return GlmConfig(
        vocab_size=spec.vocab,
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        rms_norm_eps=spec.rms_norm_eps,
        max_position_embeddings=spec.max_positions,
        attention_bias=spec.qkv_bias,
        tie_word_embeddings=spec.tie_word_embeddings,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": spec.rope_theta,
            "partial_rotary_factor": spec.rotary_dim / spec.head_dim,
        },
        pad_token_id=None,
        attn_implementation="sdpa",
    )


class LayeredGlm:
    """The layers of a checkpoint, made when asked for; nothing is kept.

    Args:
        checkpoint: of either layout.
        device: where the arithmetic runs, as torch names it: ``cpu``, ``cuda:0``.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        self.checkpoint = checkpoint
        self.spec = checkpoint.spec
        self.device = torch.device(device)
        self._config = glm_config(self.spec)
        self._rotary = GlmRotaryEmbedding(self._config).to(self.device)

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings `[batch, seq, hidden]` fp32 of token ids `[batch, seq]` int64."""
        table = self.checkpoint.tensors[EMBEDDING]
        used, place = torch.unique(ids, return_inverse=True)
        rows = torch.cat([_read(table.rows(int(row), int(row) + 1)) for row in used])
        return rows.to(self.device)[place.to(self.device)]

    def layer(self, index: int) -> GlmDecoderLayer:
        """Return decoder layer `index` with its weights, fp32, in evaluation mode."""
        with torch.device("meta"):
            layer = GlmDecoderLayer(self._config, index)
        prefix = f"model.layers.{index}."
        weights = {
            name: torch.from_numpy(self.checkpoint.read(prefix + name)).to(self.device)
            for name in layer.state_dict()
        }
        layer.load_state_dict(weights, assign=True)
        return layer.eval().requires_grad_(False)

    @torch.no_grad()
    def run(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        """Return what `layer` makes of hidden states `[batch, seq, hidden]`, positions from 0."""
        positions = torch.arange(hidden.shape[1], device=self.device).unsqueeze(0)
        made: Tensor = layer(
            hidden,
            attention_mask=None,
            position_ids=positions,
            position_embeddings=self._rotary(hidden, positions),
        )
        return made

    @torch.no_grad()
    def final_norm(self, hidden: Tensor) -> Tensor:
        """Return what the head is given: the normalised states `[..., hidden]` fp32."""
        norm = GlmRMSNorm(self.spec.hidden, self.spec.rms_norm_eps)
        norm.weight = nn.Parameter(_read(self.checkpoint.tensors["model.norm.weight"]))
        made: Tensor = norm.to(self.device)(hidden)
        return made

    @torch.no_grad()
    def logits(self, normalised: Tensor) -> Tensor:
        """Return the logits `[..., vocab]` fp32 of normalised states `[..., hidden]`.

        The head is read in parts of `HEAD_ROWS` rows; the result is the caller's to keep small.
        """
        return torch.cat([normalised @ part.T for part in self.head_parts()], dim=-1)

    def head_parts(self) -> Iterator[Tensor]:
        """Yield the head's weights in parts `[rows, hidden]` fp32, from the first row on."""
        head = self.checkpoint.tensors.get(HEAD, self.checkpoint.tensors[EMBEDDING])
        if HEAD in self.checkpoint.stored:  # its codes are scattered: whole, then
            whole = torch.from_numpy(self.checkpoint.read(HEAD))
            yield from (part.to(self.device) for part in whole.split(HEAD_ROWS))
            return
        for start in range(0, self.spec.vocab, HEAD_ROWS):
            yield _read(head.rows(start, start + HEAD_ROWS)).to(self.device)


def _read(ref: TensorRef) -> Tensor:
    return torch.from_numpy(ref.read().astype("float32"))
