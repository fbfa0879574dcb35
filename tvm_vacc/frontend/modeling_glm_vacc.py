"""GLM as a thin torch module, written to be exported: standard opset-23 operators, one of a kind.

The mathematics and the parameter names are those of transformers' `GlmForCausalLM`
(https://huggingface.co/docs/transformers/model_doc/glm). Weights keep the checkpoint's dtype and
are cast to fp32 where they are used, so that the graph's initialisers are the checkpoint's bytes;
all arithmetic is fp32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvm_vacc.errors import ConfigError
from tvm_vacc.model_spec import ModelSpec


class Linear(nn.Module):
    """`x @ weight.T + bias` in fp32; weight `[out, in]`."""

    def __init__(self, inputs: int, outputs: int, bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=dtype), requires_grad=False)
        self.bias = (
            nn.Parameter(torch.empty(outputs, dtype=dtype), requires_grad=False) if bias else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` -> `[..., out]`, both fp32."""
        bias = None if self.bias is None else self.bias.float()
        return F.linear(x, self.weight.float(), bias)


class Embedding(nn.Module):
    """Rows of a table; weight `[vocab, hidden]`."""

    def __init__(self, vocab: int, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, hidden, dtype=dtype), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        """`[...]` int64 -> `[..., hidden]` fp32; the rows are cast, not the table."""
        return F.embedding(ids, self.weight).float()


