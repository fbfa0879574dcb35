"""The vector types and functions that printed kernels use, each a line of ``vacc_vectors.h``."""

from __future__ import annotations

from dataclasses import dataclass, field

from tvm_vacc.codegen_c.c_types import CType

_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
_WRAPPING = ("add", "sub", "mul", "shl")
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


@dataclass
class VectorFunctions:
    """Collects what is needed; each method returns the name of a C function.

    ``vacc_lanes.h`` defines the macros; a type is declared before the functions on it.
    """

    _types: dict[str, str] = field(default_factory=dict)
    _functions: set[str] = field(default_factory=set)
    _extremes: set[str] = field(default_factory=set)  # stand on functions

    def type(self, ctype: CType) -> str:
        """Return the name of a vector type; loads, stores and splats come with it."""
        line = f"VACC_VECTOR({ctype.suffix}, {ctype.scalar}, {ctype.lanes})"
        self._types[ctype.suffix] = line
        return ctype.name

    def memory(self, action: str, ctype: CType) -> str:
        """``load(pointer)``, ``store(pointer, value)`` or ``splat(scalar)``."""
        self.type(ctype)
        return f"vacc_{action}_{ctype.suffix}"

    def ramp(self, ctype: CType) -> str:
        """``ramp(first, step)``."""
        return self._define("RAMP", "ramp", ctype, ctype.scalar)

    def binary(self, action: str, ctype: CType) -> str:
        """An operator on two vectors; signed integers wrap round."""
        if ctype.is_signed and action in _WRAPPING:
            unsigned = ctype.of("u" + ctype.base)
            self.type(unsigned)
            operator = "<<" if action == "shl" else _OPERATORS[action]
            return self._define("WRAPPING", action, ctype, unsigned.suffix, operator)
        operator = {"shl": "<<", "shr": ">>", **_OPERATORS}[action]
        return self._define("BINARY", action, ctype, operator)

    def compare(self, action: str, ctype: CType) -> str:
        """A comparison; the result is a mask of int32 lanes."""
        self.type(ctype.mask)
        same = ctype.scalar_bytes == 4
        macro = "COMPARE" if same else "COMPARE_NARROW"
        return self._define(macro, action, ctype, ctype.mask.suffix, _COMPARISONS[action])

    def extreme(self, action: str, ctype: CType) -> str:
        """``min`` or ``max``."""
        self.compare("lt" if action == "min" else "gt", ctype)
        self.select(ctype)
        comparison = "lt" if action == "min" else "gt"
        self._extremes.add(f"VACC_EXTREME({action}, {ctype.suffix}, {ctype.lanes}, {comparison})")
        return f"vacc_{action}_{ctype.suffix}"

    def select(self, ctype: CType) -> str:
        """``select(mask, where_true, where_false)``."""
        self.type(ctype.mask)
        macro = "SELECT_BITS" if ctype.scalar_bytes == 4 else "SELECT_LANES"
        return self._define(macro, "select", ctype, ctype.mask.suffix)

    def convert(self, to: CType, source: CType) -> str:
        """A conversion of values."""
        self.type(to)
        self.type(source)
        if to.is_half or source.is_half:
            line = f"VACC_CONVERT_HALF({to.suffix}, {source.suffix}, {to.lanes}, " + (
                f"{CType(source.base).suffix}, {CType(to.base).suffix})"
            )
        else:
            line = f"VACC_CONVERT({to.suffix}, {source.suffix}, {to.lanes}, {to.scalar})"
        self._functions.add(line)
        return f"vacc_{to.suffix}_from_{source.suffix}"

    def reinterpret(self, to: CType, source: CType) -> str:
        """The same bits as another type; either may be a scalar."""
        for ctype in (to, source):
            if ctype.lanes > 1:
                self.type(ctype)
        self._functions.add(f"VACC_BITS({to.suffix}, {to.name}, {source.suffix}, {source.name})")
        return f"vacc_{to.suffix}_bits_{source.suffix}"

    def map(self, function: str, ctype: CType) -> str:
        """A function of C applied to each lane; `function` is its name for scalars."""
        return self._define("MAP", function, ctype)

    def gather(self, ctype: CType, indices: CType) -> str:
        """``gather(base, indices)``."""
        return self._indexed("gather", ctype, indices)

    def scatter(self, ctype: CType, indices: CType) -> str:
        """``scatter(base, indices, value)``."""
        return self._indexed("scatter", ctype, indices)

    def _indexed(self, action: str, ctype: CType, indices: CType) -> str:
        self.type(indices)
        self.type(ctype)
        arguments = f"{ctype.suffix}, {ctype.scalar}, {indices.suffix}, {ctype.lanes}"
        self._functions.add(f"VACC_{action.upper()}({arguments})")
        return f"vacc_{action}_{ctype.suffix}_{indices.suffix}"

    def shuffle(self, ctype: CType, source: CType) -> str:
        """``shuffle(vectors, lanes)``: the lanes of the vectors are counted on."""
        self.type(ctype)
        self.type(source)
        self._functions.add(
            f"VACC_SHUFFLE({ctype.suffix}, {ctype.lanes}, {source.suffix}, {source.lanes})"
        )
        return f"vacc_shuffle_{ctype.suffix}_{source.suffix}"

    def header(self) -> str:
        """Return the text of ``vacc_vectors.h``."""
        lines = [*sorted(self._types.values()), *sorted(self._functions), *sorted(self._extremes)]
        body = "".join(f"{line}\n" for line in lines)
        return (
            "/* Vector types of the kernels, and functions on them: vacc_lanes.h has the macros. "
            "*/\n#ifndef VACC_VECTORS_H\n#define VACC_VECTORS_H\n\n"
            f'#include "vacc_lanes.h"\n\n{body}\n#endif\n'
        )

    def _define(self, macro: str, action: str, ctype: CType, *rest: str) -> str:
        self.type(ctype)
        arguments = ", ".join([action, ctype.suffix, str(ctype.lanes), *rest])
        self._functions.add(f"VACC_{macro}({arguments})")
        return f"vacc_{action}_{ctype.suffix}"
