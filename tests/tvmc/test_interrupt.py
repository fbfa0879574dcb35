from __future__ import annotations

import signal

import pytest

from tvm_vacc.tvmc._interrupt import stop_on_interrupt


def test_first_one_asks_and_second_one_raises() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt() as is_stopped:  # noqa: PT012
        assert not is_stopped()
        signal.raise_signal(signal.SIGINT)
        assert is_stopped()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
