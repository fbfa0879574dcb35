"""``TVM_VACC_EXPLAIN=1``: each call prints its Relax equivalent, and the prints form a script.

The lines are made from the very expressions that the calls have built, so that they cannot say
anything else. Arrays that a script passed in are the script's own: the lines call them ``data``
(a dict by input name), ``model`` and ``params``.
"""

from __future__ import annotations

import keyword
import os
import re
import sys
from collections.abc import Sequence

from tvm import relax, tirx

from tvm_vacc.relay.infer import typed
from tvm_vacc.relay.render import Renderer

VARIABLE = "TVM_VACC_EXPLAIN"


class Names(Renderer):
    """The names that values have in the printed script, for as long as the process runs."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._kept: list[relax.Expr] = []  # while an object lives, no other has its address
        self._taken = {"bb", "data", "inputs", "mod", "model", "np", "params", "relax", "tvm", "vm"}
        self._begun = False

    def show(self, line: str) -> None:
        """Print `line`, and what the script imports before the first one."""
        if not self._begun:
            self._begun = True
            self.show("import numpy as np")
            self.show("import tvm")
            self.show("from tvm import relax")
        print(line, file=sys.stderr)

    def name_of(self, expr: relax.Expr) -> str | None:
        """Return the name of `expr`; a variable gets its line when it is first met."""
        known = self._names.get(expr.__chandle__())
        if (
            known is None
            and isinstance(expr, tirx.Var)
            and not isinstance(expr.ty, relax.TensorType)
        ):
            known = self._give(expr, expr.name)
            self.show(f'{known} = tvm.tirx.Var("{expr.name}", "{expr.ty.dtype}")')
        elif known is None and isinstance(expr, relax.Var):
            source = self.variable(expr)
            known = self._give(expr, expr.name)
            self.show(f"{known} = {source}")
        return known

    def assign(self, expr: relax.Expr, hint: str) -> None:
        """Print the line that makes `expr`."""
        if self.name_of(expr) is None:
            source = self.source(expr)
            self.show(f"{self._give(expr, hint)} = {source}")

    def _give(self, expr: relax.Expr, hint: str) -> str:
        base = re.sub(r"\W", "_", hint)
        if not base.isidentifier() or keyword.iskeyword(base):
            base = f"v_{base}"
        name, count = base, 0
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        self._names[expr.__chandle__()] = name
        self._kept.append(expr)
        return name


_NAMES = Names()


def enabled() -> bool:
    """Whether the user wants to see the equivalents."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def value(expr: relax.Expr) -> relax.Expr:
    """Return `expr` with its type, having printed the line that makes it."""
    typed(expr)
    if enabled():
        _NAMES.assign(expr, "v")
    return expr


def function(params: Sequence[relax.Var], body: relax.Expr) -> None:
    """Print how a function of `params` comes about."""
    if not enabled():
        return
    names = ", ".join(str(_NAMES.name_of(param)) for param in params)
    source = _NAMES.source(body)
    lines(
        "bb = relax.BlockBuilder()",
        f'with bb.function("main", [{names}]):',
        "    with bb.dataflow():",
        f"        result = bb.emit_output(bb.normalize({source}))",
        "    bb.emit_func_output(result)",
        "mod = bb.finalize()",
    )


def lines(*script: str) -> None:
    """Print the lines of `script`."""
    if enabled():
        for line in script:
            _NAMES.show(line)
