"""Counts our operators in a module: what reports and the pipeline's checks read."""

from __future__ import annotations

from collections import Counter

from tvm import ir, relax

_PREFIX = "relax.tvm_vacc."


def count_ops(module: ir.IRModule) -> dict[str, int]:
    """Return how often each ``relax.tvm_vacc.*`` operator is called in `main`, by short name."""
    counts: Counter[str] = Counter()

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call) and isinstance(expr.op, ir.Op):
            name = expr.op.name
            if name.startswith(_PREFIX):
                counts[name.removeprefix(_PREFIX)] += 1

    relax.analysis.post_order_visit(module["main"], visit)
    return dict(sorted(counts.items()))
