"""GLM as an ONNX graph, written node by node: standard opset-23 operators, one of a kind.

The mathematics and the names of the weights are those of transformers' `GlmForCausalLM`
(https://huggingface.co/docs/transformers/model_doc/glm). Weights keep the checkpoint's dtype and
are cast to fp32 where they are used, so that the graph's initialisers are the checkpoint's bytes;
all arithmetic is fp32. Why it is not traced: docs/decisions/0008.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tvm_vacc.frontend.glm_layout import EMBEDDING, HEAD, tensor_shapes
from tvm_vacc.frontend.glm_signature import IDS, LOGITS, output_names, past_names
from tvm_vacc.model_spec import ModelSpec

_LEAST = np.finfo(np.float32).min


def glm_graph(
    spec: ModelSpec, weights: Mapping[str, TensorProto], quantized: Sequence[str] = ()
) -> GraphProto:
    """Write a model.

    Args:
        spec: its dimensions.
        weights: the initialisers, by their `glm` names: of any float dtype each.
        quantized: the matrices that are none of them, but inputs: ``[out, in]`` fp32.

    Returns:
        The graph, its inputs and outputs as `export_onnx` says.
    """
    writer = _Writer(spec, weights, quantized)
    shapes = dict(tensor_shapes(spec))
    cache = ("batch", spec.kv_heads, "past", spec.head_dim)
    grown = ("batch", spec.kv_heads, "past+seq", spec.head_dim)
    outputs = writer.write()
    assert outputs == output_names(spec.layers)
    return helper.make_graph(
        writer.nodes,
        "glm",
        [
            *(_value(name, ("batch", "seq"), TensorProto.INT64) for name in IDS),
            *(_value(name, cache) for name in past_names(spec.layers)),
            *(_value(name, shapes[name]) for name in quantized),
        ],
        [
            _value(LOGITS, ("batch", "seq", spec.vocab)),
            *(_value(name, grown) for name in outputs[1:]),
        ],
        [*weights.values(), *writer.constants.values()],
    )


def inverse_frequencies(spec: ModelSpec) -> np.ndarray:
    """RoPE's `theta ** (-2r / rotary_dim)` for each pair r: `[rotary_dim / 2]` fp32."""
    exponent = np.arange(0, spec.rotary_dim, 2, dtype=np.float32) / np.float32(spec.rotary_dim)
    return np.float32(1) / np.float32(spec.rope_theta) ** exponent


