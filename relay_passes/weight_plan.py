"""What the compiler has to do to each weight: the note that passes leave on ``main``.

No weight passes through the graph: a pass that wants a weight in another form makes fresh
parameters and writes down how they come about. `quantize_linears` and `quantize_embedding` note
the parameters that they make; `pack_weights` completes the plan to all weights, in the order of
the function's parameters, and the compiler streams the checkpoint through it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Final, Literal

from pydantic import TypeAdapter
from tvm import ir, relax

from tvm_vacc.dtypes import NUMPY_DTYPES

ATTRIBUTE = "weights"
"""Function attribute that holds the plan, as JSON."""

PLAIN: Final = "plain"
"""Layout: row-major, as in the checkpoint."""

LINEAR: Final = "linear"
"""Layout: the one `schedules.linear_float` reads."""

CODES: Final = "codes"
"""Layout: codes ``[out, in]`` int8 and scales ``[out, groups]`` fp32, both row-major."""

LINEAR_INT8: Final = "linear_int8"
"""Layout: codes and scales as `schedules.linear_int8` reads them."""

LINEAR_INT8_SUMS: Final = "linear_int8_sums"
"""Layout: the same and the sum ``[out]`` int32 of each channel's codes, for
`schedules.linear_int8_codes`."""

LINEAR_INT4: Final = "linear_int4"
"""Layout: codes and scales as `schedules.linear_int4` reads them."""


@dataclass(frozen=True)
class Source:
    """A tensor of the model.

    Attributes:
        name: the key of `ImportedModel.weights`.
        transposed: whether it is ``[in, out]`` where the entry's matrix is ``[out, in]``.
    """

    name: str
    transposed: bool = False


@dataclass(frozen=True)
class MadeTensor:
    """A parameter of the function, and the tensor of that name in the artefact's weight file."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * NUMPY_DTYPES[self.dtype].itemsize

    def parameter(self) -> relax.Var:
        """Return a fresh function parameter of this name and type."""
        return relax.Var(self.name, relax.TensorType(self.shape, self.dtype))


@dataclass(frozen=True)
class Quantized:
    """How a matrix becomes codes and scales.

    Attributes:
        quantizer: what chooses them; `tvm_vacc.steps.stored_weights` knows each by its name.
        scheme: a key of `tvm_vacc.quantize.scheme.SCHEMES`.
        group_size: inputs that share a scale.
    """

    quantizer: str
    scheme: str
    group_size: int


Kind = Literal["linear", "head", "embedding", "other"]
"""What a weight is for; the head is the linear whose result ``main`` returns first."""


@dataclass(frozen=True)
class PackedWeight:
    """How one weight is made of tensors of the model.

    Attributes:
        kind: what it is for.
        sources: tensors of the model, one after the other along ``out`` (the first dimension).
        layout: one of the layouts above.
        tensors: what is made: one tensor, or codes and scales.
        quantized: how the codes are chosen; None where there are none.
        scales: where the codes are chosen already, and are what `sources` hold as int8: the
            tensors of their scales ``[out, groups]``, one for each source.
    """

    kind: Kind
    sources: tuple[Source, ...]
    layout: str
    tensors: tuple[MadeTensor, ...]
    quantized: Quantized | None = None
    scales: tuple[Source, ...] = ()

    @property
    def name(self) -> str:
        """The sources' names: what reports and errors call it."""
        return "+".join(source.name for source in self.sources)

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of all tensors of the model that it is made of, each once."""
        return tuple(dict.fromkeys(source.name for source in (*self.sources, *self.scales)))


_PLAN = TypeAdapter(tuple[PackedWeight, ...])


def with_plan(attrs: ir.DictAttrs, plan: Iterable[PackedWeight]) -> ir.DictAttrs:
    """Return `attrs` with the plan set."""
    text = _PLAN.dump_json(tuple(plan)).decode()
    return ir.make_node("ir.DictAttrs", **{**dict(attrs.items()), ATTRIBUTE: text})


def without_plan(module: ir.IRModule, name: str) -> ir.IRModule:
    """Return `module` without the plan noted on its function `name`: what kernels are made of."""
    functions = dict(module.functions_items())
    gvar = module.get_global_var(name)
    functions[gvar] = functions[gvar].without_attr(ATTRIBUTE)
    return ir.IRModule(functions, attrs=module.attrs)


def read_plan(function: relax.Function) -> tuple[PackedWeight, ...]:
    """Return the plan noted on `function`; empty where no pass has noted one."""
    return _PLAN.validate_json(str(function.attrs.get(ATTRIBUTE, "[]")))


def tensors_of(plan: Iterable[PackedWeight]) -> tuple[MadeTensor, ...]:
    """Return what `plan` makes, in the order of the function's parameters."""
    return tuple(tensor for entry in plan for tensor in entry.tensors)
