"""Relay's operators that a GLM needs, each as an expression of Relax operators.

Every name of ``relay`` is one of ``relay.op`` too, as ever: ``relay.op.nn.dense``.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    import tvm_vacc.relay

    return getattr(tvm_vacc.relay, name)
