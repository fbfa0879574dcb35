"""ONNX's own test suite of operators, through the compiler.

The families that language models live on, and every seventh of the other cases, run always; all of
them with ``-m slow``. What cannot pass stands in onnx_backend_known.yaml, by reason; a case that
passes all the same must leave it.
"""

from __future__ import annotations

import functools
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from onnx.backend.test.case.node import collect_testcases

from tests.frontend.onnx_case import run_case

KNOWN = Path(__file__).with_name("onnx_backend_known.yaml")
FAMILIES = re.compile(
    r"test_(attention|rms_normalization|rotary_embedding|quantizelinear|dequantizelinear|"
    r"dynamicquantizelinear|qlinearmatmul|matmulinteger|reshape|expand|range|tensorscatter|swish|"
    r"softmax|logsoftmax)"
)
SHARE = 0.85
"""Of all cases, what must pass at least."""


def known_reasons() -> dict[str, str]:
    """Return the reason of each case that cannot pass."""
    listed: dict[str, list[str]] = yaml.safe_load(KNOWN.read_text())
    return {name: reason for reason, names in listed.items() for name in names}


@functools.cache
def cases() -> dict[str, Any]:
    """Return the suite's cases by name; it makes their data anew, which takes some seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


def quick(names: list[str]) -> list[str]:
    """Return the families, without the cases that repeat them in pieces, and a sample."""
    chosen = [name for name in names if FAMILIES.match(name) and not name.endswith("_expanded")]
    rest = [name for name in names if name not in set(chosen)]
    return chosen + rest[::7]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        names = sorted(cases())
        chosen = set(quick(names))
        metafunc.parametrize(
            "case",
            [
                name if name in chosen else pytest.param(name, marks=pytest.mark.slow)
                for name in names
            ],
        )


REASONS = known_reasons()


@pytest.mark.filterwarnings("ignore")
def test_node_case(case: str) -> None:
    stored = cases()[case]

    def run() -> None:
        run_case(stored.model, stored.data_sets, stored.rtol, stored.atol)

    if case not in REASONS:
        run()
        return
    try:
        run()
    except Exception:
        pytest.xfail(REASONS[case])
    pytest.fail(f"{case} passes: take it off {KNOWN.name}")


def test_the_list_names_cases_that_there_are() -> None:
    assert not set(REASONS) - set(cases())


def test_enough_cases_pass() -> None:
    assert 1 - len(REASONS) / len(cases()) >= SHARE
