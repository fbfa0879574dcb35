"""RoPE of the queries: half of each head, interleaved pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.glm4_9b import SPEC, TOKENS
from benchmarks.measure import Case, timed
from schedules.rope import rope_kernel
from tvm_vacc.machine.memory import activations, random_tensor
from tvm_vacc.machine.setup import Setup


def cases(setup: Setup) -> Iterator[Case]:
    """Yield one case a number of tokens."""
    run = setup.build(rope_kernel(SPEC.heads, SPEC.head_dim, SPEC.rotary_dim // 2))
    yield from (_case(run, tokens) for tokens in TOKENS)


def _case(run: Callable[..., None], tokens: int) -> Case:
    shape = (tokens, SPEC.heads, SPEC.head_dim)
    tensors, nbytes = activations(shape, shape)
    cos, sin = (random_tensor((tokens, SPEC.rotary_dim // 2), "float32", seed=i) for i in range(2))

    def call() -> None:
        x, out = next(tensors)
        run(x, cos, sin, out)

    operations = 3.0 * tokens * SPEC.heads * SPEC.rotary_dim
    return Case("rope", " x ".join(map(str, shape)), timed(call), nbytes, operations, "fp32")
