from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.artifact.killed_writer import value_of, write
from tvm_vacc.artifact import replace
from tvm_vacc.artifact.replace import destination_lock
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.errors import ArtifactError

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="the system has no such call")
def test_exchange_swaps_two_directories(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    assert replace.exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one" / "file").read_text() == "other"
    assert (tmp_path / "other" / "file").read_text() == "one"
    with pytest.raises(FileNotFoundError):
        replace.exchange(tmp_path / "one", tmp_path / "none")


def test_without_exchange_a_refused_rename_brings_the_old_one_back(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if ".tmp-" in Path(source).name and Path(source).name != "model.tmp-old":
            raise PermissionError(13, "Permission denied", str(target))
        real_rename(source, target)

    monkeypatch.setattr(replace, "exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(ArtifactError, match="cannot be written: Permission denied"):
        write(artifact, 2)
    assert value_of(artifact) == 1
    assert os.listdir(artifact.parent) == ["model"]


def test_neighbours_with_similar_names_are_left_alone(tmp_path: Path) -> None:
    for name in ("model.old", "model.tmp-notes", "model.tmp-1.txt", "xmodel.tmp-1", "model2.tmp-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "model.tmp-123").mkdir()
    (tmp_path / "model.tmp-123" / "half").write_text("done")
    write(tmp_path / "model", 1)
    assert sorted(os.listdir(tmp_path)) == [
        "model", "model.old", "model.tmp-1.txt", "model.tmp-notes", "model2.tmp-1", "xmodel.tmp-1"
    ]  # fmt: skip


def _hold(destination: Path, held: multiprocessing.synchronize.Event) -> None:
    with ArtifactWriter(destination):
        held.set()
        signal_that_never_comes = multiprocessing.Event()
        signal_that_never_comes.wait()


def test_a_second_writer_is_refused_until_the_first_is_gone(artifact: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=_hold, args=(artifact, held))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(ArtifactError, match="model: another process is writing it; wait"):
            write(artifact, 2)
        assert value_of(artifact) == 1
    finally:
        other.kill()
        other.join()
    write(artifact, 2)  # the killed holder's lock is gone with it
    assert value_of(artifact) == 2
    assert os.listdir(artifact.parent) == ["model"]


def test_the_lock_is_free_after_use(artifact: Path) -> None:
    for _ in range(2):
        with destination_lock(artifact):
            pass
    assert os.listdir(artifact.parent) == ["model"]


def run_killed_writer(tmp_path: Path, how: str, way: str) -> list[dict[str, int]]:
    command = [sys.executable, "-m", "tests.artifact.killed_writer", str(tmp_path), how, way]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("way", ["exchange", "aside"])
def test_kill_9_before_every_step_leaves_a_whole_artifact(tmp_path: Path, way: str) -> None:
    without_old, over_old = run_killed_writer(tmp_path, "steps", way)
    for figures in (without_old, over_old):
        assert figures["kills"] >= 15
        assert figures["old"] > 0
        assert figures["new"] > 0
        assert figures["leftovers"] > 0


@pytest.mark.parametrize("way", ["exchange", "aside"])
def test_kill_9_at_random_times_leaves_a_whole_artifact(tmp_path: Path, way: str) -> None:
    (figures,) = run_killed_writer(tmp_path, "times", way)
    assert figures["kills"] == 30
    assert figures["leftovers"] > 0
    assert figures["changes"] > 0


def test_a_reader_beside_a_writer_sees_whole_artifacts(tmp_path: Path) -> None:
    (figures,) = run_killed_writer(tmp_path, "reads", "exchange")
    assert figures["reads"] == 300
    assert figures["values"] > 3
