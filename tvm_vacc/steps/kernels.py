"""The step beside calibration and weights: the kernels, compiled or found in the cache.

What comes after the passes needs to know what they have found, and no kernel. So where there is
much to pack, the kernels are compiled meanwhile, by another process: code generation for a GLM of
40 layers takes one core ten seconds. (A thread could not be ended on Ctrl-C, and would share
Python's lock with those that pack.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import tvm

from tvm_vacc.artifact.manifest import FileEntry, PassReport
from tvm_vacc.artifact.store import ArtifactWriter
from tvm_vacc.cache.key import Key, tool_parts
from tvm_vacc.cache.store import Cache, Piece
from tvm_vacc.codegen.linker import Linker
from tvm_vacc.codegen.options import BuildOptions, BuildWatch
from tvm_vacc.progress import Progress, Report
from tvm_vacc.safe_io import sha256_file
from tvm_vacc.steps.kernels_process import start_kernels
from tvm_vacc.steps.passes import Lowered
from tvm_vacc.steps.write_kernels import REPORTS, read_reports, write_kernels

BESIDE_BYTES = 1 << 28
"""Bytes of the checkpoint from which another process pays: starting it takes a second."""

Finish = Callable[[], tuple[PassReport, ...]]
"""Waits until the kernels are in the artefact; returns what is to be reported of them."""


@contextmanager
def making_kernels(
    lowered: Lowered,
    target: tvm.target.Target,
    linker: Linker | None,
    cache: Cache,
    writer: ArtifactWriter,
    report: Report,
    *,
    options: BuildOptions,
    watch: BuildWatch,
) -> Iterator[Finish]:
    """Make the kernels while the body works; it calls what is lent, to wait for them.

    They are kept as soon as they are there, and a body that fails ends their making.

    Args:
        lowered: the graph after its passes.
        target: what for.
        linker: of the kernels; None: they stay LLVM IR.
        cache: where to look for them, and to keep them.
        writer: of the artefact.
        report: takes the progress.
        options: how TVM's passes run.
        watch: what is to be seen of them; where it is something, they run at once, and here.

    Raises:
        VaccError: see `write_kernels` and `start_kernels`.
    """
    key = _key(lowered, target, linker, options)
    with ExitStack() as lent:
        piece = lent.enter_context(cache.piece("kernels", key, fresh=watch.why_anew))
        packed = sum(ref.nbytes for ref in lowered.build.sources.values())
        if piece.is_ready or watch.why_anew or packed < BESIDE_BYTES:
            if not piece.is_ready:
                module, directory = lowered.module(), piece.directory
                _keep(
                    piece, write_kernels(module, target, linker, directory, report, options, watch)
                )
            reports = _adopt(piece, writer)
            lent.close()
            yield lambda: reports
            return
        making = start_kernels(lowered.module(), target, linker, options, piece.directory)
        with ThreadPoolExecutor(1, "kernels") as thread, making as names:
            held = lent.pop_all()  # others may have the piece as soon as it is whole

            def keep() -> tuple[PassReport, ...]:
                with held:
                    _keep(piece, names())
                    return _adopt(piece, writer)

            done = thread.submit(keep)

            def finish() -> tuple[PassReport, ...]:
                report(Progress("kernels", 0, 1, "builds"))
                reports = done.result()
                report(Progress("kernels", 1, 1, "builds"))
                return reports

            yield finish


def _key(
    lowered: Lowered, target: tvm.target.Target, linker: Linker | None, options: BuildOptions
) -> Key:
    """The module tells what passes and graph have to do with the kernels.

    So it tells nothing of what leaves the kernels alone: how codes are chosen, where tensors lie,
    how many positions a cache has.
    """
    return Key(
        {
            "target": str(target),
            "module": lowered.build.kernels,
            **options.kernel_parts,
            "linker": str(linker or "none"),
            **tool_parts("apache-tvm", "apache-tvm-ffi"),
        },
        behind={"module": lowered.key.parts},
    )


def _keep(piece: Piece, names: Sequence[str]) -> None:
    paths = {name: piece.directory / name for name in names}
    piece.finish({n: FileEntry(sha256_file(p), p.stat().st_size) for n, p in paths.items()})


def _adopt(piece: Piece, writer: ArtifactWriter) -> tuple[PassReport, ...]:
    """Put the files of the kernels into the artefact; return what is to be reported of them."""
    for name in piece.files:
        if name != REPORTS:
            writer.adopt(name, piece.place(name, writer.directory / name))
    return read_reports(piece.directory)
