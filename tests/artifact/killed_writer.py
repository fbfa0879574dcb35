"""Writes artefacts in children that it kills, and checks what they leave; run by test_store.

Usage: killed_writer.py DIRECTORY (steps | times | reads) (exchange | aside)
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

from tvm_vacc.artifact import replace
from tvm_vacc.artifact.manifest import FileEntry, Manifest
from tvm_vacc.artifact.mapped_weights import map_weights
from tvm_vacc.artifact.store import ArtifactWriter, open_artifact
from tvm_vacc.artifact.weights_file import WeightsWriter
from tvm_vacc.errors import ArtifactError

FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}


def write(destination: Path, value: int, tensors: int = 2) -> None:
    """Write an artefact all of whose files hold `value`."""
    array = np.full(5000, value, np.int32)
    entries = [(f"w{index}", array.shape, "int32") for index in range(tensors)]
    with ArtifactWriter(destination) as writer:
        with WeightsWriter(writer.directory / "weights.safetensors", entries) as weights:
            for name, *_ in entries:
                weights.append(name, array)
        writer.adopt(weights.path.name, FileEntry(weights.sha256, weights.nbytes))
        (writer.directory / "text").mkdir()
        (writer.directory / "text" / "a.txt").write_text(str(value))
        writer.commit(Manifest(str(value), "graph", "llvm", "fp32", weights=(weights.path.name,)))


def value_of(destination: Path) -> int:
    """Check that the artefact is whole and all its files are of one write; return its value."""
    artifact = open_artifact(destination, verify=True)
    value = int(artifact.manifest.name)
    assert artifact.file("text/a.txt").read_text() == str(value)
    for tensor in map_weights(artifact.file("weights.safetensors")).values():
        assert (tensor.numpy() == value).all()
    return value


def read_beside_a_writer(destination: Path, reads: int) -> dict[str, int]:
    """Open artefacts while another process writes one after the other."""
    write(destination, 0)
    child = os.fork()
    if child == 0:
        value = 0
        while True:
            value += 1
            write(destination, value)
    values = set()
    try:
        for _ in range(reads):
            artifact = open_artifact(destination, verify=True)
            values.add(artifact.manifest.name)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return {"reads": reads, "values": len(values)}


def kill_self_before_step(step: int) -> None:
    """End this process as kill -9 does, before its `step`-th operation on files."""
    left = [step]

    def hook(event: str, _args: tuple[object, ...]) -> None:
        if event in FILE_EVENTS:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def check(destination: Path, old: int | None, new: int) -> bool:
    """Check what a killed writer left; return whether it is the new artefact."""
    if old is None and not destination.exists():
        try:
            open_artifact(destination)
        except ArtifactError:
            return False
        raise AssertionError("an artefact from nowhere")
    found = value_of(destination)
    assert found in (old, new), f"{found} is neither {old} nor {new}"
    return found == new


def kill_at_every_step(destination: Path, with_old: bool) -> dict[str, int]:
    """Kill a writer before its first, second, ... operation until one ends by itself."""
    figures = {"kills": 0, "old": 0, "new": 0, "leftovers": 0}
    for step in range(1, 1000):
        if with_old:
            write(destination, 1)
        else:
            shutil.rmtree(destination, ignore_errors=True)
        child = os.fork()
        if child == 0:
            kill_self_before_step(step)
            write(destination, 2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        figures["leftovers"] += any(".tmp-" in name for name in os.listdir(destination.parent))
        is_new = check(destination, 1 if with_old else None, 2)
        write(destination, 3)  # the next writer finds the way free and leaves nothing else behind
        assert value_of(destination) == 3
        assert os.listdir(destination.parent) == [destination.name]
        if not os.WIFSIGNALED(status):
            assert is_new
            return figures
        figures["kills"] += 1
        figures["new" if is_new else "old"] += 1
    raise AssertionError("the writer never ends")


def kill_at_random_times(destination: Path, kills: int) -> dict[str, int]:
    """Kill writers that write one artefact after the other over the same destination."""
    figures = {"kills": 0, "changes": 0, "leftovers": 0}
    generator = random.Random(7)
    write(destination, 0, tensors=20)
    start = time.perf_counter()
    write(destination, 0, tensors=20)
    one_write = time.perf_counter() - start
    value = 0
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            while True:
                value += 1
                write(destination, value, tensors=20)
        time.sleep(generator.uniform(0, 3 * one_write))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        figures["kills"] += 1
        figures["leftovers"] += any(".tmp-" in name for name in os.listdir(destination.parent))
        found = value_of(destination)
        figures["changes"] += found != value
        assert found >= value
        value = found
    return figures


def main(directory: str, how: str, way: str) -> None:
    """Run one of the three, by one of the two ways to replace a directory; print the figures."""
    if way == "aside":
        replace.exchange = lambda one, other: False
    destination = Path(directory) / "model"
    os.fsync = lambda descriptor: None  # it matters to a power cut, not to a kill, and is slow
    if how == "times":
        print(json.dumps(kill_at_random_times(destination, 30)))
    elif how == "reads":
        print(json.dumps(read_beside_a_writer(destination, 300)))
    else:
        for with_old in (False, True):
            print(json.dumps(kill_at_every_step(destination, with_old)))


if __name__ == "__main__":
    main(*sys.argv[1:])