class RMSNorm(nn.Module):
    """Root-mean-square normalisation (Zhang and Sennrich, 2019); weight `[hidden]`."""

    def __init__(self, hidden: int, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden, dtype=dtype), requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`[..., hidden]` fp32 -> the same."""
        return F.rms_norm(x, self.weight.shape, self.weight.float(), self.eps)


class RotaryAngles(nn.Module):
    """Cosines and sines of RoPE (Su et al., 2021), once for all layers."""

    inv_freq: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.register_buffer("inv_freq", inverse_frequencies(spec), persistent=False)

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """`[batch, seq]` int64 -> two of `[batch, seq, rotary_dim / 2]` fp32."""
        angles = position_ids.unsqueeze(-1).float() * self.inv_freq
        return angles.cos(), angles.sin()


class Attention(nn.Module):
    """Grouped-query attention over past and new positions; head counts are one rank's."""

    def __init__(self, spec: ModelSpec, tp: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = spec.heads // tp
        self.kv_heads = max(spec.kv_heads // tp, 1)
        self.head_dim = spec.head_dim
        self.rotary_dim = spec.rotary_dim
        query, key_value = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.q_proj = Linear(spec.hidden, query, spec.qkv_bias, dtype)
        self.k_proj = Linear(spec.hidden, key_value, spec.qkv_bias, dtype)
        self.v_proj = Linear(spec.hidden, key_value, spec.qkv_bias, dtype)
        self.o_proj = Linear(query, spec.hidden, False, dtype)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        cos: Tensor,
        sin: Tensor,
        past_key: Tensor,
        past_value: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend; all fp32.

        Args:
            x: `[batch, seq, hidden]`.
            mask: `[batch, 1, seq, past+seq]`, added to the scores.
            cos: `[batch, seq, rotary_dim / 2]`.
            sin: as `cos`.
            past_key: `[batch, kv_heads, past, head_dim]`, rotated already.
            past_value: as `past_key`.

        Returns:
            output `[batch, seq, hidden]`, key and value `[batch, kv_heads, past+seq, head_dim]`.
        """
        query = self._rotate(self._heads_first(self.q_proj(x), self.heads), cos, sin)
        new_key = self._rotate(self._heads_first(self.k_proj(x), self.kv_heads), cos, sin)
        new_value = self._heads_first(self.v_proj(x), self.kv_heads)
        key = torch.cat((past_key, new_key), dim=2)
        value = torch.cat((past_value, new_value), dim=2)
        scores = query @ self._repeat(key).transpose(2, 3) * self.head_dim**-0.5
        weights = F.softmax(scores + mask, dim=-1)
        mixed = (weights @ self._repeat(value)).transpose(1, 2)
        return self.o_proj(mixed.flatten(2)), key, value

    def _heads_first(self, x: Tensor, heads: int) -> Tensor:
        """`[batch, seq, heads * head_dim]` -> `[batch, heads, seq, head_dim]`."""
        return x.unflatten(2, (heads, self.head_dim)).transpose(1, 2)

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn the pairs (2r, 2r+1) of the first `rotary_dim` of each head."""
        return torch.onnx.ops.rotary_embedding(
            x, cos, sin, interleaved=True, rotary_embedding_dim=self.rotary_dim
        )

    def _repeat(self, x: Tensor) -> Tensor:
        """`[batch, kv_heads, n, head_dim]` -> `[batch, heads, n, head_dim]`, each head in a row."""
        groups = self.heads // self.kv_heads
        if groups == 1:
            return x
        return x.unsqueeze(2).expand(-1, -1, groups, -1, -1).flatten(1, 2)


class MLP(nn.Module):
    """SwiGLU (Shazeer, 2020): gate and up are one matrix, gate first; widths are one rank's."""

    def __init__(self, spec: ModelSpec, tp: int, dtype: torch.dtype) -> None:
        super().__init__()
        width = spec.intermediate // tp
        self.gate_up_proj = Linear(spec.hidden, 2 * width, False, dtype)
        self.down_proj = Linear(width, spec.hidden, False, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., hidden]` fp32 -> the same."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(up * F.silu(gate))


class DecoderLayer(nn.Module):
    """Attention and MLP, each after a norm and added to the residual stream."""

    def __init__(self, spec: ModelSpec, tp: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(spec.hidden, spec.rms_norm_eps, dtype)
        self.self_attn = Attention(spec, tp, dtype)
        self.post_attention_layernorm = RMSNorm(spec.hidden, spec.rms_norm_eps, dtype)
        self.mlp = MLP(spec, tp, dtype)

    def forward(self, x: Tensor, *context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`x` `[batch, seq, hidden]`; `context` and the results are those of `Attention`."""
        attended, key, value = self.self_attn(self.input_layernorm(x), *context)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), key, value


class Decoder(nn.Module):
    """What the state dict calls `model`: all but the head."""

    def __init__(self, spec: ModelSpec, tp: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.embed_tokens = Embedding(spec.vocab, spec.hidden, dtype)
        self.rotary = RotaryAngles(spec)
        self.layers = nn.ModuleList(DecoderLayer(spec, tp, dtype) for _ in range(spec.layers))
        self.norm = RMSNorm(spec.hidden, spec.rms_norm_eps, dtype)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, past: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return hidden states `[batch, seq, hidden]` and the present keys and values."""
        x = self.embed_tokens(input_ids)
        cos, sin = self.rotary(position_ids)
        mask = causal_mask(position_ids, past[0].shape[2] + input_ids.shape[1])
        present: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x, key, value = layer(x, mask, cos, sin, past[2 * i], past[2 * i + 1])
            present += (key, value)
        return self.norm(x), present


class GlmForCausalLM(nn.Module):
    """The language model. Weights are uninitialised: `load_state_dict` takes transformers' own.

    Args:
        spec: the whole model's dimensions.
        tp: ranks of tensor parallelism. Heads, KV heads (one at least: with more ranks than KV
            heads they are replicated) and MLP width are divided by it; the results of `o_proj` and
            `down_proj` are then one rank's share of a sum.
        dtype: of the parameters; `spec.dtype` if None.

    Raises:
        ConfigError: `tp` does not divide the heads, the KV heads or the MLP width.
    """

    def __init__(self, spec: ModelSpec, tp: int = 1, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        check_tensor_parallel(spec, tp)
        dtype = dtype or getattr(torch, spec.dtype)
        self.model = Decoder(spec, tp, dtype)
        self.lm_head = Linear(spec.hidden, spec.vocab, False, dtype)
        self.tied = spec.tie_word_embeddings
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make the head the embedding table, if the model ties them; again after an `assign`."""
        if self.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, input_ids: Tensor, position_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Run all tokens given.

        Args:
            input_ids: `[batch, seq]` int64.
            position_ids: `[batch, seq]` int64, the absolute position of each token.
            past: key and value of each layer in turn, `[batch, kv_heads, past, head_dim]` fp32.

        Returns:
            logits `[batch, seq, vocab]` fp32, then key and value of each layer in turn,
            `[batch, kv_heads, past+seq, head_dim]` fp32.
        """
        x, present = self.model(input_ids, position_ids, past)
        return self.lm_head(x), *present


def inverse_frequencies(spec: ModelSpec) -> Tensor:
    """RoPE's `theta ** (-2r / rotary_dim)` for each pair r: `[rotary_dim / 2]` fp32."""
    exponent = torch.arange(0, spec.rotary_dim, 2, dtype=torch.float32) / spec.rotary_dim
    return 1.0 / spec.rope_theta**exponent


def causal_mask(position_ids: Tensor, total: int) -> Tensor:
    """0 where a key's index is at most the query's position, else the least fp32.

    Args:
        position_ids: `[batch, seq]` int64.
        total: keys, past and new.

    Returns:
        `[batch, 1, seq, total]` fp32.
    """
    visible = torch.arange(total) <= position_ids.unsqueeze(1).unsqueeze(3)
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min)


def check_tensor_parallel(spec: ModelSpec, tp: int) -> None:
    """Demand that the model can be divided among `tp` ranks.

    Raises:
        ConfigError: it cannot; the message names the number that does not divide.
    """
    shares = {"attention heads": spec.heads, "intermediate width": spec.intermediate}
    for what, number in shares.items():
        if tp < 1 or number % tp:
            raise ConfigError(f"tp: {tp} ranks cannot share {what} {number}", "choose a divisor")
    if max(tp, spec.kv_heads) % min(tp, spec.kv_heads):
        raise ConfigError(
            f"tp: {tp} ranks and {spec.kv_heads} KV heads do not divide", "choose a power of two"
        )
