"""What a built function takes and returns, as the JSON that the graph executor used to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tvm_vacc.artifact.manifest import Manifest, TensorSpec, parse_manifest
from tvm_vacc.errors import ConfigError
from tvm_vacc.safe_io import parse_json_object

_CURE = "give the text that get_graph_json() has returned"


@dataclass(frozen=True)
class Signature:
    """The built function.

    Attributes:
        inputs: what a script sets.
        params: the weights, in the order in which the function takes them.
        outputs: what it returns.
        bound: names of parameters that the weights were made of: they cannot be set any more.
        manifest: what `tvmc compile` says of the model; None where a script has built it.
    """

    inputs: tuple[TensorSpec, ...]
    params: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    bound: tuple[str, ...]
    manifest: Manifest | None = None

    def to_json(self) -> str:
        """Return the graph as JSON: a node for each tensor that goes in, and one that computes.

        The keys ``nodes``, ``arg_nodes``, ``heads``, ``node_row_ptr`` and ``attrs`` are those of
        the former graph executor. The kernels and their order are in the library's bytecode.
        """
        arguments = [*self.inputs, *self.params]
        nodes: list[dict[str, Any]] = [
            {"op": "null", "name": tensor.name, "inputs": []} for tensor in arguments
        ]
        attrs = {
            "func_name": "forward",
            "num_inputs": str(len(arguments)),
            "num_outputs": str(len(self.outputs)),
            "flatten_data": "0",
        }
        sources = [[index, 0, 0] for index in range(len(arguments))]
        nodes.append({"op": "tvm_op", "name": "forward", "attrs": attrs, "inputs": sources})
        tensors = [*arguments, *self.outputs]
        last = len(arguments)
        graph = {
            "nodes": nodes,
            "arg_nodes": list(range(last)),
            "heads": [[last, index, 0] for index in range(len(self.outputs))],
            "node_row_ptr": [*range(last + 1), len(tensors)],
            "attrs": {
                "dltype": ["list_str", [tensor.dtype for tensor in tensors]],
                "shape": ["list_shape", [list(tensor.shape) for tensor in tensors]],
                "tvm_vacc": asdict(replace(self, manifest=None)),
                "manifest": json.loads(self.manifest.to_json()) if self.manifest else None,
            },
        }
        return json.dumps(graph, indent=2)

    @staticmethod
    def from_json(text: str) -> Signature:
        """Read what `to_json` has written.

        Raises:
            ConfigError: `text` is something else.
        """
        graph = parse_json_object(text, where="the graph", error=ConfigError, cure=_CURE)
        try:
            own = graph["attrs"]["tvm_vacc"]
            return Signature(
                inputs=_tensors(own["inputs"]),
                params=_tensors(own["params"]),
                outputs=_tensors(own["outputs"]),
                bound=tuple(map(str, own["bound"])),
                manifest=_manifest(graph["attrs"].get("manifest")),
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"the graph lacks {error}: not made by tvm_vacc", _CURE) from None

    def describe(self, name: str) -> Manifest:
        """Return what is known of the model; its name is `name`, unless it says another."""
        manifest = self.manifest or Manifest(
            kind="graph", name=name, target="", dtype="", outputs=self.outputs
        )
        return replace(manifest, inputs=self.inputs)


def _manifest(document: dict[str, Any] | None) -> Manifest | None:
    return None if document is None else parse_manifest(document, where="the graph")


def _tensors(entries: Sequence[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(e["name"], tuple(e["shape"]), e["dtype"]) for e in entries)
