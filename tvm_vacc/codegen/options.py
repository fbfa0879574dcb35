"""How passes and kernels are made, and what is to be seen of the making."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tvm_vacc.cache.key import digest_of
from tvm_vacc.tuning_records import TuningRecords

OPT_LEVELS = range(4)
"""0 leaves out what a model can do without; TVM's own passes have levels 0 and 1."""


@dataclass(frozen=True)
class BuildOptions:
    """What changes the code that is made.

    Attributes:
        opt_level: of `OPT_LEVELS`.
        disabled: names of passes, ours or TVM's, that are left out.
        pass_config: keys of `tvm.transform.PassContext`, as `tvm_vacc.codegen.pass_config` reads
            them.
        tuning: what `tvmc tune` has found for the target; None: kernels are built untuned.
    """

    opt_level: int = 3
    disabled: tuple[str, ...] = ()
    pass_config: Mapping[str, Any] = field(default_factory=dict)
    tuning: TuningRecords | None = None

    @property
    def pass_parts(self) -> dict[str, str]:
        """What the key of our passes holds of it; the passes stand there by themselves."""
        return {
            **self._common_parts,
            "tuned tiles": digest_of(self.tuning.tiles) if self.tuning else "none",
        }

    @property
    def kernel_parts(self) -> dict[str, str]:
        """What the key of the kernels holds of it."""
        return {
            **self._common_parts,
            "pass config": digest_of(dict(self.pass_config)),
            "tuned schedules": digest_of(self.tuning.schedules) if self.tuning else "none",
        }

    @property
    def _common_parts(self) -> dict[str, str]:
        return {
            "opt level": str(self.opt_level),
            "disabled passes": ", ".join(sorted(self.disabled)),
        }


@dataclass(frozen=True)
class BuildWatch:
    """What is to be seen of a build beside its result: nothing of it changes the code.

    Attributes:
        print_before: names of passes, ours or TVM's, before which the module is shown.
        print_after: names of passes after which it is.
        show: takes the text of a module.
        times: takes a text that says what each of TVM's passes took.
        dump: takes ``(format, text)`` for each of `formats`; of ``c``, for each file of it.
        formats: of `tvm_vacc.codegen.dump_code.FORMATS`.
        offloads: takes a text that says which operators run on which kernels.
    """

    print_before: tuple[str, ...] = ()
    print_after: tuple[str, ...] = ()
    show: Callable[[str], None] = print
    times: Callable[[str], None] | None = None
    formats: tuple[str, ...] = ()
    dump: Callable[[str, str], None] = lambda _format, _text: None
    offloads: Callable[[str], None] | None = None

    @property
    def why_anew(self) -> str:
        """Why kernels in the cache will not do; empty where they will."""
        if self.print_before or self.print_after:
            return "its IR is to be printed"
        if self.times is not None:
            return "its passes are to be timed"
        if self.formats:
            return "its code is to be dumped"
        return "its offloads are to be told" if self.offloads is not None else ""
