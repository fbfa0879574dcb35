from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tvmc.fakes import write_artefact
from tvm_vacc.artifact.archive import manifest_of, pack_artifact, unpack_artifact
from tvm_vacc.artifact.manifest import MANIFEST_NAME
from tvm_vacc.errors import ArtifactError


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    directory = write_artefact(tmp_path / "artefact")
    (directory / "weights").mkdir()
    (directory / "weights" / "0.bin").write_bytes(bytes(range(256)))
    return directory


def test_what_is_packed_comes_out_again(artefact: Path, tmp_path: Path) -> None:
    archive, out = tmp_path / "a.tar", tmp_path / "out"
    pack_artifact(artefact, archive)
    out.mkdir()
    unpack_artifact(archive, out)
    for path in (MANIFEST_NAME, "weights/0.bin"):
        assert (out / path).read_bytes() == (artefact / path).read_bytes()
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [MANIFEST_NAME, "weights/0.bin"]
    first = archive.read_bytes()
    pack_artifact(artefact, archive)
    assert archive.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "artefact", "out"]


def test_the_manifest_is_told_without_unpacking(artefact: Path, tmp_path: Path) -> None:
    pack_artifact(artefact, tmp_path / "a.tar")
    assert manifest_of(tmp_path / "a.tar") == manifest_of(artefact)


Change = Callable[[tarfile.TarFile], None]


def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Change:
    def change(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.size = 1 if kind == tarfile.REGTYPE else 0
        tar.addfile(info, io.BytesIO(b"x"))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add("../evil"), "is not a plain path"),
        (add("/etc/evil"), "is not a plain path"),
        (add("weights/../../evil"), "is not a plain path"),
        (add("link", tarfile.SYMTYPE, "/etc/passwd"), "'link' is no plain file"),
        (add("hard", tarfile.LNKTYPE, MANIFEST_NAME), "'hard' is no plain file"),
        (add("fifo", tarfile.FIFOTYPE), "'fifo' is no plain file"),
        (add(MANIFEST_NAME), "twice"),
    ],
)
def test_nothing_leaves_the_directory(
    artefact: Path, tmp_path: Path, change: Change, message: str
) -> None:
    archive, out = tmp_path / "a.tar", tmp_path / "out"
    pack_artifact(artefact, archive)
    with tarfile.open(archive, "a") as tar:
        change(tar)
    out.mkdir()
    with pytest.raises(ArtifactError, match=message):
        unpack_artifact(archive, out)
    assert not list(out.iterdir())
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("damage", ["empty", "text", "gzip", "truncated", "other"])
def test_what_is_no_archive_is_one_line(artefact: Path, tmp_path: Path, damage: str) -> None:
    archive, out = tmp_path / "a.tar", tmp_path / "out"
    out.mkdir()
    pack_artifact(artefact, archive)
    if damage == "empty":
        archive.write_bytes(b"")
    elif damage == "text":
        archive.write_text("hello " * 1000)
    elif damage == "gzip":
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(artefact / MANIFEST_NAME, MANIFEST_NAME)
    elif damage == "truncated":
        archive.write_bytes(archive.read_bytes()[:1000])
    else:
        with tarfile.open(archive, "w") as tar:
            add("a")(tar)
    for read in (lambda: unpack_artifact(archive, out), lambda: manifest_of(archive)):
        with pytest.raises(ArtifactError) as caught:
            read()
        assert str(caught.value).startswith(f"{archive}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cure"), [("m.onnx", "first tvmc compile"), ("m.so", "which tvmc run runs")]
)
def test_another_file_says_what_to_do_with_it(tmp_path: Path, name: str, cure: str) -> None:
    (tmp_path / name).write_bytes(b"x" * 2048)
    for read in (manifest_of, lambda path: unpack_artifact(path, tmp_path)):
        with pytest.raises(ArtifactError, match=f"no tar of an artefact .*{cure}"):
            read(tmp_path / name)
