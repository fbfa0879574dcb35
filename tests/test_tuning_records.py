from __future__ import annotations

import json
from pathlib import Path

import pytest
from tvm.script import ir as I
from tvm.script import tirx as T

from tvm_vacc.errors import ConfigError
from tvm_vacc.target_string import make_target
from tvm_vacc.tuning_records import (
    RECORD,
    SCHEDULES,
    KernelRecord,
    TuningRecords,
    digest_of,
)

TARGET = make_target("tvm_vacc -mcpu=x86-64-v3")


@I.ir_module(s_tir=True)
class Doubles:
    @T.prim_func(s_tir=True)
    def main(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
        for i in range(8):
            with T.sblock("double"):
                v = T.axis.spatial(8, i)
                y[v] = x[v] * T.float32(2)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = TuningRecords.open_or_start(tmp_path / "r", TARGET)
    assert records.kernels == {}
    before = records.digest
    record = KernelRecord("double", digest_of(Doubles), 1e-3, 1e-4, 5)
    records = records.adding(record)
    again = TuningRecords.open(tmp_path / "r", TARGET)
    assert again == records == TuningRecords.open_or_start(tmp_path / "r", TARGET)
    assert again.kernels == {record.digest: record}
    assert again.digest != before


@pytest.mark.parametrize(("best", "times"), [(1e-4, 10.0), (2e-3, 1.0), (1e-3, 1.0), (None, 1.0)])
def test_only_what_is_faster_gains(best: float | None, times: float) -> None:
    assert KernelRecord("double", "", 1e-3, best, 5).times == pytest.approx(times)


def test_an_empty_directory_will_do_and_a_full_one_not(tmp_path: Path) -> None:
    TuningRecords.open_or_start(tmp_path, TARGET)
    (tmp_path / RECORD).rename(tmp_path / "other")
    with pytest.raises(ConfigError, match="holds no tuning records"):
        TuningRecords.open_or_start(tmp_path, TARGET)
    with pytest.raises(ConfigError, match="make them by tvmc tune"):
        TuningRecords.open(tmp_path, TARGET)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("target", "llvm", "its records are for llvm, not"),
        ("format_version", 99, "its records were made by"),
        ("tools", {"apache-tvm": "0.1"}, "its records were made by apache-tvm 0.1"),
        ("kernels", 3, "kernels"),
        ("extra", 3, "extra"),
    ],
)
def test_records_of_something_else_are_refused(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    TuningRecords.open_or_start(tmp_path, TARGET)
    document = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps(document | {key: value}))
    with pytest.raises(ConfigError, match=message):
        TuningRecords.open(tmp_path, TARGET)


def test_a_damaged_database_is_one_line(tmp_path: Path) -> None:
    records = TuningRecords.open_or_start(tmp_path, TARGET)
    records.database()
    (tmp_path / SCHEDULES).write_text("{]")
    with pytest.raises(ConfigError, match="MetaSchedule cannot read its database"):
        records.database()
