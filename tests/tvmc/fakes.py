"""A model that says what it is told to, in place of a compiled one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tvm_vacc.artifact.manifest import MANIFEST_NAME, Manifest, PassReport, TensorSpec
from tvm_vacc.errors import RequestError
from tvm_vacc.runtime.session import Stats
from tvm_vacc.runtime.tokenizer import Tokenizer

CHECKPOINT = Path(__file__).parents[2] / "demo" / "checkpoint"


@dataclass
class FakeSession:
    """Answers every prompt with the model's text and notes what it was asked."""

    model: FakeModel
    stats: Stats = field(default_factory=Stats)
    cached: list[int] = field(default_factory=list)

    def __enter__(self) -> FakeSession:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.model.closed += 1

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, *params: Any
    ) -> Iterator[int]:
        if len(token_ids) > self.model.context:
            raise RequestError("the prompt is too long", "shorten it")
        self.model.requests.append((list(token_ids), max_new_tokens, *params))
        reused = next(
            (i for i, (a, b) in enumerate(zip(self.cached, token_ids)) if a != b),  # noqa: B905
            min(len(self.cached), len(token_ids)),
        )
        answer = self.model.tokenizer.encode(self.model.text, add_special=False)
        room = self.model.context - len(token_ids)
        return self._answer(list(token_ids), answer[: min(max_new_tokens, room)], reused)

    def _answer(self, prompt: list[int], answer: list[int], reused: int) -> Iterator[int]:
        self.stats = Stats(len(prompt), reused, 0, 0.125, 0.0)
        self.cached = prompt
        for token in answer:
            time.sleep(self.model.delay)
            self.stats.generated_tokens += 1
            self.cached = [*self.cached, token]
            yield token

    def reset(self) -> None:
        self.cached = []


@dataclass
class FakeModel:
    """See `FakeSession`.

    Attributes:
        text: every answer.
        delay: seconds a token.
        context: longest sequence in tokens.
        requests: arguments of each `generate`.
        closed: sessions closed.
        manifest: what is asked of one.
    """

    text: str
    delay: float = 0.0
    context: int = 2048
    tokenizer: Tokenizer = field(default_factory=lambda: Tokenizer.from_directory(CHECKPOINT))
    requests: list[Any] = field(default_factory=list)
    closed: int = 0

    manifest: Any = field(default_factory=lambda: SimpleNamespace(storage=(), products="fp32"))

    def session(self) -> FakeSession:
        return FakeSession(self)


class FakeGraph:
    """Doubles its input `x`."""

    inputs = (TensorSpec("x", ("batch", 3), "float32"),)
    manifest = SimpleNamespace(storage=(), products="fp32")

    def call(self, arguments: Sequence[Any]) -> list[Any]:
        return list(arguments)

    def seconds(self, _arrays: dict[str, Any], *, repeat: int, number: int) -> tuple[float, ...]:
        return (0.001,) * repeat

    def run(self, arrays: dict[str, Any]) -> dict[str, Any]:
        if list(arrays) != ["x"]:
            raise RequestError("the input 'x' is missing", "give an array for it")
        return {"y": arrays["x"] * 2}


def write_artefact(directory: Path, kind: str = "causal_lm") -> Path:
    """Write a manifest, all that the command line itself reads of an artefact."""
    directory.mkdir(exist_ok=True)
    manifest = Manifest(
        name="small",
        kind=kind,
        target="tvm_vacc",
        dtype="bf16",
        model_spec={"layers": 2} if kind == "causal_lm" else {},
        inputs=(TensorSpec("x", ("batch", 3), "float32"),) if kind == "graph" else (),
        passes=(PassReport("fuse_rope", 4, 4, 0.5), PassReport("canonicalize", 7, None, 0.25)),
        tools={"apache-tvm": "0.27.0"},
    )
    (directory / MANIFEST_NAME).write_text(manifest.to_json(), "utf-8")
    return directory


def fake_compiler(calls: list[dict[str, Any]], output: Path) -> SimpleNamespace:
    """Return what stands in for `tvm_vacc.compiler`; `calls` collects what it was asked."""
    from tvm_vacc.progress import Progress

    def compile(path: Any, *, progress: Any, watch: Any, **options: Any) -> Path:
        calls.append({"path": path, **options})
        for done in range(3):
            progress(Progress("export", done, 2, "layers"))
        progress(Progress("weights", 0, 3_000_000, "bytes"))
        progress(Progress("weights", 3_000_000, 3_000_000, "bytes"))
        for name in watch.print_after:
            watch.show(f"# after {name}")
        return write_artefact(output)

    def resolve_options(path: Any, **options: Any) -> SimpleNamespace:
        known = {"type": "huggingface", "relax_dtype": "float32", "products": "bf16"}
        return SimpleNamespace(output=output, checkpoint=path, **known, **options)

    return SimpleNamespace(compile=compile, resolve_options=resolve_options)
