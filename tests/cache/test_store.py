"""Pieces are reused when they are whole and unchanged, and never otherwise."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tvm_vacc.artifact.manifest import FileEntry
from tvm_vacc.cache.key import Key
from tvm_vacc.cache.store import REFERENCE, WEIGHTS, Cache
from tvm_vacc.limits import CACHED_REFERENCES, CACHED_SMALL_PIECES, PARTIAL_PIECE_SECONDS
from tvm_vacc.safe_io import sha256_file

KEY = Key({"dtype": "bf16", "target": "llvm"})


def use(
    root: Path, key: Key = KEY, *, kind: str = "kernels", text: str = "made", **how: object
) -> str:
    """Take a piece's file into the artefact `a`, making it if need be; return why."""
    cache = Cache(root / "cache", "a", **how)  # type: ignore[arg-type]
    with cache.piece(kind, key) as piece:
        if not piece.is_ready:
            path = piece.directory / "file"
            path.write_text(text)
            piece.finish({"file": FileEntry(sha256_file(path), path.stat().st_size)})
        target = root / "a" / kind
        target.unlink(missing_ok=True)
        piece.place("file", target)
    cache.close()
    return str(cache.explanations[0])


def file_of(root: Path, key: Key = KEY, kind: str = "kernels") -> Path:
    return root / "cache" / kind / key.digest / "file"


def test_what_was_made_is_reused_and_is_on_the_disk_once(tmp_path: Path) -> None:
    assert use(tmp_path) == "kernels: made, it is the first of this artefact"
    assert use(tmp_path, text="other") == "kernels: reused"
    assert (tmp_path / "a" / "kernels").read_text() == "made"
    assert os.path.samefile(tmp_path / "a" / "kernels", file_of(tmp_path))


def test_another_key_says_what_has_changed(tmp_path: Path) -> None:
    use(tmp_path)
    other = Key({"dtype": "fp16", "target": "llvm", "new": "1"})
    assert use(tmp_path, other) == "kernels: made, dtype: bf16 -> fp16; new: none -> 1"
    assert use(tmp_path, KEY) == "kernels: reused"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "record", "no record"])
def test_what_was_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    use(tmp_path)
    file = file_of(tmp_path)
    record = file.with_name("piece.json")
    status = file.stat()
    if damage == "flip":
        file.write_text("Made")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif damage == "cut":
        os.truncate(file, 2)
    elif damage == "remove":
        file.unlink()
    elif damage == "record":
        record.write_text(record.read_text()[:-9])
    else:
        record.unlink()
    assert "damaged" in use(tmp_path, text="again")
    assert (tmp_path / "a" / "kernels").read_text() == "again"
    assert use(tmp_path) == "kernels: reused"


def test_a_record_that_leads_out_of_the_cache_is_refused(tmp_path: Path) -> None:
    use(tmp_path)
    (tmp_path / "secret").write_text("s")
    entry = {"sha256": sha256_file(tmp_path / "secret"), "bytes": 1}
    record = file_of(tmp_path).with_name("piece.json")
    record.write_text(json.dumps({"files": {"../../../secret": entry}}))
    assert "damaged" in use(tmp_path, text="again")


def test_told_not_to_reuse_it_does_not(tmp_path: Path) -> None:
    use(tmp_path)
    assert use(tmp_path, text="b", reuse=False) == "kernels: made, told not to reuse anything"
    assert (tmp_path / "a" / "kernels").read_text() == "b"


def test_weights_go_when_no_artefact_holds_them(tmp_path: Path) -> None:
    other = Key({"dtype": "fp16"})
    use(tmp_path, kind=WEIGHTS)
    use(tmp_path, other, kind=WEIGHTS)  # takes the place of the first in the artefact
    assert not file_of(tmp_path, KEY, WEIGHTS).exists()
    assert file_of(tmp_path, other, WEIGHTS).exists()


