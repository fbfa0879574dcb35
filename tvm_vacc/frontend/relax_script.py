"""Reads TVMScript that a user brought without running any of it.

TVM's parser evaluates Python: decorators, arguments, even the texts of symbolic shapes go through
``eval`` with all builtins at hand. So the text is looked through first. Only the syntax that TVM
prints is let in; ``I``, ``R`` and ``T`` stand at the begin of dotted names only, which must lead to
something of TVM's own; every other name must be one that the text defines; and no text constant may
hold more than names and arithmetic.
"""

from __future__ import annotations

import ast
import re
import types
from pathlib import Path
from typing import TypeVar

import tvm
from tvm import ir
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tvm_vacc.errors import OnnxError

_ROOTS = {"I": I, "R": R, "T": T}
_OWN_NAMES = {"TypeVar", "True", "False", "None", "bool", "int", "float", "range"}
_SYNTAX = (
    *(ast.Module, ast.ImportFrom, ast.alias, ast.ClassDef, ast.FunctionDef, ast.arguments),
    *(ast.arg, ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Pass),
    *(ast.With, ast.withitem, ast.For, ast.While, ast.If, ast.Call, ast.keyword, ast.Attribute),
    *(ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Subscript, ast.Slice),
    *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare),
    *(ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)
_PYTHON = {"I.pyfunc"}
"""Keeps the function as Python's own."""

_IMPORTS = ("tvm.script", "typing")
_TEXT = re.compile(r"[\w .,:+*/%<>=@-]*")
_CURE = "save the module by tvm.ir.save_json as .json, which holds constants too"


def read_script(text: str, path: Path) -> ir.IRModule:
    """Return the module that TVMScript holds, as ``module.script()`` prints it.

    Args:
        text: the script.
        path: named in messages.

    Raises:
        OnnxError: it is no such script, or holds what only Python could be meant for.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise OnnxError(f"{path}: is no TVMScript ({error})", _CURE) from error
    _Guard(tree, path).check()
    try:
        module = tvm.script.from_source(text, {**_ROOTS, "TypeVar": TypeVar})
    except Exception as error:  # the parser raises whatever what it evaluates raises
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise OnnxError(f"{path}: TVM cannot parse it: {reason:.200}", _CURE) from error
    if not isinstance(module, ir.IRModule):
        raise OnnxError(f"{path}: holds no module", "give a class decorated by I.ir_module")
    return module


class _Guard:
    """Refuses a script by its first place that could run code."""

    def __init__(self, tree: ast.Module, path: Path) -> None:
        self._tree, self._path = tree, path
        # Attributes that are only the way to a further one: these may be modules.
        self._inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        self._defined = {
            *(n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _is_target(n)),
            *(n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)),
            *(n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))),
        }

    def check(self) -> None:
        """Raise `OnnxError`, or return."""
        if shadowed := self._defined & {*_ROOTS, *_OWN_NAMES}:
            self._refuse(self._tree, f"defines {min(shadowed)}")
        chained: set[int] = set()
        for node in ast.walk(self._tree):
            if not isinstance(node, _SYNTAX):
                self._refuse(node, f"has a {type(node).__name__}")
            if isinstance(node, ast.ImportFrom) and node.module not in _IMPORTS:
                self._refuse(node, f"imports {node.module}")
            if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
                self._text(node)
            if isinstance(node, ast.Attribute):
                self._attribute(node, chained)
            if isinstance(node, ast.Name) and id(node) not in chained:
                self._name(node)

    def _attribute(self, node: ast.Attribute, chained: set[int]) -> None:
        names: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        if any(name.startswith("_") for name in names):
            self._refuse(node, f"asks for {'.'.join(names)}")
        if not (isinstance(inner, ast.Name) and inner.id in _ROOTS):
            return
        chained.add(id(inner))
        found: object = _ROOTS[inner.id]
        for name in names:
            found = getattr(found, name, None)
        maker = getattr(found, "__module__", None) or type(found).__module__
        dotted = ".".join([inner.id, *names])
        is_inner = isinstance(found, types.ModuleType) and id(node) in self._inner
        is_module = isinstance(found, types.ModuleType)
        if dotted in _PYTHON or (not is_inner and (is_module or not maker.startswith("tvm"))):
            self._refuse(node, f"asks for {dotted}")

    def _name(self, node: ast.Name) -> None:
        if node.id not in self._defined and node.id not in _OWN_NAMES:
            self._refuse(node, f"asks for {node.id}")

    def _text(self, node: ast.Constant) -> None:
        if not (isinstance(node.value, str) and _TEXT.fullmatch(node.value)) or "__" in node.value:
            self._refuse(node, f"holds the text {node.value!r:.60}")

    def _refuse(self, node: ast.AST, what: str) -> None:
        line = getattr(node, "lineno", 1)
        raise OnnxError(f"{self._path}: line {line}: {what}, which TVM prints nowhere", _CURE)


def _is_target(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)
