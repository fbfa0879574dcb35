"""What the code of an artefact needs of a processor, and what the one at hand has.

Asked is the C library, which knows the processor that really runs this process: /proc/cpuinfo is
the host's where a container of another architecture is emulated. Of LLVM's features only those
stand here whose instructions a compiler emits by itself. An artefact for a processor with, say,
``sgx`` runs without it.
"""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_EAX, _EBX, _ECX, _EDX = range(4)
_LEAF_1, _LEAF_7, _LEAF_80000001, _LEAF_7_1 = 0, 1, 2, 6

_APX = ("ccmp", "cf", "egpr", "ndd", "nf", "ppx", "push2pop2", "zu")

X86: Final[Mapping[str, tuple[int, int, int]]] = {
    "sse3": (_LEAF_1, _ECX, 0),
    "ssse3": (_LEAF_1, _ECX, 9),
    "fma": (_LEAF_1, _ECX, 12),
    "cx16": (_LEAF_1, _ECX, 13),
    "sse4.1": (_LEAF_1, _ECX, 19),
    "sse4.2": (_LEAF_1, _ECX, 20),
    "movbe": (_LEAF_1, _ECX, 22),
    "popcnt": (_LEAF_1, _ECX, 23),
    "avx": (_LEAF_1, _ECX, 28),
    "f16c": (_LEAF_1, _ECX, 29),
    "bmi": (_LEAF_7, _EBX, 3),
    "avx2": (_LEAF_7, _EBX, 5),
    "bmi2": (_LEAF_7, _EBX, 8),
    "avx512f": (_LEAF_7, _EBX, 16),
    "avx512dq": (_LEAF_7, _EBX, 17),
    "avx512ifma": (_LEAF_7, _EBX, 21),
    "avx512cd": (_LEAF_7, _EBX, 28),
    "avx512bw": (_LEAF_7, _EBX, 30),
    "avx512vl": (_LEAF_7, _EBX, 31),
    "avx512vbmi": (_LEAF_7, _ECX, 1),
    "avx512vbmi2": (_LEAF_7, _ECX, 6),
    "gfni": (_LEAF_7, _ECX, 8),
    "avx512vnni": (_LEAF_7, _ECX, 11),
    "avx512bitalg": (_LEAF_7, _ECX, 12),
    "avx512vpopcntdq": (_LEAF_7, _ECX, 14),
    "amx-bf16": (_LEAF_7, _EDX, 22),
    "avx512fp16": (_LEAF_7, _EDX, 23),
    "amx-tile": (_LEAF_7, _EDX, 24),
    "amx-int8": (_LEAF_7, _EDX, 25),
    "sahf": (_LEAF_80000001, _ECX, 0),
    "lzcnt": (_LEAF_80000001, _ECX, 5),
    "sse4a": (_LEAF_80000001, _ECX, 6),
    "prfchw": (_LEAF_80000001, _ECX, 8),
    "xop": (_LEAF_80000001, _ECX, 11),
    "fma4": (_LEAF_80000001, _ECX, 16),
    "tbm": (_LEAF_80000001, _ECX, 21),
    "avxvnni": (_LEAF_7_1, _EAX, 4),
    "avx512bf16": (_LEAF_7_1, _EAX, 5),
    "amx-fp16": (_LEAF_7_1, _EAX, 21),
    "avxifma": (_LEAF_7_1, _EAX, 23),
    "avxvnniint8": (_LEAF_7_1, _EDX, 4),
    "avxneconvert": (_LEAF_7_1, _EDX, 5),
    "avxvnniint16": (_LEAF_7_1, _EDX, 10),
    "avx10.1": (_LEAF_7_1, _EDX, 19),
    **dict.fromkeys(_APX, (_LEAF_7_1, _EDX, 21)),
}
"""LLVM's name of a feature; leaf, as <sys/platform/x86.h> numbers it, register and bit of CPUID."""

_CPUINFO: Final = {
    "3dnowprefetch": "prfchw",
    "abm": "lzcnt",
    "bmi1": "bmi",
    "lahflm": "sahf",
    "pni": "sse3",
}
"""Linux's names of features where they are others than LLVM's."""

_HWCAP, _HWCAP2 = 16, 26

ARM: Final[Mapping[str, tuple[int, int]]] = {
    "fp-armv8": (_HWCAP, 0),
    "neon": (_HWCAP, 1),
    "lse": (_HWCAP, 8),
    "fullfp16": (_HWCAP, 10),
    "rdm": (_HWCAP, 12),
    "complxnum": (_HWCAP, 14),
    "rcpc": (_HWCAP, 15),
    "sha3": (_HWCAP, 17),
    "dotprod": (_HWCAP, 20),
    "sve": (_HWCAP, 22),
    "fp16fml": (_HWCAP, 23),
    "lse2": (_HWCAP, 25),
    "rcpc-immo": (_HWCAP, 26),
    "flagm": (_HWCAP, 27),
    "sve2": (_HWCAP2, 1),
    "altnzcv": (_HWCAP2, 7),
    "fptoint": (_HWCAP2, 8),
    "i8mm": (_HWCAP2, 13),
    "bf16": (_HWCAP2, 14),
    "sme": (_HWCAP2, 23),
    "cssc": (_HWCAP2, 34),
    "sve2p1": (_HWCAP2, 36),
    "mops": (_HWCAP2, 43),
}
"""LLVM's name of a feature; word of the auxiliary vector and bit (Linux's asm/hwcap.h)."""

