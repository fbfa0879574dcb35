"""The example of the hook for threads, under the sanitizers."""

from __future__ import annotations

import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from tests.codegen_c.c_build import SANITIZERS, build, need_option


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("options", [("-fsanitize=thread",), SANITIZERS], ids=["races", "memory"])
def test_loops_are_shared_and_every_task_runs_once(
    compiler: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    need_option(compiler, " ".join(options), tmp_path)
    package = files("tvm_vacc.codegen_c")
    for path in ("runtime/vacc.h", "runtime/vacc.c", *(f"examples/vacc_threads.{e}" for e in "hc")):
        (tmp_path / Path(path).name).write_bytes((package / path).read_bytes())
    program = Path(__file__).with_name("share_loops.c")
    sources = [tmp_path / "vacc.c", tmp_path / "vacc_threads.c", program]
    flags = ("-g", "-O1", "-pthread", f"-I{tmp_path}", *options)
    built = build(compiler, sources, tmp_path / "program", *flags, shared=False)
    done = subprocess.run([built], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
