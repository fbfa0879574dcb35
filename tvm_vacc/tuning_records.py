"""Tuning records: a directory that `tvmc tune` fills and `tvmc compile --tuning-records` reads.

tuning.json                     target and versions; what was measured of each kernel, and the best
                                choices of ours
database_workload.json          MetaSchedule's own database: the kernels
database_tuning_record.json     and the schedules that were measured of them
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import tvm
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as strict_dataclass
from tvm.s_tir.meta_schedule.database import JSONDatabase, MemoryDatabase, TuningRecord
from tvm_ffi import structural_hash

from relay_passes.choose_tiles import TileChoice
from schedules.choices import Tiled, check
from schedules.isa import isa_of
from tvm_vacc.artifact.manifest import installed_versions
from tvm_vacc.errors import ConfigError
from tvm_vacc.safe_io import read_json
from tvm_vacc.strict import parse
from tvm_vacc.tile_records import TileRecord

RECORD = "tuning.json"
WORKLOADS = "database_workload.json"
SCHEDULES = "database_tuning_record.json"

FORMAT_VERSION = 3
_TOOLS = ("apache-tvm", "tvm-vacc")
_STRICT = ConfigDict(extra="forbid", strict=True)


@strict_dataclass(frozen=True, config=_STRICT)
class KernelRecord:
    """What was measured of a kernel of stock operators.

    Attributes:
        name: of the fused function.
        digest: see `digest_of`.
        untuned: seconds of one call as it is scheduled without tuning.
        best: seconds of the best schedule; None where none could be run.
        trials: schedules measured so far, those that failed included.
    """

    name: str
    digest: str
    untuned: float
    best: float | None
    trials: int

    @property
    def times(self) -> float:
        """How many times as fast the kernel becomes: 1 where its best schedule is not used."""
        return self.untuned / self.best if self.best and self.best < self.untuned else 1.0


@strict_dataclass(frozen=True, config=_STRICT)
class _Document:
    """What ``tuning.json`` says."""

    format_version: int
    target: str
    tools: dict[str, str]
    kernels: list[KernelRecord] = field(default_factory=list)
    tiled: list[TileRecord] = field(default_factory=list)


_DOCUMENTS: TypeAdapter[_Document] = TypeAdapter(_Document)


@dataclass(frozen=True)
class TuningRecords:
    """The records in one directory.

    Attributes:
        directory: where they are.
        target: what was tuned for.
        kernels: by their digests.
        tiled: those of ours, by what they are made for.
    """

    directory: Path
    target: str
    kernels: dict[str, KernelRecord]
    tiled: dict[Tiled, TileRecord] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: str | Path, target: tvm.target.Target) -> TuningRecords:
        """Read the records for `target` in `directory`.

        Raises:
            ConfigError: there are none, they are damaged, or they are for something else.
        """
        directory = Path(directory)
        path = directory / RECORD
        if not path.is_file():
            raise ConfigError(f"{directory}: holds no tuning records", "make them by tvmc tune")
        found = read_json(path, error=ConfigError)
        document = parse(_DOCUMENTS, found, where=str(path), error=ConfigError)
        versions = installed_versions(*_TOOLS)
        if document.format_version != FORMAT_VERSION or document.tools != versions:
            made_by = ", ".join(f"{name} {version}" for name, version in document.tools.items())
            raise ConfigError(
                f"{path}: its records were made by {made_by}", "tune again, into another directory"
            )
        if document.target != str(target):
            raise ConfigError(
                f"{path}: its records are for {document.target}, not {target}",
                "give the target that they are for, or tune into another directory",
            )
        _check_tiles(document.tiled, target, path)
        return cls(
            directory,
            document.target,
            {each.digest: each for each in document.kernels},
            {each.of: each for each in document.tiled},
        )

    @classmethod
    def open_or_start(cls, directory: Path, target: tvm.target.Target) -> TuningRecords:
        """Read the records in `directory`, or begin some there. Errors: `open`."""
        if (directory / RECORD).exists():
            return cls.open(directory, target)
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigError(
                f"{directory}: is there and holds no tuning records", "name a new directory"
            )
        directory.mkdir(parents=True, exist_ok=True)
        started = cls(directory, str(target), {})
        started._write()
        return started

    def adding(self, record: KernelRecord | TileRecord) -> TuningRecords:
        """Return the records with `record` among them, and write them."""
        if isinstance(record, TileRecord):
            more = replace(self, tiled=self.tiled | {record.of: record})
        else:
            more = replace(self, kernels=self.kernels | {record.digest: record})
        more._write()
        return more

    def database(self) -> JSONDatabase:
        """Return MetaSchedule's database; what is committed to it is on the disk at once.

        Raises:
            ConfigError: it is damaged.
        """
        try:
            return JSONDatabase(work_dir=str(self.directory))
        except (RuntimeError, ValueError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ConfigError(
                f"{self.directory}: MetaSchedule cannot read its database ({reason:.200})",
                "tune again, into another directory",
            ) from None

    def gaining(self) -> MemoryDatabase:
        """Return a database of the best schedules of the kernels that gain, and of no other.

        Entered by ``with``, it makes `build_passes` schedule these kernels by them.

        Raises:
            ConfigError: see `database`.
        """
        gaining = MemoryDatabase()
        database = self.database()
        done: set[str] = set()
        for measured in database.get_all_tuning_records():
            digest = digest_of(measured.workload.mod)
            record = self.kernels.get(digest)
            if record is None or record.times == 1 or digest in done:
                continue
            done.add(digest)
            [best] = database.get_top_k(measured.workload, 1)
            workload = gaining.commit_workload(measured.workload.mod)
            gaining.commit_tuning_record(
                TuningRecord(best.trace, workload, best.run_secs, best.target, best.args_info)
            )
        if missing := self.schedules.keys() - done:
            raise ConfigError(
                f"{self.directory}: the schedules of {len(missing)} kernels are missing",
                "tune again, into another directory",
            )
        return gaining

    @property
    def schedules(self) -> dict[str, float]:
        """The digests of the kernels that gain, and the seconds of the schedules to be used."""
        gaining = {key: kernel.best for key, kernel in self.kernels.items() if kernel.times > 1}
        return {digest: best for digest, best in sorted(gaining.items()) if best is not None}

    @property
    def tiles(self) -> tuple[TileChoice, ...]:
        """The choices of the kernels that gain by others than the default ones."""
        return tuple(
            TileChoice(record.of, tuple(sorted(record.tiles.items())))
            for record in sorted(self.tiled.values(), key=lambda record: record.name)
            if record.tiles
        )

    def _write(self) -> None:
        document = _Document(
            FORMAT_VERSION,
            self.target,
            installed_versions(*_TOOLS),
            list(self.kernels.values()),
            list(self.tiled.values()),
        )
        path = self.directory / RECORD
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(_DOCUMENTS.dump_python(document, mode="json"), indent=1))
        os.replace(partial, path)


def _check_tiles(records: Iterable[TileRecord], target: tvm.target.Target, path: Path) -> None:
    """Refuse choices that no kernel for `target` has."""
    for record in records:
        try:
            check(record.tiles, record.of, isa_of(target))
        except ValueError as error:
            raise ConfigError(f"{path}: {error}", "tune again, into another directory") from None


def digest_of(module: tvm.ir.IRModule) -> str:
    """Return the hash that tells one kernel from another, whatever it is called."""
    return f"{structural_hash(module) & (1 << 64) - 1:016x}"
