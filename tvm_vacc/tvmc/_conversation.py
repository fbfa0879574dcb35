"""A conversation with a model: its messages, and the session that keeps their KV cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tvm_vacc.tvmc._answer import decode_answer

if TYPE_CHECKING:
    from tvm_vacc.runtime.model import Model
    from tvm_vacc.runtime.sampling import SamplingParams
    from tvm_vacc.runtime.session import Session


@dataclass
class Conversation:
    """What was said, and what is needed to go on.

    Attributes:
        model: answers.
        session: of the model; holds the KV cache of what was said.
        params: how the answers are drawn.
        max_tokens: longest answer.
        system: the system message, or None.
        messages: said so far, the system message not among them.
    """

    model: Model
    session: Session
    params: SamplingParams
    max_tokens: int
    system: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def answer(self, text: str, is_stopped: Callable[[], bool]) -> Iterator[str]:
        """Yield the answer to `text` piece by piece; `is_stopped` is asked after every token.

        Both are remembered once the answer has ended or was stopped.

        Raises:
            RequestError: the conversation cannot be rendered or has grown too long; then it is
                as it was before.
        """
        messages = [*self.messages, {"role": "user", "content": text}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        ids = self.model.tokenizer.encode_chat([*system, *messages])
        params = self.params
        tokens = self.session.generate(
            ids, self.max_tokens, params.temperature, params.top_p, params.top_k, params.seed
        )

        def until_stopped() -> Iterator[int]:
            for token in tokens:
                yield token
                if is_stopped():
                    return

        said = ""
        for piece in decode_answer(until_stopped(), self.model.tokenizer, strip_start=True):
            said += piece
            yield piece
        self.messages = [*messages, {"role": "assistant", "content": said.rstrip()}]

    def reset(self) -> None:
        """Forget everything but the system message."""
        self.messages = []
        self.session.reset()

    @property
    def is_full(self) -> bool:
        """Whether the last answer ended for want of context."""
        stats = self.session.stats
        return stats.prompt_tokens + stats.generated_tokens >= self.model.context
