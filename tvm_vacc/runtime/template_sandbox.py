"""Jinja for templates of unknown origin: a sandbox whose every step and character is counted.

jinja2's sandbox keeps a template from the interpreter, but not from the machine: a loop in a loop,
a string doubled thirty times, a list that holds itself twice over take for ever, or all memory.
Here whatever a template does spends from one budget (`template_budget`), before it is done where
the result may be larger than what it is made from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from tvm_vacc.limits import MAX_TEMPLATE_INTEGER
from tvm_vacc.runtime import template_budget
from tvm_vacc.runtime.template_budget import measured, spend, spend_size

_FILTERS = frozenset(
    """abs capitalize count d default dictsort e escape first float groupby indent int items join
    last length list lower map max min reject rejectattr replace reverse round safe select
    selectattr sort string title trim truncate unique upper urlencode wordcount""".split()  # noqa: SIM905
)
"""Jinja's filters that are left. The others reach attributes by name, or make text of any length
from short arguments."""

_UNBOUNDED_METHODS = frozenset(["expandtabs", "translate"])
_WIDE_FIELD = re.compile(r"\d{3}|\*|\{[^}]*\{")


def _spend_on_replace(text: str, old: str, new: str, *_count: Any) -> None:
    spend((text.count(old) if old else len(text) + 1) * len(new))


def _spend_on_join(separator: str, items: Sequence[Any]) -> None:
    spend(len(separator) * len(items) + spend_size(items))


def _spend_on_format(text: str, arguments: Any) -> None:
    """Spend the most that can come out: every character an argument, or a field two digits wide."""
    if _WIDE_FIELD.search(text):
        raise SecurityError("it formats with a wide field")
    spend(len(text) * (100 + spend_size(arguments)))


def _check_integers(arguments: Iterable[Any]) -> None:
    for value in arguments:
        if isinstance(value, int) and abs(value) > MAX_TEMPLATE_INTEGER:
            raise SecurityError(f"it passes the number {value} to a function")


def _spend_on_method(method: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> None:
    """Spend beforehand what a string method may make of its arguments."""
    method = getattr(method, "__wrapped__", method)  # jinja wraps `format`
    text, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    if not isinstance(text, str):
        return
    if name in _UNBOUNDED_METHODS:
        raise SecurityError(f"it calls {name}")
    if name in ("format", "format_map"):
        _spend_on_format(text, [*args, kwargs])
    elif name == "replace":
        _spend_on_replace(text, *map(str, [*args, *kwargs.values()][:2]))
    elif name == "join" and args and isinstance(args[0], (list, tuple)):
        _spend_on_join(text, args[0])


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter or a test of jinja's so that its numbers are checked, its result measured."""

    @wraps(function)  # copies jinja's mark of which context the function wants
    def call(*args: Any, **kwargs: Any) -> Any:
        _check_integers([*args, *kwargs.values()])
        return measured(function(*args, **kwargs))

    return call


def _replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    _spend_on_replace(str(value), str(old), str(new))
    return str(value).replace(str(old), str(new), -1 if count is None else count)


@jinja2.pass_eval_context
def _join(context: Any, value: Iterable[Any], d: str = "", attribute: Any = None) -> str:
    items = list(value)
    _spend_on_join(str(d), items)
    return str(jinja2.filters.do_join(context, items, d, attribute))


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    spend(str(s).count("\n") * (width if isinstance(width, int) else len(width)))
    return str(jinja2.filters.do_indent(s, width, first, blank))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    # transformers' filter: jinja's own escapes HTML.
    layout = (indent if isinstance(indent, int) else len(indent or "")) + spend_size(separators)
    spend(spend_size(value) * layout)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


class _Namespace(Namespace):
    """``namespace()`` that holds no underscore names, as transformers has it."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # `self` may be a name that is stored
        Namespace.__init__(*args, **kwargs)
        if any(str(name).startswith("_") for name in dict(*args[1:], **kwargs)):
            raise SecurityError("it stores a private attribute")

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError("it stores a private attribute")
        super().__setitem__(name, value)


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks the model's own words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Any) -> nodes.Node:
        """Parse up to ``{% endgeneration %}``."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def _helper(name: str, arguments: list[Any]) -> nodes.Call:
    function = nodes.ImportedName(
        f"{template_budget.__name__}.{name}"
    )  # out of reach of the template's own names
    return nodes.Call(function, arguments, [], None, None)


class _Instrument(NodeTransformer):
    """Puts the spending into a parsed template."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Return `node` with every loop and macro counted, every value that is built measured."""
        self.generic_visit(node)
        if isinstance(node, (nodes.For, nodes.Macro, nodes.CallBlock)):
            text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
            node.body.insert(0, nodes.ExprStmt(_helper("spend", [nodes.Const(1 + text)])))
        elif isinstance(node, nodes.Concat):
            return _helper("concatenated", node.nodes)
        elif isinstance(node, (nodes.List, nodes.Tuple, nodes.Dict)):
            is_target = getattr(node, "ctx", "load") != "load"  # `for key, value in` is a tuple too
            return node if is_target else _helper("measured", [node])
        return node


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The settings and helpers of transformers' chat templates, every operation counted.

    Compile and render within `limited()`. Raises jinja2's exceptions (SecurityError where a
    template goes too far) and whatever an expression of the template raises.
    """

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, jinja2.ext.loopcontrols],
            finalize=measured,
        )
        filters: dict[str, Any] = {name: self.filters[name] for name in _FILTERS}
        filters.update(tojson=_to_json, replace=_replace, join=_join, indent=_indent)
        self.filters = {name: _bounded(function) for name, function in filters.items()}
        tests: dict[str, Any] = self.tests
        self.tests = {name: _bounded(function) for name, function in tests.items()}
        del self.globals["lipsum"]
        self.globals.update(
            raise_exception=_raise_exception, strftime_now=_strftime_now, namespace=_Namespace
        )

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _Instrument().visit(super()._parse(source, name, filename))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call `__obj` after its arguments were checked; measure what it returns."""
        _check_integers([*args, *kwargs.values()])
        _spend_on_method(__obj, args, kwargs)
        return measured(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Apply one of `intercepted_binops`, its result being spent before it is made."""
        if operator == "%" and isinstance(left, str):
            _spend_on_format(left, right)
        elif operator == "**":
            _check_integers([left, right])
            spend(abs(right) if isinstance(right, int) else 0)
        elif operator == "*":
            for times, value in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(value, (str, list, tuple)):
                    spend(max(times, 0) * len(value))
        return measured(super().call_binop(context, operator, left, right))
