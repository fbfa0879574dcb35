"""The passes between the importer and the kernels, in one list, and the running of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten

import tvm
from tvm import ir, relax

from relay_passes.add_sampler import AddSampler
from relay_passes.base import Pass
from relay_passes.bound_memory import BoundMemory
from relay_passes.bundle_params import BundleParams
from relay_passes.cancel_transposes import CancelTransposes
from relay_passes.canonicalize import Canonicalize
from relay_passes.find_positions import FindPositions
from relay_passes.flatten_tokens import FlattenTokens
from relay_passes.fuse_dequantize import FuseDequantize
from relay_passes.fuse_embedding import FuseEmbedding
from relay_passes.fuse_gqa_attention import FuseGqaAttention
from relay_passes.fuse_linear import FuseLinear
from relay_passes.fuse_rms_norm import FuseRmsNorm
from relay_passes.fuse_rope import FuseRope
from relay_passes.fuse_swiglu import FuseSwiglu
from relay_passes.narrow_convolutions import NarrowConvolutions
from relay_passes.pack_weights import PackWeights
from relay_passes.quantize_embedding import QuantizeEmbedding
from relay_passes.quantize_linears import QuantizeLinears, StoredMatrix
from relay_passes.rewrite_kv_cache import RewriteKvCache
from relay_passes.select_logits import SelectLogits
from schedules.isa import isa_of
from schedules.linear_bf16_tile import stored_as
from tvm_vacc.artifact.manifest import PassReport
from tvm_vacc.errors import ConfigError, PassError
from tvm_vacc.frontend.glm_layout import HEAD
from tvm_vacc.limits import MAX_NOTE_CHARS, MAX_SEQUENCES
from tvm_vacc.quantize.scheme import Quantization

_ONCE = (1,)


@dataclass(frozen=True)
class Step:
    """A pass, and how often it must match.

    Attributes:
        run: the pass.
        expected: matches that the model's structure demands, the structures that are allowed one
            after the other; none where it demands nothing.
        after: the pass before it that shares its work, and whose matches `expected` counts too.
        needed: why the pass must match at least once, where nothing says how often; printed.
        optional: whether the model can do without it; it is slower then.
    """

    run: Pass
    expected: tuple[int, ...] = ()
    after: str = ""
    needed: str = ""
    optional: bool = False


def glm_pipeline(
    layers: int,
    dtype: str,
    *,
    prefill: int,
    quantization: Quantization | None = None,
    products: str = "bf16",
    linears: str = "",
    stored: tuple[StoredMatrix, ...] = (),
    promoted: tuple[int, ...] = (),
) -> tuple[Step, ...]:
    """Return the passes of a GLM.

    Args:
        layers: of the model.
        dtype: what weights and KV cache are stored as, as Relax spells it.
        prefill: largest number of tokens of one step.
        quantization: what becomes of weights and KV cache; None: all are stored as `dtype`.
        products: what 16-bit weights and caches are multiplied in, `bf16` or `fp32`.
        linears: what weights of linears that are not quantised are stored as, if not as `dtype`.
        stored: the matrices whose codes the checkpoint holds.
        promoted: layers whose KV cache needs a wider range than `dtype` has.
    """
    counts = _linears(layers, head=True)
    kv_dtype = "int8" if quantization is not None and quantization.kv8 else dtype
    bounds = {"slots": prefill, "logit_rows": prefill, "kv_lens": MAX_SEQUENCES}
    return (
        Step(Canonicalize()),
        Step(FuseRmsNorm(), (2 * layers + 1,), optional=True),
        Step(FuseRope(), (2 * layers,), optional=True),
        Step(FuseSwiglu(), (layers,), optional=True),
        Step(FuseDequantize()),
        Step(FuseLinear(), counts, after=FuseDequantize().name),
        Step(FuseEmbedding(), _ONCE, optional=True),
        Step(RewriteKvCache(kv_dtype, promoted), (layers,)),
        Step(FuseGqaAttention(products), (layers,)),
        Step(FindPositions()),
        Step(CancelTransposes()),
        Step(SelectLogits(), _ONCE),
        Step(FlattenTokens(), _ONCE),
        *_glm_quantization(layers, quantization, stored),
        Step(PackWeights(dtype, products, linears), counts),
        Step(BundleParams(), _ONCE),
        Step(BoundMemory(bounds), (len(bounds),)),
        Step(AddSampler(), _ONCE),
    )


def linear_dtype(dtype: str, products: str, target: tvm.target.Target) -> str:
    """Return what `target` has linears store where the user asks for `dtype`, as Relax spells it.

    See docs/decisions/0006: fp16 is stored as bf16 where every product would round it to that.
    """
    return stored_as(dtype, products, isa_of(target))


def _linears(layers: int, *, head: bool) -> tuple[int, ...]:
    """Return how many linears a GLM may have: q, k and v apart, or one product of an exporter's."""
    apart = 6 * layers + head  # q, k, v, o, gate_up and down
    return apart, apart - 2 * layers


