"""Which operators of a model run on our kernels, and which fell back to stock TVM's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import ir, relax

from relay_passes.bundle_params import ENTRY
from tvm_vacc.frontend.import_onnx import ImportedModel
from tvm_vacc.frontend.origins import Node, origin_of

OURS, STOCK, GONE = "tvm_vacc", "stock TVM", "neither"
_PREFIX = "relax.tvm_vacc."


@dataclass(frozen=True)
class Offload:
    """An operator of the graph that is built.

    Attributes:
        place: `OURS` or `STOCK`.
        operator: its name.
        nodes: labels of the model's nodes that it computes; empty: a pass has made it.
    """

    place: str
    operator: str
    nodes: tuple[str, ...]


def find_offloads(
    imported: ImportedModel, module: ir.IRModule
) -> tuple[tuple[Offload, ...], tuple[str, ...]]:
    """Return the operators of the graph that is built, and the nodes that none of them computes.

    A node that left no operator of its own is counted to the operators that its result flows
    into: it was fused into them. What flows into none was folded, or is not needed.

    Args:
        imported: with origins.
        module: made of it by our passes.
    """
    operators = []
    for block in module[ENTRY].body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call):
                operators.append((_place(value), _name(value), origin_of(value)))
    left = {origin for _, _, origin in operators if origin}
    ends = _ends(imported.nodes, left)
    fused: dict[str, list[str]] = {label: [] for label in left}
    for label, targets in ends.items():
        for target in targets:
            fused[target].append(label)
    found = tuple(
        Offload(place, name, tuple([*fused.get(origin, ()), origin] if origin else ()))
        for place, name, origin in operators
    )
    return found, tuple(label for label, targets in ends.items() if not targets)


def offload_report(imported: ImportedModel, module: ir.IRModule) -> str:
    """Return `find_offloads` as text: counts first, then a line an operator."""
    offloads, gone = find_offloads(imported, module)
    counts = {place: sum(each.place == place for each in offloads) for place in (OURS, STOCK)}
    lines = [
        f"{len(offloads)} operators: {counts[OURS]} on {OURS}, {counts[STOCK]} on {STOCK}",
        *(
            f"{each.place} <- {each.operator} <- {', '.join(each.nodes) or 'made by a pass'}"
            for each in sorted(offloads, key=lambda each: each.place != OURS)
        ),
        *(f"{GONE} <- folded, or not needed <- {label}" for label in gone),
    ]
    return "\n".join(lines)


def _ends(nodes: Sequence[Node], left: set[str]) -> dict[str, tuple[str, ...]]:
    """Return for each node that left nothing the nearest ones downstream that did."""
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    ends: dict[str, tuple[str, ...]] = {}
    for node in reversed(nodes):  # what reads a node stands behind it
        following = [
            end for out in node.outputs for n in readers.get(out, ()) for end in ends[n.label]
        ]
        ends[node.label] = (node.label,) if node.label in left else tuple(dict.fromkeys(following))
    return {label: found for label, found in ends.items() if label not in left}


def _place(call: relax.Call) -> str:
    return OURS if isinstance(call.op, ir.Op) and call.op.name.startswith(_PREFIX) else STOCK


def _name(call: relax.Call) -> str:
    name = call.op.name if isinstance(call.op, ir.Op) else type(call.op).__name__
    return str(name).removeprefix(_PREFIX).removeprefix("relax.")
