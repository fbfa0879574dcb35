"""Results as files: written by the commands, read by the report, strictly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from benchmarks.machine import Run
from benchmarks.measure import Row
from benchmarks.spread import Spread
from tvm_vacc.errors import ConfigError
from tvm_vacc.machine.speeds import Speeds
from tvm_vacc.safe_io import read_json
from tvm_vacc.strict import parse

DIRECTORY = Path(__file__).parent / "results"
"""Where results that the README shows are kept."""

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Limits:
    """The limits during a run.

    Attributes:
        read: bytes a second.
        peaks: operations a second by unit.
    """

    read: Spread
    peaks: dict[str, Spread]

    @classmethod
    def of(cls, history: list[Speeds]) -> Limits:
        """Summarise all measurements of one run."""
        return cls(
            Spread.of([speeds.read for speeds in history]),
            {
                unit: Spread.of([speeds.peaks[unit] for speeds in history])
                for unit in history[0].peaks
            },
        )


@dataclass(frozen=True, config=_STRICT)
class KernelResults:
    """What ``python -m benchmarks kernels`` measured."""

    run: Run
    limits: Limits
    rows: tuple[Row, ...]
    kind: Literal["kernels"] = "kernels"


@dataclass(frozen=True, config=_STRICT)
class System:
    """One of the programs that ran the model.

    Attributes:
        name: for tables: program and weights' type.
        settings: what it was told, for people who want to repeat it.
        versions: of its distributions.
        weight_bytes: that one step reads.
        position_bytes: of the KV cache, for one position of all layers.
        unit: of whose peak its operations are a fraction.
        layers: of the model.
        ready_seconds: from the start of the process until it can take a request.
        first_seconds: of its first request, one token: page faults and repacking included.
        memory: resident bytes at the end: ``weights`` mapped from files, ``kv``, ``rest``.
    """

    name: str
    settings: str
    versions: dict[str, str]
    weight_bytes: int
    position_bytes: int
    unit: str
    layers: int
    ready_seconds: Spread
    first_seconds: Spread
    memory: dict[str, int]


@dataclass(frozen=True, config=_STRICT)
class ModelRow:
    """One system at one point of a sweep.

    Attributes:
        system: its name.
        work: ``decode`` (one step of the batch) or ``prefill`` (a whole prompt).
        context: positions in the cache of each sequence when the step begins.
        batch: sequences.
        tokens: that one piece of work computes.
        row: the measurement.
        ratio: seconds of this system by seconds of the first one, pair by pair; None for the
            first one itself.
    """

    system: str
    work: Literal["decode", "prefill"]
    context: int
    batch: int
    tokens: int
    row: Row
    ratio: Spread | None

    @property
    def tokens_per_second(self) -> float:
        """Median speed, all sequences together."""
        return self.tokens / self.row.seconds.median


@dataclass(frozen=True, config=_STRICT)
class ModelResults:
    """What ``python -m benchmarks model`` measured; the first system is ours."""

    run: Run
    limits: Limits
    systems: tuple[System, ...]
    rows: tuple[ModelRow, ...]
    kind: Literal["model"] = "model"


@dataclass(frozen=True, config=_STRICT)
class Phase:
    """One phase of a compile.

    Attributes:
        name: of it.
        seconds: it took.
        anonymous: highest resident bytes that belong to no file.
        resident: highest resident bytes, mapped files included.
    """

    name: str
    seconds: float
    anonymous: int
    resident: int


@dataclass(frozen=True, config=_STRICT)
class CompileResults:
    """What ``python -m benchmarks compile`` measured.

    Attributes:
        model: what was compiled, for people.
        read_bytes: of the checkpoint's weights.
        written_bytes: of the artefact's weights.
        phases: in order.
        copy_seconds: of reading and writing the same bytes plainly, before and after.
    """

    run: Run
    model: str
    read_bytes: int
    written_bytes: int
    phases: tuple[Phase, ...]
    copy_seconds: Spread
    kind: Literal["compile"] = "compile"


@dataclass(frozen=True, config=_STRICT)
class AccuracyRow:
    """The predictions of one system against the reference's.

    Attributes:
        system: program and type of its weights.
        settings: what it was told, for people who want to repeat it.
        versions: of its distributions.
        weight_bytes: that one step reads.
        position_bytes: of the KV cache, for one position of all layers.
        kl_mean: mean KL divergence from the reference, in nats.
        kl_p99: its 99th percentile.
        top1: share of positions at which both find the same token most probable.
        perplexity: of the text, a token.
    """

    system: str
    settings: str
    versions: dict[str, str]
    weight_bytes: int
    position_bytes: int
    kl_mean: float
    kl_p99: float
    top1: float
    perplexity: float


@dataclass(frozen=True, config=_STRICT)
class AccuracyResults:
    """What ``python -m benchmarks accuracy`` measured; the reference is transformers in fp32.

    Attributes:
        model: the checkpoint, for people.
        text: it was measured on, for people.
        tokens: of the text that were predicted.
        reference_perplexity: of the reference, a token.
    """

    run: Run
    model: str
    text: str
    tokens: int
    reference_perplexity: float
    rows: tuple[AccuracyRow, ...]
    kind: Literal["accuracy"] = "accuracy"


Results = KernelResults | ModelResults | CompileResults | AccuracyResults

_RESULTS: TypeAdapter[Results] = TypeAdapter(Annotated[Results, Field(discriminator="kind")])


def write_results(results: Results, path: Path) -> None:
    """Write `results` as JSON; `path` is replaced."""
    document: Any = _RESULTS.dump_python(results, mode="json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        ConfigError: the file is no result of this program.
    """
    cure = "measure it again with python -m benchmarks"
    document = read_json(path, error=ConfigError, cure=cure)
    return parse(_RESULTS, document, where=str(path), error=ConfigError, cure=cure)
