"""The targets that scripts give: ``llvm``, ``tvm_vacc``, options behind them, pairs of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import tvm
from tvm.target import Target

from tvm_vacc.errors import ConfigError, TargetError
from tvm_vacc.target import TAG
from tvm_vacc.target_string import FALLBACK, make_target

TargetLike: TypeAlias = str | Target | Sequence[str | Target] | Mapping[Any, Any] | None

_CPUS = {"cpu", str(tvm.cpu()), str(int(tvm.cpu().dlpack_device_type()))}


def resolve_target(target: TargetLike, host: str | Target | None) -> Target:
    """Return the one target that `relay.build` compiles for.

    Args:
        target: a text, a target, or a list of ``tvm_vacc`` and ``llvm``; a target's config, or one
            of these by device, as ``{"cpu": "llvm"}``; None is the target that surrounds the call
            (``with tvm.target.Target(..):``).
        host: `llvm`: what runs the operators that `target` does not. One processor runs both.

    Raises:
        TargetError: TVM or this plugin cannot take it, or none is given.
    """
    if target is None:
        target = Target.current(allow_none=True)
        if target is None:
            raise TargetError("relay.build: there is no target", 'give target="tvm_vacc"')
    if isinstance(target, Mapping):
        target = _from_mapping(target)
    parts = [target] if isinstance(target, (str, Target)) else list(target)
    if host is not None and str(host) != FALLBACK:
        parts.append(host)
    if len(parts) == 1:
        return parts[0] if isinstance(parts[0], Target) else _from_text(parts[0])
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(parts):
        raise TargetError(
            "relay.build: Target objects cannot be combined",
            f'give one text, such as "{TAG}, {FALLBACK} -mcpu=znver4"',
        )
    if all(text.split()[:1] == [FALLBACK] for text in texts):
        if len(set(texts)) > 1:
            raise TargetError(f"targets {texts} differ", "one processor runs both: give it once")
        return _from_text(texts[0])
    return _from_text(", ".join(texts))


def _from_mapping(target: Mapping[Any, Any]) -> Any:
    """Return what a config says as JSON, or what there is for the only device."""
    if "kind" in target or "tag" in target:
        stock = target.get("kind") == FALLBACK
        return Target(dict(target)) if stock else json.dumps(dict(target))
    if len(target) != 1 or not _CPUS.issuperset(map(str, target)):
        raise TargetError(
            f"relay.build: the devices are {', '.join(map(str, target))}",
            'one CPU runs all: give one target, such as "tvm_vacc"',
        )
    [found] = target.values()
    return found


def check_executor(executor: Any, runtime: Any) -> None:
    """Accept the executor and the runtime that there are, by name or by ``relay.backend``.

    Raises:
        ConfigError: another one.
    """
    name = str(getattr(executor, "name", executor or "graph"))
    if name != "graph":
        raise ConfigError(
            f"relay.build: there is no executor {name!r}",
            "leave it out: Relax's virtual machine takes the place of all three",
        )
    name = str(getattr(runtime, "name", runtime or "cpp"))
    if name != "cpp":
        raise ConfigError(
            f"relay.build: there is no runtime {name!r}",
            "leave it out; TVM 0.20 dropped the runtime in C",
        )


def _from_text(text: str) -> Target:
    words = text.split()
    if text.lstrip().startswith("{") or words[:1] != [FALLBACK]:
        return make_target(text)
    if words == [FALLBACK]:
        return Target(FALLBACK)
    # The plugin's reader knows the options, which are the same; TVM's own takes JSON only.
    config = {str(key): value for key, value in make_target(f"{TAG}, {text}").attrs.items()}
    return Target({"kind": FALLBACK, **config})
