"""Imports run one way; the rooms of the house are listed from the ground up."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LEAVES = {
    "tvm_vacc.child_process",
    "tvm_vacc.dtypes",
    "tvm_vacc.errors",
    "tvm_vacc.limits",
    "tvm_vacc.progress",
    "tvm_vacc.safe_io",
    "tvm_vacc.safetensors_header",
    "tvm_vacc.strict",
    "tvm_vacc.model_spec",
    "tvm_vacc.quantize.scheme",
    "tvm_vacc.wording",
}
"""Modules that any room may import."""

ROOMS: dict[str, set[str]] = {
    "schedules": set(),
    "tvm_vacc.ops": {"schedules"},
    "relay_passes": {"tvm_vacc.ops", "schedules"},
    "tvm_vacc.quantize": set(),
    "tvm_vacc.frontend": {"tvm_vacc.ops"},
    "tvm_vacc.reference": {"tvm_vacc.frontend"},
    "tvm_vacc.artifact": set(),
    "tvm_vacc.codegen_c": {"tvm_vacc.artifact", "tvm_vacc.ops"},
    "tvm_vacc.calibration": {
        "tvm_vacc.artifact",
        "tvm_vacc.frontend",
        "tvm_vacc.quantize",
        "tvm_vacc.reference",
    },
    "tvm_vacc.runtime": {"tvm_vacc.artifact"},
    "tvm_vacc.machine": {"compiler", "schedules", "tvm_vacc.artifact", "tvm_vacc.runtime"},
    "tvm_vacc.tuning": {
        "compiler",
        "relay_passes",
        "schedules",
        "tvm_vacc.machine",
        "tvm_vacc.ops",
        "tvm_vacc.runtime",
    },
    "tvm_vacc.passport": {
        "tvm_vacc.artifact",
        "tvm_vacc.frontend",
        "tvm_vacc.reference",
        "tvm_vacc.runtime",
    },
    "tvm_vacc.relay": {
        "compiler",
        "relay_passes",
        "tvm_vacc.artifact",
        "tvm_vacc.frontend",
        "tvm_vacc.runtime",
    },
}
"""What each room may import of the others, besides itself and the leaves.

``compiler`` stands for `COMPILER` and the modules that lie in `tvm_vacc` itself.
"""

COMPILER = {"tvm_vacc.cache", "tvm_vacc.codegen", "tvm_vacc.config", "tvm_vacc.steps"}
"""The rooms of the compiler itself, which use each other and all above but the Relay surface."""

RUNTIME = ("tvm_vacc.artifact", "tvm_vacc.runtime")
COMPILER_ONLY = (
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxsim",
    "relay_passes",
    "schedules",
)


def modules() -> list[tuple[str, Path]]:
    files = [
        path
        for room in ("tvm_vacc", "relay_passes", "schedules")
        for path in sorted((ROOT / room).rglob("*.py"))
    ]
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts), path) for path in files]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def room_of(module: str) -> str | None:
    return next((room for room in ROOMS if module == room or module.startswith(room + ".")), None)


def is_compiler(module: str) -> bool:
    package, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if f"{package}.{first}" in COMPILER:
        return True
    return package == "tvm_vacc" and (ROOT / package / f"{first}.py").exists()


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value))
def test_imports_run_one_way(name: str, path: Path) -> None:
    room = room_of(name)
    if room is None and name not in LEAVES:
        if is_compiler(name):
            assert not any(room_of(imported) == "tvm_vacc.relay" for imported in imports_of(path))
        return
    for imported in imports_of(path):
        if not imported.startswith(("tvm_vacc.", "relay_passes", "schedules")):
            continue
        if any(imported == leaf or imported.startswith(leaf + ".") for leaf in LEAVES):
            continue
        other = room_of(imported) or ("compiler" if is_compiler(imported) else None)
        allowed = {room} | (ROOMS[room] if room else set())
        assert other in allowed, f"{name} imports {imported}"


def test_the_runtime_needs_neither_compiler_nor_torch() -> None:
    # None in sys.modules makes an import fail, as where the extra `compile` is not installed.
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({COMPILER_ONLY!r}))\n"
        "import tvm_vacc.runtime.load, tvm_vacc.runtime.tokenizer, tvm_vacc.runtime.chat_template"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TVM_DEVICE_BACKEND_AUTOLOAD": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys, tvm_vacc; sys.exit(any(m in sys.modules for m in ('tvm', 'numpy', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
