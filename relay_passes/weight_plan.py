"""What the compiler has to do to each weight: the note that `pack_weights` leaves on ``main``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tvm import ir, relax

ATTRIBUTE = "weights"
"""Function attribute that holds the plan, one entry a weight parameter, in their order."""

PLAIN = "plain"
"""Layout: row-major, as in the checkpoint."""

LINEAR = "linear"
"""Layout: the one `schedules.linear_float` reads."""


@dataclass(frozen=True)
class PackedWeight:
    """How one weight parameter is made of one tensor of the model.

    Attributes:
        name: of the parameter, and of the tensor in the artefact's weight file.
        source: name of the model's tensor.
        layout: `PLAIN` or `LINEAR`.
        transposed: whether the source is ``[in, out]`` where the layout's packer takes
            ``[out, in]``.
        shape: of the packed tensor.
        dtype: of the packed tensor.
    """

    name: str
    source: str
    layout: str
    transposed: bool
    shape: tuple[int, ...]
    dtype: str

    def parameter(self) -> relax.Var:
        """Return a fresh function parameter of this name and type."""
        return relax.Var(self.name, relax.TensorType(self.shape, self.dtype))


def with_plan(attrs: ir.DictAttrs, plan: Iterable[PackedWeight]) -> ir.DictAttrs:
    """Return `attrs` with the plan added."""
    entries = [asdict(weight) for weight in plan]
    return ir.make_node("ir.DictAttrs", **{**dict(attrs.items()), ATTRIBUTE: entries})


def read_plan(function: relax.Function) -> tuple[PackedWeight, ...]:
    """Return the plan of a function that `pack_weights` has rewritten."""
    return tuple(_entry(entry) for entry in function.attrs[ATTRIBUTE])


def _entry(entry: Mapping[str, Any]) -> PackedWeight:
    return PackedWeight(
        name=str(entry["name"]),
        source=str(entry["source"]),
        layout=str(entry["layout"]),
        transposed=bool(entry["transposed"]),
        shape=tuple(int(dim) for dim in entry["shape"]),
        dtype=str(entry["dtype"]),
    )
