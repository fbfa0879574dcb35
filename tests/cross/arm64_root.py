"""Python and the runtime's dependencies for 64-bit Arm, as a user there installs them.

Packages of Debian are unpacked into a folder, wheels beside it; nothing is installed on this
machine. Both come through apt's and pip's own clients.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cross import qemu

PROGRAMS = ("qemu-aarch64", "apt-get", "dpkg-deb")
SOURCES = Path(__file__).parents[2]


@dataclass(frozen=True)
class Arm64:
    """A root directory with Python, and a directory of packages."""

    root: Path
    packages: Path

    def python(self, *arguments: object, cpu: str = "max") -> subprocess.CompletedProcess[str]:
        """Run Python there on an emulated `cpu`, with this project's sources in its path."""
        interpreter = next((self.root / "usr" / "bin").glob("python3.[0-9]*"))
        command = ["qemu-aarch64", "-cpu", cpu, "-L", self.root, interpreter, *arguments]
        path = os.pathsep.join(map(str, (SOURCES, self.packages)))
        return qemu.run(command, {**os.environ, "PYTHONPATH": path})


def make(directory: Path) -> Arm64:
    """Make the folder; skips the test where packages cannot be fetched."""
    made = Arm64(directory / "root", directory / "packages")
    state, archives = directory / "apt", directory / "apt" / "archives"
    for folder in (state / "lists" / "partial", archives / "partial"):
        folder.mkdir(parents=True)
    (state / "status").touch()  # nothing is installed: apt takes all that Python needs
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
        "Dir::Cache": state,
        "Dir::Cache::archives": archives,
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
    }
    apt = ["apt-get", "-q", "-y", *(f"-o{name}={value}" for name, value in settings.items())]
    fetch([*apt, "update"])
    fetch([*apt, "--download-only", "install", "python3", "libstdc++6"])
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, made.root], check=True)
    (library,) = (made.root / "usr" / "lib").glob("python3.[0-9]*")
    fetch(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--target", str(made.packages)),
            *(f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 28)),
            *("--only-binary=:all:", "--python-version", library.name.removeprefix("python")),
            *requirements(),
        ]
    )
    return made


def requirements() -> list[str]:
    """Return what running an artefact needs, in the versions that are installed here."""
    needed = [r for r in importlib.metadata.requires("tvm-vacc") or () if "extra ==" not in r]
    names = [re.split(r"[^\w.-]", requirement)[0] for requirement in needed]
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def fetch(command: Sequence[str]) -> None:
    """Run a client of a package registry."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"packages cannot be fetched: {(done.stderr or done.stdout).strip()[-300:]}")
