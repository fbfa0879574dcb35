from __future__ import annotations

from benchmarks.machine import describe_run, this_machine


def test_the_command_tells_no_directories() -> None:
    run = describe_run(["--debug", "model", "/home/me/glm 4", "--threads", "2"], "tvm_vacc", 2)
    assert run.command == "python -m benchmarks model 'glm 4' --threads 2"
    assert run.versions["numpy"]


def test_describes_this_machine() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory > 100 << 20
