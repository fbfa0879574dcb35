"""Looks a program of torch.export through before torch reads it: nothing in it may run code.

A ``.pt2`` file is a zip of JSON and of tensors. Torch's reader is no safe one: it unpickles what an
entry asks it to, evaluates the sizes of symbolic dimensions as Python (`sympy.sympify`), and calls
operators by any name that it finds in its modules. What `torch.export.save` (2.9 and later) writes
for a plain model needs nothing of this, and only that is accepted: raw tensors, operators of ATen,
sizes made of symbols and arithmetic.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tvm_vacc.errors import OnnxError
from tvm_vacc.limits import MAX_JSON_BYTES
from tvm_vacc.safe_io import parse_json

_CURE = "save the model again by torch.export.save, of torch 2.9 or later"
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+(\.\w+)?|_operator\.[a-z]\w*|math\.[a-z]+"
    r"|torch\.sym_\w+"
)
_TOKEN = re.compile(r"\s+|'[a-z]+\d+'|[-+*/%(),=<>]|\d+(\.\d+)?|[A-Za-z]\w*")
_SYMBOL = re.compile(r"[a-z]+\d+")
_WORDS = {
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod"),
    *("FloorDiv", "CeilDiv", "PythonMod", "CleanDiv", "ModularIndexing", "Where", "ToFloat"),
    *("IntTrueDiv", "FloatTrueDiv", "TruncToInt", "CeilToInt", "FloorToInt", "RoundToInt"),
    *("PowByNatural", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Equality"),
    *("Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan"),
    *("positive", "nonnegative", "integer", "real", "finite", "True", "False"),
}
"""What torch prints of the sizes of dimensions, beside symbols and numbers."""

_RUN_CODE = ("__enum__", "default_factory_module")
"""Keys of torch's trees that name modules to be imported."""


def check_pt2(path: Path) -> None:
    """Refuse a ``.pt2`` file that could run code when torch reads it.

    What its sample inputs unpickle to is checked where torch is at hand: `export_torch`.

    Raises:
        OnnxError: it is no such file, of another version, or holds more than a plain program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path)
    except (OSError, zipfile.BadZipFile) as error:
        raise OnnxError(f"{path}: is no program of torch.export ({error})", _CURE) from error


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    names = [name.partition("/")[2] for name in archive.namelist()]
    programs = [name for name in names if re.fullmatch(r"models/[^/]+\.json", name)]
    if len(programs) != 1:
        raise OnnxError(f"{path}: holds {len(programs)} programs of torch.export", _CURE)
    for name, full in zip(names, archive.namelist(), strict=True):
        if name.startswith("data/aotinductor/"):
            raise OnnxError(f"{path}: {name}: is compiled code", "save the exported program")
        if re.fullmatch(r"data/(weights|constants)/[^/]+\.pt", name):
            raise OnnxError(f"{path}: {name}: is a pickle", _CURE)
        if re.fullmatch(r"data/(weights|constants)/[^/]+_config\.json", name):
            for entry, payload in dict(_json(archive, full, path).get("config", {})).items():
                if not isinstance(payload, dict) or payload.get("use_pickle") is not False:
                    raise OnnxError(
                        f"{path}: {name}: {entry} is a pickle",
                        "export the model with plain tensors: neither sparse ones nor objects",
                    )
        if name in programs:
            _check_program(_json(archive, full, path), path)


def _json(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    info = archive.getinfo(name)
    if info.file_size > MAX_JSON_BYTES:
        raise OnnxError(f"{path}: {name}: larger than {MAX_JSON_BYTES} bytes", _CURE)
    return parse_json(archive.read(info), where=f"{path}: {name}", error=OnnxError, cure=_CURE)


def _check_program(program: Any, path: Path) -> None:
    for key, value in _items(program):
        if key == "expr_str":
            _check_size(value, path)
        elif key in ("target", "as_operator") and not _OPERATOR.fullmatch(str(value)):
            raise OnnxError(
                f"{path}: calls {str(value)[:80]!r}, which is no operator of ATen",
                "export the model without custom operators",
            )
        elif key in ("in_spec", "out_spec") and any(word in str(value) for word in _RUN_CODE):
            raise OnnxError(
                f"{path}: takes or returns more than tuples, lists and dicts of tensors",
                "export a model that takes and returns tensors",
            )


def _check_size(text: Any, path: Path) -> None:
    rest = str(text)
    while rest:
        token = _TOKEN.match(rest)
        word = token.group() if token else ""
        if not word or (word[0].isalpha() and not (word in _WORDS or _SYMBOL.fullmatch(word))):
            raise OnnxError(f"{path}: has a size {str(text)[:80]!r}, which is no arithmetic", _CURE)
        rest = rest[len(word) :]


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of every object in a JSON document, with its value."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield from each.items()
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
