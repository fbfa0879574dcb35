"""A weights file that was interrupted is gone on with, and only as far as its bytes are right."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tvm_vacc.artifact.weights_file import WeightsWriter

TENSORS = {
    f"t{index}": np.random.default_rng(index).integers(0, 9, (3 + index, 2000)).astype(np.int32)
    for index in range(6)
}
ENTRIES = [(name, array.shape, "int32") for name, array in TENSORS.items()]


def write(path: Path, *, stop_before: int = len(TENSORS), delay: float = 0.0) -> WeightsWriter:
    """Write what is missing of the first tensors, row by row."""
    with WeightsWriter(path, ENTRIES, resumable=True) as writer:
        for name in list(TENSORS)[writer.finished : stop_before]:
            for row in TENSORS[name]:
                writer.append(name, row[None])
                time.sleep(delay)
        if stop_before < len(TENSORS):
            raise KeyboardInterrupt
    return writer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "w"
    with WeightsWriter(path, ENTRIES) as writer:
        for name, array in TENSORS.items():
            writer.append(name, array)
    return path.read_bytes()


def interrupted(path: Path, tensors: int) -> Path:
    """Leave a file of so many tensors, and a journal beside it, which is returned."""
    with pytest.raises(KeyboardInterrupt):
        write(path, stop_before=tensors)
    return path.with_name("w.journal")


def resumed_at(path: Path, whole: bytes) -> int:
    """Finish the file, check it, and return how many tensors did not have to come again."""
    with WeightsWriter(path, ENTRIES, resumable=True) as writer:
        kept = writer.finished
        for name in list(TENSORS)[kept:]:
            writer.append(name, TENSORS[name])
    assert path.read_bytes() == whole
    assert writer.sha256 == hashlib.sha256(whole).hexdigest()
    return kept


@pytest.mark.parametrize("tensors", range(len(TENSORS)))
def test_goes_on_behind_the_last_whole_tensor(tmp_path: Path, whole: bytes, tensors: int) -> None:
    interrupted(tmp_path / "w", tensors)
    assert resumed_at(tmp_path / "w", whole) == tensors


def test_a_file_that_is_whole_needs_nothing(tmp_path: Path, whole: bytes) -> None:
    write(tmp_path / "w")
    assert resumed_at(tmp_path / "w", whole) == len(TENSORS)


def test_torn_bytes_are_written_again(tmp_path: Path, whole: bytes) -> None:
    """As after a power cut: the journal is ahead of the file."""
    interrupted(tmp_path / "w", 4)
    os.truncate(tmp_path / "w", (tmp_path / "w").stat().st_size - 1)
    assert resumed_at(tmp_path / "w", whole) == 3


def test_a_changed_byte_is_written_again_and_all_behind_it(tmp_path: Path, whole: bytes) -> None:
    interrupted(tmp_path / "w", 5)
    start = whole.index(TENSORS["t2"].tobytes())
    with (tmp_path / "w").open("r+b") as stream:
        stream.seek(start)
        stream.write(bytes([whole[start] ^ 1]))
    assert resumed_at(tmp_path / "w", whole) == 2


def test_another_plan_starts_anew(tmp_path: Path) -> None:
    interrupted(tmp_path / "w", 3)
    one = [("other", (4,), "float32")]
    with WeightsWriter(tmp_path / "w", one, resumable=True) as writer:
        assert writer.finished == 0
        writer.append("other", np.ones(4, np.float32))
    assert writer.nbytes == (tmp_path / "w").stat().st_size


@pytest.mark.parametrize(
    "journal", [b"", b"0 x\n", b"\xff\xfe", b"0 4096 " + b"0" * 64 + b"\n", b"9999999 1 1\n"]
)
def test_a_damaged_journal_starts_anew(tmp_path: Path, whole: bytes, journal: bytes) -> None:
    interrupted(tmp_path / "w", 3).write_bytes(journal)
    assert resumed_at(tmp_path / "w", whole) == 0


def test_a_journal_without_its_last_line_end_keeps_the_lines_before(
    tmp_path: Path, whole: bytes
) -> None:
    journal = interrupted(tmp_path / "w", 3)
    journal.write_bytes(journal.read_bytes()[:-1])
    assert resumed_at(tmp_path / "w", whole) == 2


def test_kill_at_any_time(tmp_path: Path, whole: bytes) -> None:
    generator = random.Random(3)
    resumes = set()
    journal = tmp_path / "w.journal"
    for _ in range(25):
        (tmp_path / "w").unlink(missing_ok=True)
        journal.write_bytes(b"")
        child = os.fork()
        if child == 0:
            write(tmp_path / "w", delay=0.002)
            os._exit(0)
        lines = generator.randrange(len(TENSORS))
        while journal.read_bytes().count(b"\n") < lines:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.005))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        resumes.add(resumed_at(tmp_path / "w", whole))
    assert len(resumes) >= 3


def test_slices_must_fit(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="was announced, never came"),
        WeightsWriter(tmp_path / "w", ENTRIES) as writer,
    ):
        writer.append("t0", TENSORS["t0"][:2])
    with WeightsWriter(tmp_path / "v", [("t0", (3, 2000), "int32")]) as writer:
        writer.append("t0", TENSORS["t0"][:2])
        with pytest.raises(ValueError, match="due is TensorEntry"):
            writer.append("t0", TENSORS["t0"][:2])
        writer.append("t0", TENSORS["t0"][2:])
