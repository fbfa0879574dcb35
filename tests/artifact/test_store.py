from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.artifact.killed_writer import value_of, write
from tvm_vacc.artifact.manifest import FileEntry, Manifest
from tvm_vacc.artifact.store import ArtifactWriter, open_artifact
from tvm_vacc.errors import ArtifactError, VaccError

PLAIN = Manifest("x", "graph", "llvm", "fp32")


def refusal(path: Path, *, verify: bool = False) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_artifact(path, verify=verify)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert "; " in line, "no cure"
    return line


def test_what_is_written_is_what_is_opened(artifact: Path) -> None:
    opened = open_artifact(artifact)
    assert sorted(opened.manifest.files) == ["text/a.txt", "weights.safetensors"]
    assert opened.file("text/a.txt").read_text() == "1"
    assert opened.manifest.files["text/a.txt"].bytes == 1
    with pytest.raises(ArtifactError, match=r"holds no file 'b\.txt'"):
        opened.file("b.txt")
    assert os.listdir(artifact.parent) == ["model"]


def test_a_second_write_replaces_the_first_and_leaves_nothing(artifact: Path) -> None:
    write(artifact, 2)
    assert value_of(artifact) == 2
    assert os.listdir(artifact.parent) == ["model"]


def test_a_link_to_an_artifact_stays_a_link(artifact: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(artifact)
    write(link, 2)
    assert link.is_symlink()
    assert value_of(artifact) == value_of(link) == 2


def test_files_are_copied_into_subdirectories(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("text")
    with ArtifactWriter(tmp_path / "a") as writer:
        writer.copy(tmp_path / "source", "tokenizer/t.json")
        written = writer.commit(PLAIN)
    assert open_artifact(tmp_path / "a").manifest == written
    assert (tmp_path / "a" / "tokenizer" / "t.json").read_text() == "text"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_one_and_nothing_else(
    artifact: Path, error: type[BaseException]
) -> None:
    def fail() -> None:
        with ArtifactWriter(artifact) as writer:
            (writer.directory / "half").write_text("done")
            raise error

    with pytest.raises(error):
        fail()
    assert value_of(artifact) == 1
    assert os.listdir(artifact.parent) == ["model"]


def test_leaving_without_commit_leaves_the_old_one(artifact: Path) -> None:
    with ArtifactWriter(artifact) as writer:
        (writer.directory / "half").write_text("done")
    assert value_of(artifact) == 1
    assert os.listdir(artifact.parent) == ["model"]


def test_a_full_disk_is_one_line(artifact: Path) -> None:
    with (
        pytest.raises(ArtifactError, match="model: the disk is full; free some space"),
        ArtifactWriter(artifact),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert value_of(artifact) == 1
    assert os.listdir(artifact.parent) == ["model"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_disk_that_fills_while_the_manifest_is_written_is_one_line(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = Path.open

    def full(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "manifest.json" and args[:1] == ("x",):
            return real_open(Path("/dev/full"), "w")
        return real_open(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        write(artifact, 2)
    monkeypatch.undo()
    assert value_of(artifact) == 1
    assert os.listdir(artifact.parent) == ["model"]


def test_only_an_artifact_or_an_empty_directory_is_replaced(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    write(own, 1)  # empty: taken
    assert value_of(own) == 1
    (own / "manifest.json").write_text('{"manifest_version": 3}')  # as of a browser extension
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    file = tmp_path / "file"
    file.write_text("text")
    for path in (own, other, file):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ArtifactError, match="exists and is no artefact; choose another"):
            write(path, 2)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["text/a.txt", "weights.safetensors", "manifest.json"])
def test_a_damaged_artifact_can_be_replaced(artifact: Path, name: str) -> None:
    path = artifact / name
    path.write_bytes(path.read_bytes()[:100][:-1])
    refusal(artifact)
    write(artifact, 2)
    assert value_of(artifact) == 2


@pytest.mark.parametrize("destination", ["/", "a\0b", "~no-such-user/x", "/dev/null/x"])
def test_a_destination_that_cannot_be_is_one_line(destination: str) -> None:
    with (
        pytest.raises(ArtifactError, match=r"cannot be written.*; choose another directory"),
        ArtifactWriter(destination),
    ):
        pass


def test_links_and_special_files_are_no_part_of_an_artifact(artifact: Path) -> None:
    def commit(make: Callable[[Path], None]) -> None:
        with ArtifactWriter(artifact) as writer:
            make(writer.directory / "odd")
            writer.commit(PLAIN)

    for make in (lambda path: path.symlink_to("/etc"), os.mkfifo):
        with pytest.raises(ArtifactError, match="cannot be a file of an artefact"):
            commit(make)
    assert value_of(artifact) == 1


# What is done to the artefact; what the line says.
DAMAGE = {
    "missing": (lambda root: (root / "text/a.txt").unlink(), "text/a.txt: is missing"),
    "directory": (
        lambda root: [(root / "text/a.txt").unlink(), (root / "text/a.txt").mkdir()],
        "text/a.txt: is missing",
    ),
    "truncated": (
        lambda root: os.truncate(root / "weights.safetensors", 5000),
        "weights.safetensors: truncated: 5000 of",
    ),
    "longer": (
        lambda root: os.truncate(root / "weights.safetensors", 50000),
        "weights.safetensors: damaged: 50000 of",
    ),
    "no manifest": (lambda root: (root / "manifest.json").unlink(), "manifest.json: no such file"),
    "empty manifest": (lambda root: os.truncate(root / "manifest.json", 0), "not valid JSON"),
    "gone": (shutil.rmtree, "no such artefact; make one"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_one_line_that_names_the_file(artifact: Path, case: str) -> None:
    damage, message = DAMAGE[case]
    damage(artifact)
    assert message in refusal(artifact)


def test_a_flipped_byte_is_found_wherever_it_is(artifact: Path) -> None:
    for name in ("text/a.txt", "weights.safetensors"):
        path = artifact / name
        data = path.read_bytes()
        for position in {0, len(data) // 2, len(data) - 1}:
            damaged = bytearray(data)
            damaged[position] ^= 1
            path.write_bytes(damaged)
            assert f"{path}: damaged: its sha256" in refusal(artifact)
        path.write_bytes(data)
    assert value_of(artifact) == 1


def test_large_files_are_hashed_on_demand(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm_vacc.artifact.store.ALWAYS_HASHED_BYTES", 1000)
    path = artifact / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    seen: list[int] = []
    open_artifact(artifact, progress=seen.append)
    assert sum(seen) == 1
    assert "damaged" in refusal(artifact, verify=True)


def test_a_file_and_an_empty_directory_are_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert "is no directory" in refusal(tmp_path / "file")
    assert "manifest.json: no such file" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "a/../../secret", "out/secret", "", "a\\b", "x" * 5000]
)
def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "model"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    entry = FileEntry(sha256="0" * 64, bytes=1)
    manifest = Manifest("x", "graph", "llvm", "fp32", files={name: entry})
    (root / "manifest.json").write_text(manifest.to_json())
    refusal(root)


def test_weights_must_be_among_the_files(tmp_path: Path) -> None:
    manifest = Manifest("x", "graph", "llvm", "fp32", weights=("w",))
    (tmp_path / "manifest.json").write_text(manifest.to_json())
    assert "weights: 'w' is not among its files" in refusal(tmp_path)


def test_an_artifact_that_is_replaced_while_it_is_loaded_is_noticed(artifact: Path) -> None:
    opened = open_artifact(artifact)
    opened.require_unchanged()
    write(artifact, 2)
    with pytest.raises(ArtifactError, match="was replaced while it was loaded; load it again"):
        opened.require_unchanged()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["manifest.json", "weights.safetensors", "text/a.txt"]),
    position=st.integers(0, 2000),
    junk=st.binary(max_size=8),
)
def test_whatever_bytes_are_damaged_only_our_errors_escape(
    artifact: Path, name: str, position: int, junk: bytes
) -> None:
    path = artifact / name
    data = path.read_bytes()
    path.write_bytes(data[:position] + junk + data[position + len(junk) :])
    with contextlib.suppress(VaccError):
        open_artifact(artifact, verify=True)
    path.write_bytes(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_manifest_says_only_our_errors_escape(
    tmp_path: Path, data: st.DataObject
) -> None:
    from tvm_vacc.artifact import manifest as module

    document = json.loads(PLAIN.to_json())
    del document["sha256"]
    key = data.draw(st.sampled_from(sorted(document)) | st.text())
    document[key] = data.draw(JSON | st.dictionaries(st.text(), JSON, max_size=2))
    document["sha256"] = module._digest(document)  # so that the strict parsing is reached
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with contextlib.suppress(VaccError):
        open_artifact(tmp_path, verify=True)
