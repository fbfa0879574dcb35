"""The arguments of a printed Relax function: dimensions, inputs, weights, outputs."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm_vacc.codegen_c.c_types import CType

ALIGNMENT = 64


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: of the member that points to it.
        ctype: of its elements.
        dims: its shape, in C; names of dimensions stand for their values.
    """

    name: str
    ctype: CType
    dims: tuple[str, ...]

    @property
    def shape(self) -> str:
        """The dimensions, as a comment gives them."""
        return ", ".join(self.dims)


@dataclass
class Signature:
    """What a function takes.

    Attributes:
        name: of the function.
        dims: dimensions known at run time only, with the largest value each may have, or None.
        inputs: tensors it reads.
        outputs: tensors it writes.
        bundle: the member that holds caches and weights; empty where there is none.
    """

    name: str
    dims: dict[str, int | None] = field(default_factory=dict)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    bundle: str = ""
    _members: list[str] = field(default_factory=list)

    def add_dim(self, name: str, most: int | None) -> None:
        """Add a dimension."""
        self.dims[name] = most
        note = f" /* at most {most} */" if most is not None else ""
        self._members.append(f"int64_t {name};{note}")

    def add_input(self, tensor: Tensor) -> None:
        """Add a tensor that is read."""
        self.inputs.append(tensor)
        self._members.append(f"const {tensor.ctype.scalar} *{tensor.name}; /* [{tensor.shape}] */")

    def add_bundle(self, name: str, count: int) -> None:
        """Add the tuple of `count` tensors that a model brings itself."""
        self.bundle = name
        note = f"{count} tensors; the order is the manifest's"
        self._members.append(f"void *const *{name}; /* {note} */")

    def add_output(self, tensor: Tensor) -> None:
        """Add a tensor that is written."""
        self.outputs.append(tensor)
        note = f"[{tensor.shape}], written"
        self._members.append(f"{tensor.ctype.scalar} *{tensor.name}; /* {note} */")

    def declarations(self) -> str:
        """Return what stands in the header: the struct, and the prototypes."""
        members = "".join(f"    {member}\n" for member in self._members)
        return (
            f"struct {self.name}_arguments {{\n{members}}};\n\n"
            f"/* Bytes of workspace that {self.name} needs for such arguments. */\n"
            f"size_t {self.name}_workspace(const struct {self.name}_arguments *arguments);\n\n"
            f"/* Returns a vacc_status. The workspace is aligned to {ALIGNMENT} bytes. */\n"
            f"int {self.name}(const struct {self.name}_arguments *arguments, void *workspace);\n"
        )