RISCV: Final[Mapping[str, tuple[int, int]]] = {
    letter: (_HWCAP, ord(letter) - ord("a")) for letter in "macfdv"
}

KNOWN: Final[Mapping[str, Iterable[str]]] = {"x86_64": X86, "aarch64": ARM, "riscv64": RISCV}
"""Features that are looked for, by architecture."""

_V2 = {"cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3"}
_V3 = _V2 | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
LEVELS: Final = {"x86-64-v4": _V4, "x86-64-v3": _V3, "x86-64-v2": _V2, "x86-64": set[str]()}
"""Processors by name, the best first, that only demand what is named here."""

_SYSTEMS = {"linux": "linux", "darwin": "darwin", "macos": "darwin", "windows": "windows"}
"""A word in a triple, and the system it means."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Processor:
    """What code was compiled for.

    Attributes:
        triple: architecture, maker, system and ABI, as LLVM names them.
        features: LLVM's names of those that not every processor of the architecture has.
    """

    triple: str
    features: tuple[str, ...]

    @classmethod
    def of(cls, triple: str, features: Iterable[str]) -> Processor:
        """Keep of all LLVM `features` of a target those that code can tell the lack of."""
        known = set(KNOWN.get(_architecture(triple), ()))
        return cls(triple, tuple(sorted(known.intersection(features))))

    def why_not_here(self) -> str:
        """Return what keeps the code from this machine, as a clause; empty where it runs."""
        here = f"{_architecture(platform.machine())}-{sys.platform}"
        if not same_platform(self.triple, here):
            return f"it is compiled for {self.triple}, this machine is {here}"
        lacking = sorted(set(self.features) - features_here())
        return f"this machine's processor lacks {', '.join(lacking)}" if lacking else ""

    def cure(self) -> str:
        """Return how code that runs on this machine is compiled, as an imperative."""
        here = _architecture(platform.machine())
        options = [] if _architecture(self.triple) == here else [f"-mtriple={here}-linux-gnu"]
        if here == "x86_64":
            options += [f"-mcpu={next(n for n, own in LEVELS.items() if own <= features_here())}"]
        elsewhere = f'or anywhere for "{" ".join(["tvm_vacc", *options])}"'
        return f'compile it again on this machine for "tvm_vacc -mcpu=native", {elsewhere}'


def same_platform(triple: str, other: str) -> bool:
    """Tell whether two triples have the same architecture and system, if both name one."""
    systems = [{s for word, s in _SYSTEMS.items() if word in text} for text in (triple, other)]
    return _architecture(triple) == _architecture(other) and (
        not all(systems) or systems[0] == systems[1]
    )


@cache
def features_here() -> frozenset[str]:
    """Return which of the features in `KNOWN` the processor has that runs this process."""
    architecture = _architecture(platform.machine())
    libc = ctypes.CDLL(None)
    if architecture == "x86_64":
        try:
            leaf = libc.__x86_get_cpuid_feature_leaf
        except AttributeError:  # before glibc 2.33
            return x86_features_in(Path("/proc/cpuinfo").read_text("utf-8", "replace"))
        leaf.argtypes, leaf.restype = [ctypes.c_uint], ctypes.POINTER(ctypes.c_uint32 * 8)
        # Four registers as they are, then four without what the system does not save.
        words = {number: leaf(number).contents[4:] for number, _, _ in X86.values()}
        return frozenset(n for n, (number, at, bit) in X86.items() if words[number][at] >> bit & 1)
    table = {"aarch64": ARM, "riscv64": RISCV}.get(architecture, {})
    libc.getauxval.argtypes, libc.getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return frozenset(n for n, (word, bit) in table.items() if libc.getauxval(word) >> bit & 1)


def x86_features_in(cpuinfo: str) -> frozenset[str]:
    """Return the features that Linux's /proc/cpuinfo names of its first x86 processor."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = {flag.replace("_", "") for flag in found[1].split()} if found else set()
    flags |= {ours for theirs, ours in _CPUINFO.items() if theirs in flags}
    return frozenset(name for name in X86 if re.sub(r"[.-]", "", name) in flags)


def _architecture(text: str) -> str:
    """Return LLVM's name of the architecture that a triple or ``uname -m`` starts with."""
    name = text.partition("-")[0].lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)