def _glm_quantization(
    layers: int, wanted: Quantization | None, stored: tuple[StoredMatrix, ...]
) -> tuple[Step, ...]:
    """Return the passes that quantise a GLM; its head and its embedding have keys of their own."""
    if wanted is None:
        return ()
    steps = []
    if wanted.scheme is not None:
        head = wanted.head.name if wanted.head else None
        linears = QuantizeLinears(
            wanted.scheme.name,
            wanted.quantizer,
            wanted.group_size,
            head,
            stored,
            spares_activations=wanted.spares_activations,
        )
        expected = _linears(layers, head=head is not None)
        if stored:
            adds_head = head is not None and all(matrix.name != HEAD for matrix in stored)
            expected = (len(stored) + adds_head,)
        steps.append(Step(linears, expected))
    if wanted.embedding:
        steps.append(Step(QuantizeEmbedding(), _ONCE))
    return tuple(steps)


def graph_pipeline(
    dtype: str,
    quantization: Quantization | None = None,
    *,
    products: str = "bf16",
    linears: str = "",
) -> tuple[Step, ...]:
    """Return the passes of a model that is no language model: what fuses, fuses.

    Every linear of it is quantised alike, the last one too.
    """
    quantize: tuple[Step, ...] = ()
    if quantization is not None and quantization.scheme is not None:
        scheme = quantization.scheme.name
        quantizer = QuantizeLinears(
            scheme, quantization.quantizer, quantization.group_size, head=scheme
        )
        needed = "frontend.quantize is given, and the graph has no linear with a stored weight"
        quantize = (Step(quantizer, needed=needed),)
    return (
        Step(Canonicalize(), optional=True),
        Step(FuseRmsNorm(), optional=True),
        Step(FuseSwiglu(), optional=True),
        Step(FuseDequantize(), optional=True),
        Step(FuseLinear(), optional=True),
        Step(NarrowConvolutions(dtype), optional=True),
        *quantize,
        Step(PackWeights(dtype, products, linears)),
        Step(BundleParams(), _ONCE),
    )


def chosen(steps: Sequence[Step], opt_level: int, disabled: Sequence[str]) -> tuple[Step, ...]:
    """Return `steps` without those that are left out.

    Args:
        steps: the passes of a model.
        opt_level: 0 leaves out all that the model can do without.
        disabled: names of passes that are left out; of TVM's passes they are none of `steps`.

    Raises:
        ConfigError: the model cannot do without one of `disabled`.
    """
    optional = [step.run.name for step in steps if step.optional]
    for step in steps:
        if step.run.name in disabled and not step.optional:
            raise ConfigError(
                f"pass {step.run.name} cannot be left out: the artefact needs what it makes",
                f"these can: {', '.join(optional)}",
            )
    left_out = optional if opt_level == 0 else disabled
    return tuple(step for step in steps if step.run.name not in left_out)


def run_pipeline(
    module: ir.IRModule,
    steps: Sequence[Step],
    *,
    print_before: Sequence[str] = (),
    print_after: Sequence[str] = (),
    show: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[ir.IRModule, tuple[PassReport, ...]]:
    """Run `steps` one after the other.

    Args:
        module: what to start from.
        steps: the passes.
        print_before: names of passes before which the module is shown.
        print_after: names of passes after which it is.
        show: takes the text of the module.
        progress: is told the passes done and in all.

    Raises:
        PassError: a pass matched less or more often than it must.
    """
    reports: list[PassReport] = []
    for done, step in enumerate(steps):
        progress(done, len(steps))
        if step.run.name in print_before:
            show(f"# before {step.run.name}\n{module.script()}")
        start = time.perf_counter()
        result = step.run.apply(module)
        seconds = time.perf_counter() - start
        module = result.module
        expected = result.matches if step.expected else None  # else `_check` refuses it
        reports.append(PassReport(step.run.name, result.matches, expected, seconds, result.note))
        if step.run.name in print_after:
            show(f"# after {step.run.name}\n{module.script()}")
        _check(step, result.matches, module, [r for r in reports if r.name == step.after])
    # Types, whose inference takes as long as some passes, are looked at once, behind all of them.
    if not relax.analysis.check_well_formed(module):
        raise PassError("the passes made a module of wrong types", "report this")
    progress(len(steps), len(steps))
    return module, tuple(reports)


def _check(step: Step, matches: int, module: ir.IRModule, before: Sequence[PassReport]) -> None:
    """Hold `matches` against what `step` must have; `before`: of the pass that shares its work."""
    name = step.run.name
    names = " and ".join([*(report.name for report in before), name])
    total = matches + sum(report.matches for report in before)
    if step.expected and total not in step.expected:
        needed = " or ".join(map(str, step.expected))
        notes = "".join(f"; {shorten(r.note, MAX_NOTE_CHARS)}" for r in before if r.note)
        raise PassError(
            f"pass {names} matched {total} times, this model needs {needed}{notes}",
            f"look at the graph with --print-ir-after {name}",
        )
    if step.needed and not matches:
        raise PassError(f"pass {name} matched nothing: {step.needed}", "leave the key out")
    if not relax.analysis.check_well_formed(module, check_ty=False):
        raise PassError(f"pass {name} made a module that is not well-formed", "report this")
