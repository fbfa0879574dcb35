"""What manifest.json says of a model, as C: where its weights are, how large its caches are."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from tvm_vacc.artifact.manifest import COMPILE_AGAIN, Manifest
from tvm_vacc.artifact.mapped_weights import map_weights
from tvm_vacc.artifact.weights_file import HEADER_LENGTH
from tvm_vacc.dtypes import NUMPY_DTYPES
from tvm_vacc.errors import ArtifactError
from tvm_vacc.model_spec import ModelSpec

HEADER = "vacc_manifest.h"
SOURCE = "vacc_manifest.c"


@dataclass(frozen=True)
class _File:
    """A file of weights.

    Attributes:
        name: relative to the artefact.
        nbytes: its size.
        header_bytes: of its header, the length before it included.
        header_hash: FNV-1a of these, as ``vacc_weights.c`` computes it.
    """

    name: str
    nbytes: int
    header_bytes: int
    header_hash: int


def manifest_tables(directory: Path, manifest: Manifest) -> dict[str, str]:
    """Return the texts of ``vacc_manifest.h`` and ``vacc_manifest.c``, by name.

    Args:
        directory: holds the files of weights.
        manifest: of the artefact; its `files` are not read.

    Raises:
        ArtifactError: a file of weights is missing or damaged, or lacks a weight.
    """
    weights = _weights(directory, manifest)
    files = [_describe(directory, name) for name in manifest.weights]
    numbers = {
        "VACC_WEIGHT_FILES": len(files),
        "VACC_WEIGHTS": len(manifest.parameters),
        "VACC_CACHES": len(manifest.caches),
    }
    tables = [
        _table(
            "struct vacc_weight_file",
            "vacc_weight_files",
            [
                f"{{{_text(file.name)}, UINT64_C({file.nbytes}), UINT64_C({file.header_bytes}), "
                f"UINT64_C(0x{file.header_hash:016x})}}"
                for file in files
            ],
            "{NULL, 0, 0, 0}",
        ),
        _table("struct vacc_weight", "vacc_weight_table", weights, "{NULL, 0, 0, 0}"),
    ]
    declared = ""
    if manifest.kind == "causal_lm":
        spec = ModelSpec.from_json(manifest.model_spec)
        numbers |= {
            "VACC_VOCABULARY": spec.vocab,
            "VACC_PREFILL": manifest.prefill,
            "VACC_CONTEXT": manifest.context,
            "VACC_PAGE_SIZE": manifest.page_size,
            "VACC_END_TOKENS": len(spec.eos_token_ids),
        }
        pages = [
            prod(int(dim) for dim in cache.shape[1:]) * NUMPY_DTYPES[cache.dtype].itemsize
            for cache in manifest.caches
        ]
        tables += [
            _table("int64_t", "vacc_cache_page_bytes", [*map(str, pages)], "0"),
            _table("int64_t", "vacc_end_tokens", [*map(str, spec.eos_token_ids)], "-1"),
        ]
        declared = _LANGUAGE_MODEL
    defines = "".join(f"#define {name} {value}{_note(name)}\n" for name, value in numbers.items())
    return {
        HEADER: _HEADER.format(defines=defines, declared=declared),
        SOURCE: f'#include "{HEADER}"\n\n#include <stddef.h>\n\n' + "\n".join(tables),
    }


def _describe(directory: Path, name: str) -> _File:
    path = directory / name
    with path.open("rb") as stream:
        start = stream.read(HEADER_LENGTH.size)
        [length] = HEADER_LENGTH.unpack(start)
        header = start + stream.read(length)
    return _File(name, path.stat().st_size, len(header), _hash(header))


def _hash(data: bytes) -> int:
    """FNV-1a, 64 bits (Fowler, Noll and Vo)."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def _weights(directory: Path, manifest: Manifest) -> list[str]:
    """Return a line for each parameter, in the order the compiled function takes them."""
    found = {
        name: f"{{{_text(name)}, {index}, UINT64_C({held.offset}), UINT64_C({held.data.nbytes})}}"
        for index, file in enumerate(manifest.weights)
        for name, held in map_weights(directory / file).items()
    }
    missing = [name for name in manifest.parameters if name not in found]
    if missing:
        raise ArtifactError(f"{directory}: the weight {missing[0]} is missing", COMPILE_AGAIN)
    return [found[name] for name in manifest.parameters]


def _table(kind: str, name: str, lines: list[str], end: str) -> str:
    """Return an array with `end` as its last element: arrays of C have one at least."""
    body = "".join(f"    {line},\n" for line in [*lines, end])
    return f"const {kind} {name}[] = {{\n{body}}};\n"


def _text(name: str) -> str:
    """Return a string literal: UTF-8, all but plain letters as octal escapes."""
    plain = b"".join(
        bytes([byte]) if 32 <= byte < 127 and byte not in b'"\\?' else b"\\%03o" % byte
        for byte in name.encode()
    )
    return f'"{plain.decode()}"'


def _note(name: str) -> str:
    return f" /* {_NOTES[name]} */" if name in _NOTES else ""


_NOTES = {
    "VACC_WEIGHTS": "tensors of model_params behind the caches",
    "VACC_CACHES": "tensors of model_params that are the KV cache",
    "VACC_PREFILL": "tokens a call of vacc_forward takes, at most",
    "VACC_CONTEXT": "tokens of a sequence, at most",
    "VACC_PAGE_SIZE": "positions a page of the KV cache",
}

_HEADER = """\
/* What manifest.json says of this model: printed when it was compiled. */
#ifndef VACC_MANIFEST_H
#define VACC_MANIFEST_H

#include <stdint.h>

{defines}
/* A file of weights: its size, and length and FNV-1a hash of its header. */
struct vacc_weight_file {{
    const char *name;
    uint64_t bytes;
    uint64_t header_bytes;
    uint64_t header_hash;
}};

/* A tensor: the file it is in, by its place in vacc_weight_files, and its bytes there. */
struct vacc_weight {{
    const char *name;
    int file;
    uint64_t offset;
    uint64_t bytes;
}};

#ifdef __cplusplus
extern "C" {{
#endif

/* Behind the last element of each table stands one that is empty. */
extern const struct vacc_weight_file vacc_weight_files[];
extern const struct vacc_weight vacc_weight_table[];
{declared}
#ifdef __cplusplus
}}
#endif

#endif
"""

_LANGUAGE_MODEL = """\
extern const int64_t vacc_cache_page_bytes[]; /* of each cache, for one page */
extern const int64_t vacc_end_tokens[];       /* each of them ends an answer */
"""