class _Writer:
    """Appends nodes; a value is its name. `B` batch, `S` seq, `H` and `K` heads, `D` head_dim."""

    def __init__(
        self, spec: ModelSpec, weights: Mapping[str, TensorProto], quantized: Sequence[str]
    ) -> None:
        self.spec = spec
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._weights, self._quantized = weights, frozenset(quantized)
        # Sizes of [1], for Reshape.
        self._batch = self._size(IDS[1], 0)
        self._seq = self._size(IDS[0], 1)
        past = self.op("Squeeze", self._size(past_names(1)[0], 2))
        self._total = self.op("Add", past, self.op("Squeeze", self._seq))

    def write(self) -> list[str]:
        """Write all of it; return the graph's outputs."""
        ids, positions = IDS
        rows = self.op("Gather", EMBEDDING, ids, axis=0)
        x_BSH = self._as_float(rows, EMBEDDING)
        mask, angles = self._mask(positions), self._angles(positions)
        present: list[str] = []
        for index in range(self.spec.layers):
            layer = f"model.layers.{index}"
            attended, *grown = self._attention(
                self._norm(x_BSH, f"{layer}.input_layernorm"), index, mask, angles
            )
            present += grown
            x_BSH = self.op("Add", x_BSH, attended)
            normed = self._norm(x_BSH, f"{layer}.post_attention_layernorm")
            x_BSH = self.op("Add", x_BSH, self._mlp(normed, f"{layer}.mlp"))
        head = EMBEDDING if self.spec.tie_word_embeddings else HEAD
        logits = self._product(self._norm(x_BSH, "model.norm"), head, LOGITS)
        return [logits, *present]

    def op(self, kind: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """Append a node of one output, called `result`; return its name."""
        result = result or f"{kind}.{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [result], name=f"node.{result}", **attributes)
        self.nodes.append(node)
        return result

    def _attention(
        self, x_BSH: str, index: int, mask: str, angles: tuple[str, str]
    ) -> tuple[str, str, str]:
        """Grouped-query attention; returns its output, and keys and values `[B, K, past+S, D]`."""
        spec, attention = self.spec, f"model.layers.{index}.self_attn"

        def projected(name: str, heads: int) -> str:
            flat = self._linear(x_BSH, f"{attention}.{name}")
            return self._heads_first(flat, heads)

        def rotated(x_BHSD: str) -> str:
            return self.op(
                "RotaryEmbedding",
                x_BHSD,
                *angles,
                interleaved=1,
                rotary_embedding_dim=spec.rotary_dim,
            )

        def grown(kind: str, new: str) -> str:
            past = f"past_key_values.{index}.{kind}"
            return self.op("Concat", past, new, axis=2, result=f"present.{index}.{kind}")

        query = rotated(projected("q_proj", spec.heads))
        key = grown("key", rotated(projected("k_proj", spec.kv_heads)))
        value = grown("value", projected("v_proj", spec.kv_heads))
        turned = self.op("Transpose", self._repeated(key), perm=[0, 1, 3, 2])
        scale = self._constant("scale", np.float32(spec.head_dim**-0.5))
        scores = self.op("Mul", self.op("MatMul", query, turned), scale)
        shares = self.op("Softmax", self.op("Add", scores, mask), axis=-1)
        mixed = self.op("MatMul", shares, self._repeated(value))
        mixed_BSHD = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        flat = self._reshaped(mixed_BSHD, self._batch, self._seq, spec.heads * spec.head_dim)
        return self._linear(flat, f"{attention}.o_proj"), key, value

    def _heads_first(self, x: str, heads: int) -> str:
        """`[B, S, heads * D]` -> `[B, heads, S, D]`."""
        split = self._reshaped(x, self._batch, self._seq, heads, self.spec.head_dim)
        return self.op("Transpose", split, perm=[0, 2, 1, 3])

    def _repeated(self, x: str) -> str:
        """`[B, K, n, D]` -> `[B, H, n, D]`, each head several times in a row."""
        spec = self.spec
        groups = spec.heads // spec.kv_heads
        if groups == 1:
            return x
        apart = self.op("Unsqueeze", x, self._ints(2))
        wide = self.op("Expand", apart, self._ints(1, 1, groups, 1, 1))
        total = self.op("Reshape", self._total, self._ints(-1))
        return self._reshaped(wide, self._batch, spec.heads, total, spec.head_dim)

    def _mlp(self, x_BSH: str, mlp: str) -> str:
        """SwiGLU (Shazeer, 2020): gate and up are one matrix, gate first."""
        both = self._linear(x_BSH, f"{mlp}.gate_up_proj")
        gate, up = f"{mlp}.gate", f"{mlp}.up"
        self.nodes.append(
            helper.make_node("Split", [both], [gate, up], f"node.{gate}", axis=-1, num_outputs=2)
        )
        silu = self.op("Mul", gate, self.op("Sigmoid", gate))
        return self._linear(self.op("Mul", up, silu), f"{mlp}.down_proj")

    def _norm(self, x_BSH: str, name: str) -> str:
        """Root-mean-square normalisation (Zhang and Sennrich, 2019)."""
        weight = self._weight(f"{name}.weight")
        epsilon = self.spec.rms_norm_eps
        return self.op("RMSNormalization", x_BSH, weight, axis=-1, epsilon=epsilon, stash_type=1)

    def _linear(self, x: str, name: str) -> str:
        product = self._product(x, f"{name}.weight")
        if f"{name}.bias" not in self._weights:
            return product
        return self.op("Add", product, self._weight(f"{name}.bias"))

    def _product(self, x: str, weight: str, result: str = "") -> str:
        """Multiply by a matrix `[out, in]`."""
        turned = self.op("Transpose", self._weight(weight), perm=[1, 0])
        return self.op("MatMul", x, turned, result=result)

    def _weight(self, name: str) -> str:
        return name if name in self._quantized else self._as_float(name, name)

    def _as_float(self, value: str, weight: str) -> str:
        """Cast `value`, which has the dtype of `weight`, to fp32."""
        if self._weights[weight].data_type == TensorProto.FLOAT:
            return value
        return self.op("Cast", value, to=TensorProto.FLOAT)

    def _angles(self, positions: str) -> tuple[str, str]:
        """Cosines and sines of RoPE (Su et al., 2021), `[B, S, R]`, once for all layers."""
        apart = self.op("Unsqueeze", positions, self._ints(-1))
        frequencies = self._constant("inv_freq", inverse_frequencies(self.spec))
        floats = self.op("Cast", apart, to=TensorProto.FLOAT)
        angles = self.op("Mul", floats, frequencies)
        return self.op("Cos", angles), self.op("Sin", angles)

    def _mask(self, positions: str) -> str:
        """0 where a key's index is at most the query's position, else the least fp32.

        `[B, 1, S, past+S]`, added to the scores.
        """
        zero, one = (self._constant(f"int.{i}", np.int64(i)) for i in (0, 1))
        keys = self.op("Range", zero, self._total, one)
        apart = self.op("Unsqueeze", self.op("Unsqueeze", positions, self._ints(1)), self._ints(3))
        visible = self.op("LessOrEqual", keys, apart)
        none, least = (
            self._constant(n, v) for n, v in (("none", np.float32(0)), ("least", _LEAST))
        )
        return self.op("Where", visible, none, least)

    def _size(self, value: str, axis: int) -> str:
        return self.op("Shape", value, start=axis, end=axis + 1)

    def _reshaped(self, x: str, *dims: str | int) -> str:
        """Reshape to `dims`: sizes, or the names of values of `[1]`."""
        names = [dim if isinstance(dim, str) else self._ints(dim) for dim in dims]
        return self.op("Reshape", x, self.op("Concat", *names, axis=0), allowzero=1)

    def _ints(self, *values: int) -> str:
        name = f"ints.{'.'.join(map(str, values))}"
        return self._constant(name, np.array(values, np.int64))

    def _constant(self, name: str, value: Any) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name


def _value(name: str, shape: Sequence[str | int], dtype: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
