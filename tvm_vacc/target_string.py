"""Target strings as users write them, to the config of one TVM target.

TVM itself takes options in JSON only. Accepted here are also the styles of its former command
line: ``tvm_vacc``, ``tvm_vacc -mcpu=znver4``, and the composite ``tvm_vacc, llvm -mcpu=znver4``.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tvm_vacc.errors import TargetError, VaccWarning
from tvm_vacc.safe_io import parse_json
from tvm_vacc.target import C_TAG, TAG, autoload

if TYPE_CHECKING:
    from tvm.target import Target

FALLBACK = "llvm"
NATIVE = "native"
"""As -mcpu: the processor of the machine that compiles."""

OPTIONS: dict[str, type] = {
    "mcpu": str,
    "mattr": list,
    "mtriple": str,
    "mabi": str,
    "mfloat-abi": str,
    "num-cores": int,
    "opt-level": int,
}
"""Options of the LLVM code generator that may be given, and how their values are read."""

# A comma separates targets where a name follows; in -mattr=+avx2,+fma a sign does.
_BETWEEN_TARGETS = re.compile(r",(?=\s*[A-Za-z]|\s*$)")
_TRIPLE = re.compile(r"[\w.]+(-[\w.]+){1,4}")
_LINUX_ON_RISCV64 = re.compile(r"riscv64-(\w+-)?linux")
_RISCV64_FEATURES = ("+m", "+a", "+f", "+d", "+c")
"""What Linux is built for there, with floats in registers; LLVM assumes integers alone."""

GENERIC = (
    "the code will run on every processor of its architecture, with vectors of 128 bits and "
    "several times slower than it could"
)
_EXAMPLE = f'write for instance "{TAG} -mcpu=znver4"'


def parse_target(text: str) -> dict[str, Any]:
    """Return the config that ``tvm.target.Target`` takes; imports no TVM.

    A composite names the plugin first and the fallback for operators of other models second. Both
    are code for one processor, so that its options may stand at either, or equal at both.

    Args:
        text: as in this module's description, or JSON with the same options as keys.

    Raises:
        TargetError: an unknown target or option, a value of the wrong form, or two parts of a
            composite that contradict each other.
    """
    text = text.strip()
    if text == C_TAG:
        return {"tag": C_TAG}
    if text.startswith((f"{C_TAG} ", f"{C_TAG},")):
        raise TargetError(
            f"target {text!r}: {C_TAG} takes no options",
            "give them to the compiler that builds the sources",
        )
    if text.startswith("{"):
        return _from_json(text)
    names: list[str] = []
    options: dict[str, Any] = {}
    for part in _BETWEEN_TARGETS.split(text):
        name, own = _parse_part(part, text)
        for option, value in own.items():
            if options.setdefault(option, value) != value:
                raise TargetError(
                    f"target {text!r}: -{option} differs between {names[-1]} and {name}",
                    "both are code for one processor: give the option once",
                )
        names.append(name)
    if names not in ([TAG], [TAG, FALLBACK]):
        raise TargetError(
            f"target {text!r}: {TAG} must come first, then at most one {FALLBACK}", _EXAMPLE
        )
    return {"tag": TAG, **options}


def join_options(text: str, options: Mapping[str, str]) -> str:
    """Return the target `text` with further `options`, each a text as after ``-name=``.

    Raises:
        TargetError: `text` or an option cannot be used, or `text` says otherwise.
    """
    config = parse_target(text)
    if not options:
        return text
    if config["tag"] == C_TAG:
        raise TargetError(
            f"target {text!r}: {C_TAG} takes no options",
            "give them to the compiler that builds the sources",
        )
    read = {name: _read_value(name, value, text) for name, value in options.items()}
    for name, value in read.items():
        if config.setdefault(name, value) != value:
            raise TargetError(f"target {text!r}: -{name} is given once more", "give it once")
    return json.dumps(config)


def make_target(text: str) -> Target:
    """Return the TVM target of a target string.

    ``-mcpu=native`` becomes the name of this machine's processor, and ``-mattr`` says where its
    features differ from what that name implies; options of `text` come after, and win. For riscv64
    ``-mattr`` and ``-mabi`` begin with what every Linux has there.

    Warns:
        VaccWarning: neither processor nor features are given: the code will be slow.

    Raises:
        TargetError: as `parse_target`; also a processor that LLVM does not know for its triple.
    """
    from tvm.target import Target
    from tvm.target.codegen import llvm_get_system_triple, llvm_is_valid_cpu

    autoload()  # TVM may have been told not to
    config = parse_target(text)
    if config.get("mcpu") == NATIVE:
        if "mtriple" in config:
            raise TargetError(
                f"target {text!r}: -mcpu={NATIVE} is this machine, -mtriple another",
                "leave one of them out",
            )
        native = _native_processor()
        config["mattr"] = [*native.pop("mattr"), *config.get("mattr", [])]
        config |= native
    elif config["tag"] == TAG and not config.keys() & {"mcpu", "mattr"}:
        foreign = "mtriple" in config
        cure = "name a processor by -mcpu" if foreign else f"write -mcpu={NATIVE} for this machine"
        warnings.warn(f"target {text!r}: {GENERIC}; {cure}", VaccWarning, stacklevel=1)
    if _LINUX_ON_RISCV64.match(config.get("mtriple", "")):
        config["mattr"] = [*_RISCV64_FEATURES, *config.get("mattr", [])]
        config.setdefault("mabi", "lp64d")
    try:
        target = Target(config)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).split(" Target creation from config")[0]
        raise TargetError(f"target {text!r}: {reason}", _EXAMPLE) from None
    triple = config.get("mtriple") or llvm_get_system_triple()
    if "mcpu" in config and not llvm_is_valid_cpu(config["mcpu"], triple):
        raise TargetError(
            f"target {text!r}: LLVM knows no processor {config['mcpu']!r} for {triple}",
            "give one that `clang --print-supported-cpus` lists, or another -mtriple",
        )
    return target


def _native_processor() -> dict[str, Any]:
    """Return this machine's ``mcpu`` and ``mattr``.

    The name comes from family and model numbers, the features from the machine itself: a
    hypervisor may mask some that every processor of the name has.
    """
    import tvm
    from tvm.target import Target
    from tvm.target.codegen import llvm_get_cpu_features, llvm_get_system_cpu

    name = str(llvm_get_system_cpu())
    implied = set(map(str, llvm_get_cpu_features(Target({"kind": FALLBACK, "mcpu": name}))))
    found = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    differing = sorted(
        (bool(there), str(feature))
        for feature, there in found.items()
        if bool(there) != (str(feature) in implied)
    )
    features = [f"{'+' if there else '-'}{feature}" for there, feature in differing]
    return {"mcpu": name, "mattr": features}


def _parse_part(part: str, text: str) -> tuple[str, dict[str, Any]]:
    try:
        words = shlex.split(part)
    except ValueError as error:
        raise TargetError(f"target {text!r}: {error}", _EXAMPLE) from None
    if not words:
        raise TargetError(f"target {text!r}: a name is missing", _EXAMPLE)
    name, *rest = words
    if name not in (TAG, FALLBACK):
        raise TargetError(
            f"target {text!r}: unknown target {name!r}",
            f"known: {TAG}, and {FALLBACK} after it; {C_TAG}",
        )
    options: dict[str, Any] = {}
    for word in rest:
        option, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not equals:
            raise TargetError(f"target {text!r}: {word!r} is no option", _EXAMPLE)
        if option in options:
            raise TargetError(f"target {text!r}: -{option} is given twice", "give it once")
        options[option] = _read_value(option, value, text)
    return name, options


def _read_value(option: str, value: str, text: str) -> Any:
    kind = OPTIONS.get(option)
    if kind is None:
        raise _unknown_option(option, text)
    if kind is int:
        if not (value.isascii() and value.isdigit()):
            raise TargetError(f"target {text!r}: -{option} is {value!r}", "give a whole number")
        return int(value)
    if kind is list:
        return _checked(option, [word.strip() for word in value.split(",")], text)
    return _checked(option, value, text)


def _from_json(text: str) -> dict[str, Any]:
    config = parse_json(text, where=f"target {text!r}", error=TargetError, cure=_EXAMPLE)
    config = {"tag": config.pop("kind", None), **config} if "tag" not in config else dict(config)
    if config["tag"] != TAG:
        raise TargetError(f'target {text!r}: the key "tag" must be "{TAG}"', _EXAMPLE)
    for option, value in config.items():
        if option == "tag":
            continue
        if option not in OPTIONS:
            raise _unknown_option(option, text)
        if type(value) is not OPTIONS[option]:
            raise TargetError(
                f"target {text!r}: {option} is {value!r}",
                f"it must be of the type {OPTIONS[option].__name__}",
            )
        _checked(option, value, text)
    return config


def _checked(option: str, value: Any, text: str) -> Any:
    if option == "mattr":
        for word in value:
            if not (isinstance(word, str) and re.fullmatch(r"[+-][\w.-]+", word)):
                raise TargetError(
                    f"target {text!r}: -mattr holds {word!r}",
                    "give features with a sign: -mattr=+avx2,-avx512f",
                )
    elif value == "":
        raise TargetError(f"target {text!r}: -{option} has no value", _EXAMPLE)
    elif option == "mtriple" and not _TRIPLE.fullmatch(value):
        raise TargetError(
            f"target {text!r}: -mtriple is {value!r}", "give one like aarch64-linux-gnu"
        )
    return value


def _unknown_option(option: str, text: str) -> TargetError:
    near = difflib.get_close_matches(option, OPTIONS, n=1)
    hint = f"did you mean -{near[0]}? " if near else ""
    known = ", ".join(f"-{name}" for name in OPTIONS)
    return TargetError(f"target {text!r}: unknown option -{option}", f"{hint}valid: {known}")
