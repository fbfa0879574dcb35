"""From the ids of an answer to text on the screen, and its line of figures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_vacc.runtime.session import Stats
    from tvm_vacc.runtime.tokenizer import Tokenizer


def decode_answer(
    tokens: Iterable[int], tokenizer: Tokenizer, *, strip_start: bool
) -> Iterator[str]:
    """Yield one piece of text a token, often an empty one, and the rest at the end.

    Args:
        tokens: ids as they are generated.
        tokenizer: the model's.
        strip_start: leave out the white space before the first word: GLM writes the line break
            between ``<|assistant|>`` and the answer itself.
    """
    stream = tokenizer.stream()
    started = not strip_start
    for token in tokens:
        piece = stream.push(token)
        if not started:
            piece = piece.lstrip()
            started = bool(piece)
        yield piece
    rest = stream.flush()
    yield rest if started else rest.lstrip()


def format_figures(stats: Stats) -> str:
    """Return one line: the speed of an answer, its tokens, and the memory of the process."""
    reused = f" ({stats.reused_tokens} from the cache)" if stats.reused_tokens else ""
    parts = [
        f"time to first token {stats.first_token_seconds:.3f} s",
        f"{stats.tokens_per_second:.1f} tokens/s",
        f"{stats.prompt_tokens} prompt tokens{reused}",
        f"{stats.generated_tokens} generated",
    ]
    if (peak := peak_memory_bytes()) is not None:
        parts.append(f"peak memory {peak / 1e6:.0f} MB")
    return ", ".join(parts)


def peak_memory_bytes() -> int | None:
    """Return the largest resident size this process had, mapped weights included.

    None where the system does not tell (Windows).
    """
    try:
        import resource
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
