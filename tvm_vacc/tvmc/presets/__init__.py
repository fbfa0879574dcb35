"""Presets of a command's options: ``--config NAME`` of this package, or a file of the same form.

The form is that of TVM's former ``configs/*.json``: options by their long names, with ``targets``
as a list of objects, ``executor`` and ``runtime`` as an object with a ``kind``, and an object where
an option takes ``name=value``. What stands on the command line wins.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from tvm_vacc.errors import ConfigError
from tvm_vacc.limits import MAX_YAML_BYTES
from tvm_vacc.safe_io import parse_json_object, read_text
from tvm_vacc.tvmc.compiling.target import from_preset

_SUFFIX = ".json"
_KINDS = ("executor", "runtime")


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--config`` to a subcommand."""
    return click.option(
        "--config",
        metavar="NAME|FILE",
        is_eager=True,
        expose_value=False,
        callback=_use,
        help=f"Options from a file of JSON, or a preset: {', '.join(preset_names())}.",
    )(command)


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets in this package."""
    found = (path.name for path in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def read_preset(name: str) -> dict[str, Any]:
    """Return the keys of a preset, by its name or the path of its file.

    Raises:
        ConfigError: there is none, or it is no JSON object.
    """
    if name in preset_names():
        text = (files(__name__) / f"{name}{_SUFFIX}").read_text("utf-8")
        return parse_json_object(text, where=name, error=ConfigError)
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"--config {name}: no such preset or file", f"presets: {', '.join(preset_names())}"
        )
    text = read_text(path, limit=MAX_YAML_BYTES, error=ConfigError)
    return parse_json_object(text, where=name, error=ConfigError)


def options_of(preset: dict[str, Any], command: click.Command, where: str) -> dict[str, Any]:
    """Return the values that a preset gives to the options of `command`, by parameter.

    Raises:
        ConfigError: a key is no option of the command, or its value has the wrong form.
    """
    params = {
        option.lstrip("-"): param
        for param in command.params
        if isinstance(param, click.Option) and param.name != "config"
        for option in param.opts
        if option.startswith("--")
    }
    values: dict[str, Any] = {}
    for key, value in preset.items():
        if key == "targets" and "target" in params:
            try:
                values |= from_preset(value)
            except ValueError as error:
                raise ConfigError(f"{where}: targets {error}", _TARGETS) from None
        elif key in _KINDS and isinstance(value, dict):
            for name, item in value.items():
                option = key if name == "kind" else f"{key}-{value.get('kind')}-{name}"
                _set(values, params, option, item, where)
        else:
            _set(values, params, key.replace("_", "-"), value, where)
    return values


_TARGETS = 'write "targets": [{"kind": "tvm_vacc", "mcpu": "znver4"}]'


def _set(
    values: dict[str, Any], params: dict[str, click.Option], key: str, value: Any, where: str
) -> None:
    param = params.get(key)
    if param is None:
        near = difflib.get_close_matches(key, params, n=1)
        raise ConfigError(
            f"{where}: unknown key {key}",
            f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(params))}",
        )
    assert param.name is not None
    if isinstance(value, dict):
        value = [f"{name}={_text(item)}" for name, item in value.items()]
    if isinstance(value, list):
        if not param.multiple:
            raise ConfigError(f"{where}: {key} is a list", "give one value")
        values[param.name] = [_text(item) for item in value]
    else:
        values[param.name] = [_text(value)] if param.multiple else _text(value)


def _text(value: Any) -> str:
    """Return a value as the command line would give it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _use(context: click.Context, _param: click.Parameter, name: str | None) -> None:
    if name is not None:
        given = options_of(read_preset(name), context.command, name)
        context.default_map = {**(context.default_map or {}), **given}
