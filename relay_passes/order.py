"""Reorders a function's bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import relax


def hoisted(
    function: relax.Function, needs: Mapping[relax.Var, Sequence[relax.Var]]
) -> relax.Function:
    """Return `function` with its bindings in an order that also puts `needs[v]` before `v`.

    Raises:
        ValueError: a variable needs one that is computed from it.
    """
    block = function.body.blocks[0]
    by_var = {binding.var: binding for binding in block.bindings}
    ordered: dict[relax.Var, relax.Binding] = {}
    open_vars: set[relax.Var] = set()
    for root in by_var:
        stack = [root]
        while stack:
            var = stack[-1]
            if var in ordered:
                stack.pop()
                continue
            wanted = [*relax.analysis.free_vars(by_var[var].value), *needs.get(var, ())]
            missing = [v for v in wanted if v in by_var and v not in ordered]
            if not missing:
                ordered[var] = by_var[var]
                open_vars.discard(var)
                stack.pop()
            elif var in open_vars:
                raise ValueError(f"{var} needs what is computed from it")
            else:
                open_vars.add(var)
                stack.extend(reversed(missing))
    body = relax.SeqExpr([relax.DataflowBlock(list(ordered.values()))], function.body.body)
    return relax.Function(
        list(function.params), body, function.ret_ty, function.is_pure, attrs=function.attrs
    )
