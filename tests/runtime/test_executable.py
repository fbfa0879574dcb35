"""Threads of the kernels, seen from outside: each case in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

CPUS = sorted(os.sched_getaffinity(0))

PROBE = """
import json, os, resource, sys, threading, time
import tvm
from tvm_vacc.errors import RequestError
from tvm_vacc.runtime.executable import on_own_cpu, set_threads

argument, cpus = json.loads(sys.argv[1])
if cpus is not None:
    os.sched_setaffinity(0, cpus)
try:
    set_threads(argument)
except RequestError as error:
    print(json.dumps({"error": str(error)}))
    raise SystemExit

from tvm import te
x = te.placeholder((64, 1024), name="x")
y = te.compute(x.shape, lambda i, j: x[i, j] * 2.0)
schedule = tvm.s_tir.Schedule(te.create_prim_func([x, y]))
schedule.parallel(schedule.get_loops(schedule.get_sblock("compute"))[0])
kernel = tvm.compile(schedule.mod, target="llvm")
arrays = [tvm.runtime.empty((64, 1024), "float32") for _ in range(2)]
count = tvm.get_global_func("runtime.NumThreads")
seen = {}

def run(name):
    for _ in range(50):
        kernel(*arrays)
    seen[name] = count()

run("main")
other = threading.Thread(target=run, args=("other",))
other.start()
other.join()

def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

run("main")
time.sleep(0.3)
before = cpu_seconds()
time.sleep(0.5)
seen["idle"] = cpu_seconds() - before
seen["cpus"] = [
    sorted(os.sched_getaffinity(int(task))) for task in os.listdir("/proc/self/task")
]
seen["between"] = sorted(os.sched_getaffinity(0))
with on_own_cpu():
    seen["within"] = sorted(os.sched_getaffinity(0))
print(json.dumps(seen))
"""


def probe(threads: int | None, cpus: list[int] | None = None, **environment: str) -> dict[str, Any]:
    """Return what `PROBE` saw after ``set_threads(threads)`` in a process kept to `cpus`."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("TVM_")}
    clean |= {"OPENBLAS_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([threads, cpus])],
        env=clean,
        capture_output=True,
        text=True,
        check=True,
    )
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_every_cpu_is_used_by_any_calling_thread_and_none_is_kept_busy() -> None:
    seen = probe(None)
    assert seen["main"] == seen["other"] == len(CPUS)
    assert seen["idle"] < 0.05
    assert seen["between"] == CPUS  # a child process would inherit it
    if len(CPUS) > 1:
        pinned = [cpus for cpus in seen["cpus"] if cpus != CPUS]
        assert sorted(pinned) == [[cpu] for cpu in CPUS[1:]]  # the workers of the first thread
        assert seen["within"] == CPUS[:1]


@pytest.mark.skipif(len(CPUS) < 2, reason="one thread is all this process may have")
def test_fewer_threads_than_cpus_share_them() -> None:
    seen = probe(1)
    assert all(cpus == CPUS for cpus in seen["cpus"])
    assert seen["within"] == CPUS


def test_the_process_affinity_is_kept() -> None:
    last = CPUS[-1]
    seen = probe(None, cpus=[last])
    assert seen["main"] == seen["other"] == 1
    assert seen["cpus"] == [[last]]


@pytest.mark.parametrize(("threads", "environment"), [(1, "2"), (None, "1")])
def test_argument_before_environment_before_all_cpus(threads: int | None, environment: str) -> None:
    seen = probe(threads, TVM_NUM_THREADS=environment)
    assert seen["main"] == seen["other"] == 1


@pytest.mark.parametrize(
    ("threads", "environment", "name"),
    [(0, "1", "threads is 0"), (10_000, "1", "threads is 10000"), (None, "no", "TVM_NUM_THREADS")],
)
def test_a_number_that_cannot_be_is_refused(
    threads: int | None, environment: str, name: str
) -> None:
    error = probe(threads, TVM_NUM_THREADS=environment)["error"]
    assert error.startswith(name)
    assert error.endswith(f"give a number from 1 to {len(CPUS)}")
