from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tvm.script import ir as I
from tvm.script import tirx as T

from relay_passes.choose_tiles import TileChoice
from schedules.attention_tiles import Attention
from schedules.tiles import Linear
from tvm_vacc.codegen.options import BuildOptions
from tvm_vacc.errors import ConfigError
from tvm_vacc.target_string import make_target
from tvm_vacc.tile_records import TileRecord, TileTrial, TokenTimes
from tvm_vacc.tuning_records import (
    RECORD,
    SCHEDULES,
    KernelRecord,
    TuningRecords,
    digest_of,
)

TARGET = make_target("tvm_vacc -mcpu=x86-64-v3")
LINEAR = Linear("bfloat16", 64, 32)
ATTENTION = Attention("int8", 4, 2, 16)


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
    record = KernelRecord("double", digest_of(Doubles), 1e-3, 1e-4, 5)
    records = records.adding(record)
    again = TuningRecords.open(tmp_path / "r", TARGET)
    assert again == records == TuningRecords.open_or_start(tmp_path / "r", TARGET)
    assert again.kernels == {record.digest: record}
    assert (records.schedules, records.tiles) == ({record.digest: 1e-4}, ())


def test_choices_of_linears_are_read_where_they_gain(tmp_path: Path) -> None:
    records = TuningRecords.open_or_start(tmp_path / "r", TARGET)
    times = (TokenTimes(1, 2e-6, 1e-6, 2.0), TokenTimes(8, 8e-6, 1e-6, 8.0))
    gaining = TileRecord(LINEAR, {"rows": 4}, times, (TileTrial({"rows": 4}, 4.0),))
    other = TileRecord(replace(LINEAR, in_features=96), tried=(TileTrial({"rows": 4}, 0.9),))
    records = records.adding(gaining).adding(other)
    assert TuningRecords.open(tmp_path / "r", TARGET) == records
    assert (gaining.times, gaining.trials, other.times) == (pytest.approx(4.0), 1, 1.0)
    assert records.tiles == (TileChoice(LINEAR, (("rows", 4),)),)


def test_choices_of_attention_stand_beside_them(tmp_path: Path) -> None:
    records = TuningRecords.open_or_start(tmp_path / "r", TARGET)
    times = (TokenTimes(1, 2e-6, 1e-6, 2.0, context=1024),)
    records = records.adding(TileRecord(ATTENTION, {"tile_rows": 16}, times))
    records = records.adding(TileRecord(LINEAR, {"rows": 4}))
    assert TuningRecords.open(tmp_path / "r", TARGET) == records
    assert [choice.of for choice in records.tiles] == [ATTENTION, LINEAR]
    refused = records.adding(TileRecord(ATTENTION, {"tile_rows": 17}))
    with pytest.raises(ConfigError, match="no kernel of attention int8 4/2 x 16 has tile_rows 17"):
        TuningRecords.open(refused.directory, TARGET)


@pytest.mark.parametrize("tiles", [{"rows": 5}, {"panel_rows": 64}])
def test_choices_that_no_kernel_has_are_refused(tmp_path: Path, tiles: dict[str, int]) -> None:
    TuningRecords.open_or_start(tmp_path, TARGET).adding(TileRecord(LINEAR, tiles))
    with pytest.raises(ConfigError, match=r"no kernel of linear bfloat16 64->32 has .* on avx2"):
        TuningRecords.open(tmp_path, TARGET)


def test_only_what_changes_kernels_changes_their_key(tmp_path: Path) -> None:
    def parts() -> dict[str, str]:
        options = BuildOptions(tuning=records)
        return options.pass_parts | options.kernel_parts

    records = TuningRecords.open_or_start(tmp_path, TARGET)
    empty = parts()
    records = records.adding(KernelRecord("double", "a", 1e-3, 2e-3, 5))
    records = records.adding(TileRecord(LINEAR, tried=(TileTrial({"rows": 4}, 0.9),)))
    assert parts() == empty
    records = records.adding(KernelRecord("double", "a", 1e-3, 1e-4, 6))
    scheduled = parts()
    assert scheduled["tuned schedules"] != empty["tuned schedules"]
    assert scheduled["tuned tiles"] == empty["tuned tiles"]
    records = records.adding(TileRecord(LINEAR, {"rows": 4}))
    assert parts()["tuned schedules"] == scheduled["tuned schedules"]
    assert parts()["tuned tiles"] != scheduled["tuned tiles"]


def test_schedules_that_are_missing_are_one_line(tmp_path: Path) -> None:
    records = TuningRecords.open_or_start(tmp_path, TARGET)
    records = records.adding(KernelRecord("double", digest_of(Doubles), 1e-3, 1e-4, 5))
    with pytest.raises(ConfigError, match="the schedules of 1 kernels are missing"):
        records.gaining()


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
        ("tiled", [{"of": {"weights": "w8a8", "x": 1}}], "tiled.0.of"),
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
