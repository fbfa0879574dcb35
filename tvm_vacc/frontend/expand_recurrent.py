"""Expands ONNX's LSTM, GRU and RNN into a Scan over their steps.

The standard defines them by formulas, not by a function. What does not depend on the step before,
the product of the inputs, is one product of all steps in front of the Scan.

Shapes: `S` steps, `B` batch, `I` inputs, `H` hidden, `D` directions, `G` gates (LSTM 4, GRU 3, RNN
1). W is ``[D, G*H, I]``, R is ``[D, G*H, H]``, B ``[D, 2*G*H]``, the peepholes P ``[D, 3*H]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_KNOWN = {"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"}
"""Activations that have no parameters; a node with another one stays, to be refused by its name."""

_SCAN_OPSET, _REVERSE_OPSET, _UNSQUEEZE_INPUT_OPSET = 9, 10, 13


def expand_recurrent(model: onnx.ModelProto) -> None:
    """Replace the recurrent layers of `model`, those in bodies of loops excepted, in place.

    One that cannot be expanded stays: of an opset before 9, or with an activation of parameters.
    """
    opset = max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=1)
    if not any(node.op_type in _GATES for node in model.graph.node):
        return
    types = dict(_types(model.graph))
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(model.graph.node):
        if _is_ours(node, opset):
            cell = _Cell(node, f"{node.name or node.op_type}.{index}", types, opset)
            cell.expand()
            nodes.extend(cell.nodes)
            model.graph.initializer.extend(cell.constants)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _is_ours(node: onnx.NodeProto, opset: int) -> bool:
    if node.op_type not in _GATES or node.domain not in ("", "ai.onnx"):
        return False
    given = _attributes(node)
    has_lengths = len(node.input) > 4 and bool(node.input[4])
    return (
        opset >= (_REVERSE_OPSET if has_lengths else _SCAN_OPSET)
        and "hidden_size" in given
        and {name.decode() for name in given.get("activations", ())} <= _KNOWN
    )


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _types(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    for value in (*graph.value_info, *graph.input):
        yield value.name, value.type.tensor_type.elem_type
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type


class _Cell:
    """Makes the nodes of one layer; what it makes has names that begin with `name`."""

    def __init__(self, node: onnx.NodeProto, name: str, types: dict[str, int], opset: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._kind, self._name, self._given = node.op_type, name, _attributes(node)
        inputs = [*node.input, *[""] * 8]
        self._x, self._w, self._r, self._b, self._lengths = inputs[:5]
        self._states, self._peepholes = [inputs[5]], inputs[7]
        if self._kind == "LSTM":
            self._states.append(inputs[6])
        self._outputs = [*node.output, "", ""][: 1 + len(self._states)]
        self._hidden, self._gates = int(self._given["hidden_size"]), _GATES[self._kind]
        known = (types.get(name) for name in (self._w, self._r, self._x))
        self._dtype = next(filter(None, known), TensorProto.FLOAT)
        self._body: list[onnx.NodeProto] = []
        self._inside: set[str] = set()
        self._opset, self._way, self._count = opset, 0, 0

    def expand(self) -> None:
        """Make the nodes of all directions, and join what they give."""
        way = self._given.get("direction", b"forward").decode()
        ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[way]
        by_batch = bool(self._given.get("layout", 0))
        x = self._op("Transpose", self._x, perm=[1, 0, 2]) if by_batch else self._x
        if self._lengths:
            self._lengths = self._op("Cast", self._lengths, to=TensorProto.INT64)
        if by_batch:
            self._states = [
                name and self._op("Transpose", name, perm=[1, 0, 2]) for name in self._states
            ]
        made = [self._direction(x, index, back) for index, back in enumerate(ways)]
        for output, parts in zip(self._outputs, zip(*made, strict=True), strict=True):
            if not output:
                continue
            is_all = output == self._outputs[0]
            joined = self._op("Concat", *parts, axis=1 if is_all else 0)
            turned = [2, 0, 1, 3] if is_all else [1, 0, 2]
            last = ("Transpose", {"perm": turned}) if by_batch else ("Identity", {})
            self.nodes.append(helper.make_node(last[0], [joined], [output], **last[1]))

    def _direction(self, x: str, index: int, backwards: bool) -> list[str]:
        """Return all hidden states ``[S, 1, B, H]``, and the last of each kind ``[1, B, H]``."""
        self._way = index
        part = [self._scalar(index)]
        w, r = (
            self._op("Transpose", self._op("Gather", name, *part, axis=0), perm=[1, 0])
            for name in (self._w, self._r)
        )
        bias = self._op("Gather", self._b, *part, axis=0) if self._b else ""
        peepholes = self._op("Gather", self._peepholes, *part, axis=0) if self._peepholes else ""
        if self._lengths and backwards:
            x = self._reversed(x)
        product = self._op("MatMul", x, w)
        # What GRU adds to the product with the state may be reset: it stays in the step.
        offsets = (0,) if self._kind == "GRU" else (0, self._gates)
        for first in offsets if bias else ():
            part_of_bias = self._columns(bias, first, self._gates, axis=0)
            product = self._op("Add", product, part_of_bias)
        states = [
            self._op("Gather", name, *part, axis=0) if name else self._zeros(product)
            for name in self._states
        ]
        directions = [int(backwards and not self._lengths)]
        every, *last = self._scan(product, states, r, bias, peepholes, directions)
        if self._lengths and backwards:
            every = self._reversed(every)
        return [self._with_axis(every, 1), *(self._with_axis(state, 0) for state in last)]

    def _scan(
        self,
        product: str,
        states: list[str],
        r: str,
        bias: str,
        peepholes: str,
        directions: list[int],
    ) -> list[str]:
        """Return the hidden states of all steps ``[S, B, H]``, and the last states ``[B, H]``."""
        body = self._body = []
        before, step = [self._new() for _ in states], self._new()
        self._inside = {*before, step}
        step_of = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self._kind]
        after = step_of(step, before, r, bias, peepholes)
        row = after[0]
        if self._lengths:
            number = self._new()
            self._inside.add(number)
            lives = self._op("Less", number, self._lengths)
            lives = self._with_axis(lives, 1)
            after = [
                self._op("Where", lives, new, old) for new, old in zip(after, before, strict=True)
            ]
            row = self._op("Where", lives, row, self._value(0))
            before, states = [*before, number], [*states, self._constant(np.array([0]))]
            after = [*after, self._op("Add", number, self._constant(np.array([1])))]
        row = self._op("Identity", row)  # an output of its own
        after = [self._op("Identity", name) for name in after]
        self._inside = set()

        def typed(name: str) -> onnx.ValueInfoProto:
            is_number = self._lengths and name in (before[-1], after[-1])
            return helper.make_tensor_value_info(
                name, TensorProto.INT64 if is_number else self._dtype, None
            )

        graph = helper.make_graph(
            body,
            f"{self._name}.step",
            [typed(name) for name in (*before, step)],
            [typed(name) for name in (*after, row)],
        )
        last, every = [self._new() for _ in states], self._new()
        self.nodes.append(
            helper.make_node(
                "Scan",
                [*states, product],
                [*last, every],
                name=self._name,
                body=graph,
                num_scan_inputs=1,
                scan_input_directions=directions,
                scan_output_directions=directions,
            )
        )
        return [every, *last[: len(self._states)]]

    def _lstm(self, x: str, states: list[str], r: str, _bias: str, peepholes: str) -> list[str]:
        """Gates stand in the order i, o, f, c, peepholes in i, o, f."""
        hidden, cell = states
        gates = self._op("Add", x, self._op("MatMul", hidden, r))

        def gate(index: int, peeped: str, function: int) -> str:
            value = self._columns(gates, index, 1)
            if peepholes and peeped:
                weight = self._columns(peepholes, index, 1, axis=0)
                value = self._op("Add", value, self._op("Mul", weight, peeped))
            return self._activated(value, function)

        i, new = gate(0, cell, 0), gate(3, "", 1)
        coupled = self._given.get("input_forget", 0)
        f = self._op("Sub", self._value(1), i) if coupled else gate(2, cell, 0)
        cell = self._op("Add", self._op("Mul", f, cell), self._op("Mul", i, new))
        o = gate(1, cell, 0)
        return [self._op("Mul", o, self._activated(cell, 2, clipped=False)), cell]

    def _gru(self, x: str, states: list[str], r: str, bias: str, _peepholes: str) -> list[str]:
        """Gates stand in the order z, r, h."""
        [hidden] = states
        offset = self._columns(bias, 3, 3, axis=0) if bias else ""

        def recurrent(values: str, index: int, count: int) -> str:
            product = self._op("MatMul", values, self._columns(r, index, count))
            if not offset:
                return product
            return self._op("Add", product, self._columns(offset, index, count, axis=0))

        both = self._op("Add", self._columns(x, 0, 2), recurrent(hidden, 0, 2))
        z, reset = (self._activated(self._columns(both, i, 1), 0) for i in (0, 1))
        if self._given.get("linear_before_reset", 0):
            past = self._op("Mul", reset, recurrent(hidden, 2, 1))
        else:
            past = recurrent(self._op("Mul", reset, hidden), 2, 1)
        new = self._activated(self._op("Add", self._columns(x, 2, 1), past), 1)
        kept = self._op("Mul", z, hidden)
        return [self._op("Add", self._op("Mul", self._op("Sub", self._value(1), z), new), kept)]

    def _rnn(self, x: str, states: list[str], r: str, _bias: str, _peepholes: str) -> list[str]:
        return [self._activated(self._op("Add", x, self._op("MatMul", states[0], r)), 0)]

    def _activated(self, value: str, index: int, *, clipped: bool = True) -> str:
        """Return activation `index` of this direction, of `value` within the limits of `clip`."""
        limit = self._given.get("clip")
        if clipped and limit is not None:
            value = self._op("Max", value, self._value(-limit))
            value = self._op("Min", value, self._value(limit))
        names = [name.decode() for name in self._given.get("activations", ())]
        every = names or [*_ACTIVATIONS[self._kind]] * 2
        return self._op(every[self._way * len(_ACTIVATIONS[self._kind]) + index], value)

    def _columns(self, value: str, first: int, count: int, axis: int = 1) -> str:
        """Return gates `first` to `first + count` of what holds several, side by side."""
        start, stop = first * self._hidden, (first + count) * self._hidden
        return self._op("Gather", value, self._constant(np.arange(start, stop)), axis=axis)

    def _with_axis(self, value: str, axis: int) -> str:
        if self._opset < _UNSQUEEZE_INPUT_OPSET:
            return self._op("Unsqueeze", value, axes=[axis])
        return self._op("Unsqueeze", value, self._constant(np.array([axis])))

    def _zeros(self, product: str) -> str:
        """Return ``[B, H]`` of zeros, whose batch is that of `product` ``[S, B, G*H]``."""
        rows = self._columns(self._op("Gather", product, self._scalar(0), axis=0), 0, 1)
        return self._op("Cast", self._op("Less", rows, rows), to=self._dtype)

    def _reversed(self, value: str) -> str:
        return self._op("ReverseSequence", value, self._lengths, batch_axis=1, time_axis=0)

    def _value(self, number: float) -> str:
        return self._tensor(helper.make_tensor(self._new(), self._dtype, [], [number]))

    def _scalar(self, number: int) -> str:
        return self._constant(np.array(number))

    def _constant(self, array: np.ndarray) -> str:
        return self._tensor(numpy_helper.from_array(array.astype(np.int64), self._new()))

    def _tensor(self, tensor: onnx.TensorProto) -> str:
        self.constants.append(tensor)
        return str(tensor.name)

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; what depends on nothing of the step stands in front of the Scan."""
        output = self._new()
        inside = not self._inside.isdisjoint(inputs)
        if inside:
            self._inside.add(output)
        node = helper.make_node(kind, inputs, [output], name=output, **attributes)
        (self._body if inside else self.nodes).append(node)
        return output

    def _new(self) -> str:
        self._count += 1
        return f"{self._name}.{self._count}"
