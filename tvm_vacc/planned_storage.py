"""What each weight of a checkpoint becomes, told by its name before any pass runs.

The passes decide (`quantize_linears`, `quantize_embedding`, `pack_weights`); this says the same of
the tensors that a checkpoint of a GLM has, and a test holds both against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from relay_passes.quantize_linears import SMALL, refusal
from relay_passes.weight_plan import Kind
from schedules import linear_float, linear_int4, linear_int8
from tvm_vacc.artifact.manifest import StoredWeights
from tvm_vacc.config import RELAX_DTYPES, CompileOptions
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.frontend.glm_layout import EMBEDDING, HEAD
from tvm_vacc.frontend.tensor_ref import TensorRef
from tvm_vacc.quantize.scheme import (
    ROUND_TO_NEAREST,
    SCHEMES,
    STORED,
    W8A8,
    W8A16,
    Quantization,
    Scheme,
)

DOWN = "mlp.down_proj.weight"
"""How the names of the linears behind `swiglu` end."""

_SCALE_BYTES = {8: 4, 4: NUMPY_DTYPES[linear_int4.SCALE_DTYPE].itemsize}
"""Of a scale, by the bits of the codes."""

_SHORT_NAMES = {of_relax: short for short, of_relax in RELAX_DTYPES.items()}


@dataclass(frozen=True)
class Storage:
    """Tells of tensors what they become.

    Attributes:
        options: what the user asked for, with the scheme of stored codes where there are any.
        linears: what linears that are not quantised are stored as, as Relax spells it.
        stored: of the matrices whose codes the checkpoint holds, the inputs that share a scale.
    """

    options: CompileOptions
    linears: str
    stored: Mapping[str, int] = field(default_factory=dict)

    def of(self, tensors: Mapping[str, TensorRef]) -> dict[str, StoredWeights]:
        """Return what `tensors` become, by their names; a tied head is there, too."""
        shapes = {name: ref.shape for name, ref in tensors.items()}
        if EMBEDDING in shapes:
            shapes.setdefault(HEAD, shapes[EMBEDDING])
        return {name: self.one(name, shape) for name, shape in shapes.items()}

    def one(self, name: str, shape: tuple[int, ...]) -> StoredWeights:
        """Return what one tensor becomes: vectors fp32, matrices in the layout of their kernels."""
        rows, *rest = shape or (1,)
        columns = prod(rest)
        kind = _kind(name, rest)
        how = self.options.quantization
        scheme = None if how is None else self._scheme(kind, name, (rows, columns), how)
        if how is None or scheme is None:
            dtype = {"other": "float32", "embedding": self.options.relax_dtype}.get(
                kind, self.linears
            )
            is_packed = kind in ("linear", "head")
            packed = linear_float.packed_shape(rows, columns) if is_packed else shape
            numbers = prod(packed)
            stored_as, quantizer, group_size = _SHORT_NAMES[dtype], "", 0
            nbytes = numbers * NUMPY_DTYPES[dtype].itemsize
        else:
            stored_as, quantizer = scheme.name, self._quantizer(kind, name, how)
            shared = self.stored.get(name, how.group_size)
            group_size = shared if scheme.weight_bits == 4 else 0
            nbytes = _bytes_of_codes(kind, scheme, rows, columns, group_size)
        return StoredWeights(
            kind, stored_as, quantizer, group_size, matrices=1, weights=rows * columns, bytes=nbytes
        )

    def _scheme(
        self, kind: Kind, name: str, shape: tuple[int, int], how: Quantization
    ) -> Scheme | None:
        if kind == "embedding":
            return W8A16 if how.embedding else None
        if kind == "head" and name not in self.stored:
            return how.head
        if kind == "other" or (self.stored and name not in self.stored):
            return None
        is_spared = how.spares_activations and how.quantizer != STORED
        if how.scheme is W8A8 and is_spared and _is_sensitive(name, *shape):
            return W8A16
        return how.scheme

    def _quantizer(self, kind: Kind, name: str, how: Quantization) -> str:
        is_rounded = kind == "embedding" or (self.stored and name not in self.stored)
        return ROUND_TO_NEAREST if is_rounded else how.quantizer


def refuse_what_has_no_codes(
    tensors: Mapping[str, TensorRef], stored: Mapping[str, StoredWeights]
) -> None:
    """Refuse matrices ``[out, in]`` whose number of inputs their scheme cannot take.

    Raises:
        ConfigError: as `QuantizeLinears` would, later.
    """
    for name, ref in tensors.items():
        weights = stored[name]
        if weights.quantizer and weights.kind != "embedding":
            scheme, in_features = SCHEMES[weights.stored_as], ref.shape[1]
            if problem := refusal(scheme, name, in_features, weights.group_size):
                raise problem


def alike(weights: Iterable[StoredWeights]) -> tuple[StoredWeights, ...]:
    """Put together what is of one kind and stored alike, largest first."""
    together: dict[tuple[object, ...], StoredWeights] = {}
    for one in weights:
        key = (one.kind, one.stored_as, one.quantizer, one.group_size)
        sums = together.get(key)
        together[key] = (
            one
            if sums is None
            else replace(
                sums,
                matrices=sums.matrices + one.matrices,
                weights=sums.weights + one.weights,
                bytes=sums.bytes + one.bytes,
            )
        )
    return tuple(sorted(together.values(), key=lambda stored: -stored.bytes))


def largest_layer(stored: Mapping[str, StoredWeights]) -> int:
    """Return how many numbers the largest layer has."""
    layers: dict[str, int] = {}
    for name, weights in stored.items():
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        if name.startswith("model.layers.") and rest:
            layers[layer] = layers.get(layer, 0) + weights.weights
    return max(layers.values(), default=0)


def _kind(name: str, rest: list[int]) -> Kind:
    if not rest:
        return "other"
    if name == EMBEDDING:
        return "embedding"
    return "head" if name == HEAD else "linear"


def _is_sensitive(name: str, out_features: int, in_features: int) -> bool:
    """Whether w8a8 leaves the activations of a linear as they are; see `QuantizeLinears`."""
    return name.endswith(DOWN) or SMALL * out_features <= in_features


def _bytes_of_codes(kind: Kind, scheme: Scheme, rows: int, columns: int, group_size: int) -> int:
    if kind == "embedding":
        return rows * (columns + _SCALE_BYTES[8])
    if scheme.weight_bits == 8:
        return prod(linear_int8.packed_shape(rows, columns)) + rows * _SCALE_BYTES[8]
    filled = -(-columns // group_size) * group_size
    codes, scales = linear_int4.packed_shapes(rows, filled, group_size)
    return prod(codes) + prod(scales) * _SCALE_BYTES[4]
