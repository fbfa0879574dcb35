from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.protocol import prompt

ROOT = Path(__file__).parents[3]

PROGRAM = """
from benchmarks.peers.protocol import Adapter, Description, serve

class Echo(Adapter):
    def __init__(self, path, threads, options):
        print("a library talks")
        self.about = Description(path.name, str(options), {}, threads, 2, "bf16", 100)
    def describe(self):
        return self.about
    def prefill(self, tokens):
        return len(tokens) / 8
    def decode(self, context, batch, steps):
        return context * batch * steps / 8
    def logits(self, steps):
        import numpy
        return numpy.array([[len(step), token] for step in steps for token in step], "float32")

serve(Echo, "a")
"""


def test_prompts_are_the_same_everywhere_and_differ_by_seed() -> None:
    assert prompt(100)[:7] == prompt(7)
    assert prompt(100, seed=1) != prompt(100)
    assert len(set(prompt(1000))) > 900
    assert all(0 <= token < 1 << 15 for token in prompt(1000))


def test_logits_come_in_a_file(tmp_path: Path) -> None:
    program = tmp_path / "echo.py"
    program.write_text(PROGRAM)
    file = tmp_path / "logits.npy"
    request = {"do": "logits", "steps": [[5, 6], [7]], "file": str(file)}
    done = subprocess.run(
        [sys.executable, str(program), "m", "--threads=1"],
        input=json.dumps(request) + "\n",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[1]) == {"file": str(file)}
    assert np.load(file).tolist() == [[2, 5], [2, 6], [1, 7]]


def test_an_unknown_option_is_one_line(tmp_path: Path) -> None:
    program = tmp_path / "echo.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), "m", "--threads=1", "--set", "b=1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "there is no option 'b'; there are: a"


def test_an_adapter_answers_line_by_line_with_the_standard_library_alone() -> None:
    requests = [
        {"do": "prefill", "tokens": 4},
        {"do": "decode", "context": 2, "batch": 3, "steps": 4},
        {"do": "quit"},
        {"do": "prefill", "tokens": 4},
    ]
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM, "dir/m", "--threads=3", "--set", "a=b=c"],
        input="".join(json.dumps(request) + "\n" for request in requests),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    about, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert (about["name"], about["weight_bytes"]) == ("m", 3)
    assert about["settings"] == "{'a': 'b=c'}"
    assert answers == [{"seconds": 0.5}, {"seconds": 3.0}]
    assert done.stderr == "a library talks\n"
