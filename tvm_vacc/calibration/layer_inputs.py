"""The Hessians of a layer's linears: what their inputs look like on the calibration text.

GPTQ minimises ``|x (w - q)|^2`` over all inputs ``x``; its Hessian is ``x.T @ x`` but for a factor,
the same for all linears that read one input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from tvm_vacc.calibration.hidden_states import batches


class _SeenAllError(Exception):
    """Ends the run of a layer when nothing behind is needed."""


@torch.no_grad()
def gather_hessians(
    run: Callable[[Tensor], Tensor], states: Tensor, readers: Sequence[nn.Linear]
) -> list[Tensor]:
    """Run all samples and return the Hessian ``[in, in]`` fp32 of each of `readers`.

    Args:
        run: makes the layer's outputs of its inputs ``[batch, seq, hidden]``.
        states: inputs of the layer ``[samples, seqlen, hidden]``.
        readers: linears of the layer, in the order in which it runs them; what comes behind the
            last one is not run.
    """
    hessians = [
        torch.zeros(reader.in_features, reader.in_features, device=reader.weight.device)
        for reader in readers
    ]

    def look(hessian: Tensor, is_last: bool) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def add(_: nn.Module, inputs: tuple[Tensor]) -> None:
            tokens = inputs[0].flatten(0, -2)
            hessian.addmm_(tokens.T, tokens)
            if is_last:
                raise _SeenAllError

        return add

    with ExitStack() as hooks:
        for reader, hessian in zip(readers, hessians, strict=True):
            hook = reader.register_forward_pre_hook(look(hessian, reader is readers[-1]))
            hooks.callback(hook.remove)
        for batch in batches(states):
            try:
                run(batch.to(hessians[0].device))
            except _SeenAllError:
                continue
    return hessians
