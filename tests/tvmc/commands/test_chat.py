from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.tvmc.conftest import Tvmc
from tests.tvmc.fakes import FakeModel

CHAT = """
import sys, tvm_vacc
from tests.tvmc.fakes import FakeModel
from tvm_vacc.tvmc.main import main
model = FakeModel("\\n" + " ".join(f"word{i}" for i in range(40)), delay=0.01)
tvm_vacc.load = lambda path, threads: model
code = main(["chat", sys.argv[1]])
print("requests:", [model.tokenizer.decode(r[0], skip_special=False) for r in model.requests])
sys.exit(code)
"""
READY = "\x1b[?2004h"
"""Asks the terminal to mark what is pasted: the prompt waits for input. (The prompt's own text is
drawn with moves of the cursor between.)"""
ROOT = Path(__file__).parents[3]


class Terminal:
    """`tvmc chat` with a slow model in a pseudo-terminal."""

    def __init__(self, artefact: Path) -> None:
        self.seen = ""
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.environ.update(TERM="xterm", PYTHONPATH=str(ROOT))
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
            os.execv(sys.executable, [sys.executable, "-c", CHAT, str(artefact)])

    def send(self, keys: str) -> None:
        os.write(self.file, keys.encode())

    def expect(self, text: str, seconds: float = 120) -> str:
        """Wait until `text` is shown; return what was shown up to there."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            if not select.select([self.file], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} is not in {self.seen!r}")
            self.seen += self._read()
        before, _, self.seen = self.seen.partition(text)
        return before

    def wait(self, seconds: float = 120) -> tuple[int, str]:
        """Return the exit code and what was shown last."""
        deadline = time.monotonic() + seconds
        while select.select([self.file], [], [], max(0, deadline - time.monotonic()))[0]:
            if not (data := self._read()):
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), self.seen
            self.seen += data
        raise AssertionError(f"it does not end: {self.seen!r}")

    def _read(self) -> str:
        try:
            data = os.read(self.file, 65536).decode(errors="replace")
        except OSError:  # what Linux says when the other side has closed
            return ""
        if "\x1b[6n" in data:
            self.send("\x1b[1;1R")  # the cursor's position, which prompt_toolkit asks for
        return data

    def close(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.file)


@pytest.fixture
def terminal(artefact: Path) -> Terminal:
    terminal = Terminal(artefact)
    yield terminal
    terminal.close()


def test_interrupt_stops_the_answer_and_not_the_chat(terminal: Terminal) -> None:
    terminal.expect(READY)
    terminal.send("first\r")
    terminal.expect("word2")
    terminal.send("\x03")
    shown = terminal.expect("[stopped]")
    assert "word39" not in shown
    terminal.expect(READY)
    terminal.send("second\r")
    terminal.expect("word39")
    terminal.expect(READY)
    terminal.send("\x04")
    code, shown = terminal.wait()
    assert code == 0
    assert "Traceback" not in shown
    # The stopped answer is part of the conversation, as far as it was shown.
    assert re.search(
        r"first<\|assistant\|>\\nword0 word1 word2[word0-9 ]*<\|user\|>\\nsecond", shown
    )


def test_interrupt_at_the_prompt_drops_the_line(terminal: Terminal) -> None:
    terminal.expect(READY)
    terminal.send("unwanted\x03")
    terminal.expect(READY)
    terminal.send("/stats\r")
    terminal.expect("tokens/s")
    terminal.send("/exit\r")
    code, shown = terminal.wait()
    assert code == 0
    assert "requests: []" in shown


def test_pasted_lines_are_one_prompt_and_history_comes_back(terminal: Terminal) -> None:
    terminal.expect(READY)
    terminal.send("\x1b[200~one\ntwo\x1b[201~\r")
    terminal.expect("word39")
    terminal.expect(READY)
    terminal.send("\x1b[A\r")  # arrow up
    terminal.expect("word39")
    terminal.expect(READY)
    terminal.send("\x04")
    _, shown = terminal.wait()
    assert shown.count(r"<|user|>\none\ntwo<|assistant|>") == 3  # once, then twice


def feed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def prompts(model: FakeModel) -> list[str]:
    return [model.tokenizer.decode(request[0], skip_special=False) for request in model.requests]


def test_without_a_terminal_each_line_is_a_prompt(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, "one\n\n  二  \n")
    code, out, err = tvmc("chat", artefact, "--system", "be brief")
    answer = model.text.strip()
    assert (code, out, err) == (0, f"{answer}\n{answer}\n", "")
    start = "[gMASK]<sop><|system|>\nbe brief<|user|>\none<|assistant|>"
    assert prompts(model) == [start, f"{start}\n{answer}<|user|>\n二<|assistant|>"]
    assert model.closed == 1


def test_cache_of_earlier_turns_is_kept(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, "one\ntwo\n/stats\n")
    _, _, err = tvmc("chat", artefact)
    first = len(model.requests[0][0])
    answer = len(model.tokenizer.encode(model.text, add_special=False))
    assert f"({first + answer} from the cache)" in err


def test_commands(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, "one\n/reset\ntwo\n/help\n/nosuch\n/exit\nthree\n")
    code, _, err = tvmc("chat", artefact)
    assert code == 0
    assert prompts(model)[1] == "[gMASK]<sop><|user|>\ntwo<|assistant|>"
    assert len(model.requests) == 2
    assert "/reset   forget" in err
    assert "unknown command /nosuch" in err


def test_a_prompt_that_is_too_long_leaves_the_chat_as_it_was(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.context = 200
    feed(monkeypatch, "one\n" + "long " * 300 + "\ntwo\n")
    code, _, err = tvmc("chat", artefact)
    assert code == 0
    assert err == "Error: the prompt is too long; shorten it\n"
    assert len(model.requests) == 2
    assert "long" not in prompts(model)[1]


def test_full_context_is_told(
    tvmc: Tvmc, model: FakeModel, artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.context = 10
    feed(monkeypatch, "a\n")
    _, _, err = tvmc("chat", artefact)
    assert err == "[the context is full; /reset starts anew]\n"
