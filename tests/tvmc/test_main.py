from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import tvm_vacc
from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import CHECKPOINT
from tvm_vacc.errors import VaccError, VaccWarning
from tvm_vacc.tvmc import main as main_module

SUBCOMMANDS = tuple(main_module.cli.commands)


def test_no_subcommand_prints_help(tvmc: Tvmc) -> None:
    code, out, _ = tvmc()
    assert code == 1
    assert all(name in out for name in SUBCOMMANDS)
    assert "_TVMC_COMPLETE" in out


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_help_with_an_example(tvmc: Tvmc, name: str) -> None:
    code, out, _ = tvmc(name, "--help")
    assert code == 0
    assert f"  tvmc {name} " in out


def test_a_warning_of_ours_is_one_line_on_stderr_and_shown_once(
    tvmc: Tvmc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_arguments: object, **_options: object) -> int:
        warnings.simplefilter("always")
        for _ in range(2):
            warnings.warn("slow; hurry", VaccWarning, stacklevel=1)
        warnings.warn("not ours", UserWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(main_module.cli, "main", warn)
    with pytest.warns(UserWarning, match="not ours") as others:
        assert tvmc("compile") == (0, "", "Warning: slow; hurry\n")
    assert len(others) == 1


def test_version(tvmc: Tvmc) -> None:
    assert tvmc("--version") == (0, f"tvmc, version {tvm_vacc.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch"], "Error: No such command 'nosuch'; see tvmc --help"),
        (["generate"], "Error: Missing argument 'ARTEFACT'; see tvmc generate --help"),
        (["generate", "/nosuch"], "Path '/nosuch' does not exist"),
        (["generate", ".", "--nosuch"], "--nosuch"),
        (["generate", ".", "--prompt", "a", "--top-k", "x"], "'x' is not a valid integer"),
        (["generate", ".", "--prompt", "a", "--temperature", "nan"], "temperature is nan"),
        (["generate", ".", "--prompt", "a", "--temperature", "-1"], "temperature is -1.0"),
        (["generate", ".", "--prompt", "a", "--top-p", "0"], "top_p is 0.0"),
        (["generate", ".", "--prompt", "a", "--top-k", "-1"], "top_k is -1"),
        (["generate", ".", "--prompt", "a", "--seed", "-1"], "seed is -1"),
        (["generate", ".", "--prompt", "a", "--max-tokens", "0"], "0 is not in the range"),
        (["chat", ".", "--top-p", "2"], "top_p is 2.0"),
        (["inspect", "."], "manifest.json"),
        (["compile", "."], "config.json"),
        (["compile", ".", "--target", "cuda"], "unknown target 'cuda'"),
    ],
)
def test_user_errors_are_one_line_and_4(
    tvmc: Tvmc,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = tvmc(*arguments)
    assert code == 4
    assert out == ""
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, threads: int | None) -> None:
        raise error

    monkeypatch.setitem(vars(tvm_vacc), "load", load)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (VaccError("a\nb", "cure it"), 4, "Error: a b; cure it"),
        (OSError(13, "Permission denied", "some.file"), 4, "Error: some.file: Permission denied"),
        (OSError(28, "No space left"), 4, "Error: the output: No space left"),
        (
            ModuleNotFoundError("no", name="onnx.checker"),
            5,
            'Error: the package onnx is not installed; run: pip install "tvm-vacc[compile]"',
        ),
        (
            ValueError("oh\nno"),
            70,
            "Error: ValueError: oh no; tvmc --debug shows where, please report it",
        ),
        (ModuleNotFoundError("x", name="tvm_vacc.x"), 70, "Error: ModuleNotFoundError: x; tvmc"),
    ],
)
def test_errors_and_their_codes(
    tvmc: Tvmc,
    artefact: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    line: str,
) -> None:
    fail_with(error, monkeypatch)
    got, out, err = tvmc("generate", artefact, "--prompt", "a")
    assert (got, out) == (code, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_debug_shows_the_traceback(
    tvmc: Tvmc, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(ValueError("x"), monkeypatch)
    _, _, err = tvmc("--debug", "generate", artefact, "--prompt", "a")
    assert "Traceback" in err
    assert err.endswith("please report it\n")


def test_help_comes_at_once() -> None:
    """What takes time is to import packages, and click is the only one."""
    code = (
        "import sys; before = set(sys.modules); from tvm_vacc.tvmc.main import main;"
        "code = main(['--help']); print(*{name.partition('.')[0] for name in sys.modules}"
        " - {name.partition('.')[0] for name in before} - set(sys.stdlib_module_names));"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert set(done.stdout.splitlines()[-1].split()) == {b"click", b"tvm_vacc"}


def blocking(*names: str) -> str:
    """Return code which makes the packages `names` look as if they were not installed."""
    return f"import sys; sys.modules.update(dict.fromkeys({names!r}));"


def test_the_runtime_needs_no_extra() -> None:
    modules = ["runtime.load", "tvmc.main", *(f"tvmc.commands.{name}" for name in SUBCOMMANDS)]
    imports = "import " + ", ".join(f"tvm_vacc.{name}" for name in modules)
    code = blocking(*main_module.COMPILE_MODULES) + imports
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_compile_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    call = "from tvm_vacc.tvmc.main import main; sys.exit(main(['compile', sys.argv[1]]))"
    code = blocking(*main_module.COMPILE_MODULES) + call
    command = [sys.executable, "-c", code, str(CHECKPOINT), "-o", str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert 'pip install "tvm-vacc[compile]"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_shell_completion() -> None:
    environment = {**os.environ, "_TVMC_COMPLETE": "bash_source"}
    command = [sys.executable, "-m", "tvm_vacc.tvmc"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "complete -o nosort -F _tvmc_completion tvmc" in done.stdout


def test_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "tvm_vacc.tvmc"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("Usage: tvmc")


SLOW_GENERATE = """
import signal, sys, tvm_vacc
from tests.tvmc.fakes import FakeModel
from tvm_vacc.tvmc.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignore"
tvm_vacc.load = lambda path, threads: FakeModel("one two three " * 999, delay=0.3)
sys.exit(main(["generate", sys.argv[1], "--prompt", "a"]))
"""


def test_interrupt_exits_130_without_traceback(artefact: Path) -> None:
    root = Path(main_module.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_GENERATE, str(artefact)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    process.stdout.read(1)  # the answer has begun
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"Traceback" not in err
