from __future__ import annotations

import os
from pathlib import Path

import pytest

from tvm_vacc.frontend import read_ahead as module
from tvm_vacc.frontend.read_ahead import read_ahead


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Collect (file, first byte, bytes) of what the system is asked to read."""
    asked: list[tuple[str, int, int]] = []

    def note(descriptor: int, start: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        asked.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, start, length))

    monkeypatch.setattr(os, "posix_fadvise", note)
    monkeypatch.setattr(module, "_BLOCK", 100)
    return asked


def _files(directory: Path, *sizes: int) -> list[Path]:
    files = [directory / f"{index}.safetensors" for index in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(bytes(size))
    return files


def test_all_files_are_read_in_order(tmp_path: Path, advised: list[tuple[str, int, int]]) -> None:
    read_ahead(_files(tmp_path, 250, 100)).join()
    assert advised == [
        ("0.safetensors", 0, 100),
        ("0.safetensors", 100, 100),
        ("0.safetensors", 200, 100),
        ("1.safetensors", 0, 100),
    ]


def test_no_more_than_half_of_the_free_memory(
    tmp_path: Path, advised: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal: 9 kB\nMemAvailable: 1 kB\nSwapTotal: 0 kB\n")
    monkeypatch.setattr(module, "_MEMORY", memory)
    read_ahead(_files(tmp_path, 300, 900)).join()
    assert sum(length for _, _, length in advised) == 600  # 512 of them, in whole blocks


def test_files_that_are_gone_are_left_to_their_reader(
    tmp_path: Path, advised: list[tuple[str, int, int]]
) -> None:
    read_ahead([tmp_path / "gone", *_files(tmp_path, 50)]).join()
    assert advised == []
