"""The printed C, built by gcc and clang without a warning, against NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.codegen_c import cases
from tests.codegen_c.c_build import PLAIN, SANITIZERS, build, need
from tests.codegen_c.c_functions import check, check_memory, write

BUILDS = [
    ("gcc", "-O0"),
    pytest.param(("gcc", "-O1", PLAIN), marks=pytest.mark.slow),
    pytest.param(("clang", "-O1"), marks=pytest.mark.slow),
    pytest.param(("clang", "-O1", PLAIN), marks=pytest.mark.slow),
]
KINDS = {"operators": cases.operators, "stock": cases.stock}


@pytest.fixture(scope="module", params=sorted(KINDS))
def printed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    made = KINDS[request.param]()
    return request.param, made, write(made, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("options", BUILDS, ids=" ".join)
def test_every_function_equals_numpy(
    printed: tuple, options: tuple[str, ...], tmp_path: Path
) -> None:
    _, made, sources = printed
    compiler, *flags = options
    library = build(compiler, sorted(sources.glob("*.c")), tmp_path / "lib.so", *flags)
    check(library, sources, made)
    check_memory(library, sources, made)


@pytest.mark.slow
@pytest.mark.parametrize("plain", [(), (PLAIN,)], ids=["vectors", "plain"])
def test_the_sanitizers_find_nothing(
    printed: tuple, plain: tuple[str, ...], tmp_path: Path
) -> None:
    kind, _, sources = printed
    library = build(
        "gcc", sorted(sources.glob("*.c")), tmp_path / "lib.so", "-O1", "-g", *SANITIZERS, *plain
    )
    preloaded = [
        subprocess.run(
            [need("gcc"), f"-print-file-name=lib{name}.so"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    code = (
        "import sys; from pathlib import Path; from tests.codegen_c import cases, c_functions\n"
        f"c_functions.check(Path(sys.argv[1]), Path(sys.argv[2]), cases.{kind}())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(library), str(sources)],
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(preloaded),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        },
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
