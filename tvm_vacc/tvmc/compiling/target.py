"""``--target``, and its options one by one: ``--target-tvm_vacc-mcpu=znver4``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvm_vacc.errors import ConfigError, TargetError
from tvm_vacc.limits import MAX_YAML_BYTES
from tvm_vacc.safe_io import read_text
from tvm_vacc.target import C_TAG, TAG
from tvm_vacc.target_string import FALLBACK, OPTIONS, join_options
from tvm_vacc.tvmc._sections import section

option = section("Target")


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of this group to a command."""
    for name in OPTIONS:
        for kind in (TAG, FALLBACK):
            command = option(f"--target-{kind}-{name}", metavar="VALUE", hidden=True)(command)
    return option(
        "--target",
        default=TAG,
        show_default=True,
        help=f'What for: "{TAG} -mcpu=znver4", "{TAG}, {FALLBACK}", JSON, or a file of JSON; '
        f"-mcpu=native means this machine's processor. Options may stand alone too, as "
        f"--target-{TAG}-OPT or --target-{FALLBACK}-OPT with OPT of {', '.join(OPTIONS)}.",
    )(command)


def read_target(given: dict[str, Any]) -> str:
    """Take the options of this group out of `given` and return the target that they ask for.

    Raises:
        TargetError: an option is unknown, given twice, or cannot be used; the file cannot be read.
    """
    text: str = given.pop("target")
    if text.lstrip()[:1] not in ("{", "[") and _is_file(text):
        text = read_text(Path(text), limit=MAX_YAML_BYTES, error=TargetError)
    alone: dict[str, str] = {}
    for kind in (TAG, FALLBACK):
        for name in OPTIONS:
            value = given.pop(_variable(kind, name))
            if value is None:
                continue
            if alone.setdefault(name, value) != value:
                raise TargetError(
                    f"--target-{kind}-{name} is {value!r}, --target-{TAG}-{name} is another",
                    "both are code for one processor: give the option once",
                )
    return join_options(text, alone)


def target_of(target: str, output_format: str) -> str:
    """Return the target that `output_format` demands: ``mlf`` is C sources.

    Raises:
        ConfigError: a target for machine code is given beside ``mlf``, or C beside ``so``.
    """
    if output_format == "so" and target.strip() == C_TAG:
        raise ConfigError(f"--target {C_TAG} makes C sources, -f so machine code", "give -f mlf")
    if output_format != "mlf":
        return target
    if target.strip() not in (TAG, C_TAG):
        raise ConfigError(
            f"--target {target!r} is given beside --output-format mlf, which is C sources",
            "leave --target out, and give its options to the compiler that builds the sources",
        )
    return C_TAG


def from_preset(targets: Any) -> dict[str, Any]:
    """Return the options that ``"targets": [{"kind": .., "mcpu": ..}, ..]`` of a preset means.

    Raises:
        ValueError: it is no such list.
    """
    if not isinstance(targets, list) or not targets:
        raise ValueError("must be a list of objects")
    kinds, values = [], {}
    for target in targets:
        if not isinstance(target, dict) or not isinstance(target.get("kind"), str):
            raise ValueError(f"holds {json.dumps(target)}, which has no kind")
        kind = target["kind"]
        kinds.append(kind)
        for name, value in target.items():
            if name == "kind":
                continue
            if kind not in (TAG, FALLBACK) or name not in OPTIONS:
                raise ValueError(f"{kind} has no option {name!r}")
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            values[_variable(kind, name)] = text
    return {"target": ", ".join(kinds), **values}


def _variable(kind: str, name: str) -> str:
    return f"target_{kind}_{name}".replace("-", "_")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or a null character in it
        return False