def test_of_small_pieces_the_last_used_stay(tmp_path: Path) -> None:
    keys = [Key({"n": str(index)}) for index in range(CACHED_SMALL_PIECES + 2)]
    for index, key in enumerate(keys):
        use(tmp_path, key)
        os.utime(file_of(tmp_path, key).parent, (index, index))
    use(tmp_path, keys[2])
    use(tmp_path, Key({"n": "last"}))
    left = {key.parts["n"] for key in keys if file_of(tmp_path, key).exists()}
    assert len(left) == CACHED_SMALL_PIECES - 1
    assert "2" in left
    assert "3" not in left


def test_of_references_fewer_stay(tmp_path: Path) -> None:
    keys = [Key({"n": str(index)}) for index in range(CACHED_REFERENCES + 2)]
    for index, key in enumerate(keys):
        use(tmp_path, key, kind=REFERENCE)
        os.utime(file_of(tmp_path, key, REFERENCE).parent, (index, index))
    use(tmp_path, keys[-1], kind=REFERENCE)
    left = [key for key in keys if file_of(tmp_path, key, REFERENCE).exists()]
    assert left == keys[-CACHED_REFERENCES:]


def begin(root: Path, artefact: str, key: Key) -> Path:
    """Begin a piece and leave it unfinished, as an interrupted compile does."""
    with Cache(root / "cache", artefact).piece(WEIGHTS, key) as piece:
        (piece.directory / "begun").write_text("half")
    return piece.directory


def test_what_was_begun_is_found_by_the_next_of_the_same_key(tmp_path: Path) -> None:
    begun = begin(tmp_path, "a", KEY)
    with Cache(tmp_path / "cache", "a").piece(WEIGHTS, KEY) as piece:
        assert not piece.is_ready
        assert piece.directory == begun
        assert (begun / "begun").read_text() == "half"
        (begun / "file").write_text("x")
        piece.finish({"file": FileEntry(sha256_file(begun / "file"), 1)})
    assert sorted(path.name for path in piece.directory.iterdir()) == ["file", "piece.json"]


def test_unfinished_pieces_go_with_their_artefact_or_with_age(tmp_path: Path) -> None:
    mine = begin(tmp_path, "a", Key({"n": "1"}))
    theirs = begin(tmp_path, "b", Key({"n": "2"}))
    old = begin(tmp_path, "b", Key({"n": "3"}))
    then = time.time() - PARTIAL_PIECE_SECONDS - 60
    os.utime(old, (then, then))
    use(tmp_path, kind=WEIGHTS)
    assert [path.exists() for path in (mine, theirs, old)] == [False, True, False]


def slow_use(root: Path, queue: multiprocessing.Queue[str]) -> None:
    cache = Cache(root / "cache", "b")
    with cache.piece("kernels", KEY) as piece:
        queue.put("begun")
        time.sleep(0.5)
        (piece.directory / "file").write_text("slow")
        piece.finish({"file": FileEntry(sha256_file(piece.directory / "file"), 4)})


@pytest.mark.parametrize("killed", [False, True])
def test_two_processes_make_a_piece_one_after_the_other(tmp_path: Path, killed: bool) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    other = context.Process(target=slow_use, args=(tmp_path, queue))
    other.start()
    assert queue.get(timeout=10) == "begun"
    if killed:
        assert other.pid is not None
        os.kill(other.pid, signal.SIGKILL)
    assert ("made" in use(tmp_path)) == killed
    assert (tmp_path / "a" / "kernels").read_text() == ("made" if killed else "slow")
    other.join()


def test_without_hard_links_the_file_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_names: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    use(tmp_path)
    assert not file_of(tmp_path).exists()
    assert (tmp_path / "a" / "kernels").read_text() == "made"
    assert "damaged" in use(tmp_path, text="again")
    assert (tmp_path / "a" / "kernels").read_text() == "again"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"kernels": 3}', b"\xff"])
def test_damaged_notes_of_keys_do_no_harm(tmp_path: Path, content: bytes) -> None:
    use(tmp_path)
    (tmp_path / "cache" / "names" / "a.json").write_bytes(content)
    assert use(tmp_path) == "kernels: reused"
