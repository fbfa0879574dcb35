"""What an artefact's manifest.json says, and the strict reading and writing of it."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from tvm_vacc.artifact.calibration import CalibratedWeight
from tvm_vacc.artifact.passport import Passport
from tvm_vacc.artifact.processor import Processor
from tvm_vacc.errors import ArtifactError
from tvm_vacc.safe_io import read_json
from tvm_vacc.strict import parse

FORMAT: Final = "tvm_vacc"
"""Value of the key `format`: tells our manifest.json from that of a web page."""

FORMAT_VERSION: Final = 1
"""Raised by every change that a reader of the version before would misread."""

MANIFEST_NAME: Final = "manifest.json"

COMPILE_AGAIN: Final = "compile it again"
"""The cure of everything that is wrong with an artefact."""

_STRICT = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="constants")

Count = Annotated[int, Field(ge=0)]


def _utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, config=_STRICT)
class FileEntry:
    """One file of the artefact.

    Attributes:
        sha256: of its content, in hex.
        bytes: its size.
    """

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Count


@dataclass(frozen=True, config=_STRICT)
class PassReport:
    """What one pass has done.

    Attributes:
        name: of the pass.
        matches: how often it matched.
        expected: how often the model's structure demands; None where nothing is demanded.
        seconds: time it took.
        note: what else is to be said of it; mostly nothing.
    """

    name: str
    matches: Count
    expected: Count | None
    seconds: float
    note: str = ""


@dataclass(frozen=True, config=_STRICT)
class TensorSpec:
    """An input or output of a graph, or a cache.

    Attributes:
        name: as the ONNX file gives it.
        shape: dimensions; a text is the name of a symbolic one.
        dtype: as Relax spells it.
    """

    name: str
    shape: tuple[Count | str, ...]
    dtype: str


@dataclass(frozen=True, config=_STRICT)
class StoredWeights:
    """Weights of one kind that are stored alike.

    Attributes:
        kind: what they are for; the head is the last linear of a language model.
        stored_as: `fp16`, `bf16`, `fp32`, or a quantised scheme: `w8a16`, `w8a8`, `w4a16`.
        quantizer: what chose the codes; empty where there are none.
        group_size: inputs that share a scale; 0 where there are no codes.
        matrices: how many tensors of the model they are.
        weights: how many numbers.
        bytes: what they take in the weight files, scales and filling included.
    """

    kind: Literal["linear", "head", "embedding", "other"]
    stored_as: str
    quantizer: str
    group_size: Count
    matrices: Count
    weights: Count
    bytes: Count

    @property
    def bits(self) -> float:
        """Bits a weight, scales and filling included."""
        return 8 * self.bytes / max(1, self.weights)


@dataclass(frozen=True, config=_STRICT)
class Manifest:
    """What an artefact is and holds.

    Attributes:
        name: of the artefact.
        kind: `causal_lm` generates text; `graph` maps inputs to outputs.
        target: the TVM target it was compiled for, as `str(target)` or JSON.
        dtype: `fp16`, `bf16` or `fp32`: what weights that are not quantised are stored as.
        processor: what the code needs to run; None for C sources.
        quantization: `none`, or a type of `frontend.quantize.type`.
        products: what linears over weights that are not quantised multiply in.
        functions: names that the compiled module exports.
        model_spec: the model's structure; for readers who know the model.
        prefill: prefill bucket in tokens; 0 for a graph.
        context: longest context in tokens; 0 for a graph.
        page_size: positions a page of the KV cache; 0 for a graph.
        caches: tensors of the KV cache in the order the compiled function takes them, before
            the weights; their first dimension is the number of pages.
        inputs: of a graph.
        outputs: of a graph.
        weights: names of the safetensors files that hold the weights.
        storage: what the weights are stored as, by kind.
        parameters: names of weights in the order the compiled function takes them.
        files: size and hash of every file but the manifest, by name relative to the artefact;
            filled by `ArtifactWriter`.
        passes: what each pass has done, in order.
        calibration: what the codes cost that were calibrated; empty where none were.
        sources: of each parameter, the model's tensors that it is made of.
        passport: measured accuracy; None for a graph, and where none was asked for.
        tools: versions of the programs that made it.
        created: when, UTC, ISO 8601.
    """

    name: str
    kind: Literal["causal_lm", "graph"]
    target: str
    dtype: str
    processor: Processor | None = None
    quantization: str = "none"
    products: Literal["bf16", "fp32"] = "fp32"
    functions: tuple[str, ...] = ()
    model_spec: dict[str, Any] = dataclasses.field(default_factory=dict)
    prefill: Count = 0
    context: Count = 0
    page_size: Count = 0
    caches: tuple[TensorSpec, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    weights: tuple[str, ...] = ()
    storage: tuple[StoredWeights, ...] = ()
    parameters: tuple[str, ...] = ()
    files: dict[str, FileEntry] = dataclasses.field(default_factory=dict)
    passes: tuple[PassReport, ...] = ()
    calibration: tuple[CalibratedWeight, ...] = ()
    sources: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    passport: Passport | None = None
    tools: dict[str, str] = dataclasses.field(default_factory=dict)
    created: str = dataclasses.field(default_factory=_utc_now)

    def to_json(self) -> str:
        """Return the content of manifest.json: format and version first, its own hash last.

        Raises:
            ValueError: it holds a NaN or an infinity, which JSON has no word for.
        """
        body = _MANIFEST.dump_python(self, mode="json")
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, **body}
        document["sha256"] = _digest(document)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_MANIFEST: TypeAdapter[Manifest] = TypeAdapter(Manifest)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.json.

    Raises:
        ArtifactError: it is missing, no JSON, foreign, of another format version, or damaged: its
            hash over its own content tells a changed number from a written one.
    """
    document = read_json(path, error=ArtifactError, cure=COMPILE_AGAIN)
    return parse_manifest(document, where=str(path))


def parse_manifest(document: Any, *, where: str) -> Manifest:
    """Return the manifest that is in a JSON document. Errors: `read_manifest`.

    Args:
        document: as `Manifest.to_json` has written it.
        where: what messages begin with.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ArtifactError(f"{where}: is no manifest of {FORMAT}", "give an artefact's directory")
    document = {key: value for key, value in document.items() if key != "format"}
    version = document.pop("format_version", None)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ArtifactError(
            f"{where}: format_version is {version!r:.40}, this program reads {FORMAT_VERSION}",
            f"{COMPILE_AGAIN} with this program, or use the one that wrote it",
        )
    written = document.pop("sha256", None)
    try:
        intact = written == _digest({"format": FORMAT, "format_version": version, **document})
    except ValueError:  # a number such as 1e999, which none of ours holds
        intact = False
    if not intact:
        raise ArtifactError(f"{where}: sha256: the content was changed", COMPILE_AGAIN)
    return parse(_MANIFEST, document, where=where, error=ArtifactError, cure=COMPILE_AGAIN)


def is_our_manifest(path: Path) -> bool:
    """Tell whether a file begins as a manifest of ours, however damaged the rest of it is."""
    try:
        with path.open("rb") as stream:
            return stream.read(100).lstrip(b"{ \r\n").startswith(f'"format": "{FORMAT}"'.encode())
    except OSError:
        return False


def installed_versions(*distributions: str) -> dict[str, str]:
    """Return the versions of those distributions that are installed, for `Manifest.tools`."""
    versions: dict[str, str] = {}
    for name in distributions:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _digest(document: dict[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
