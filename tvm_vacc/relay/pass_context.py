"""The key ``relay.ext.tvm_vacc.options`` of `tvm.transform.PassContext`.

TVM registers the keys of a pass context in C++, and its constructor refuses every other key. That
constructor is a global function of TVM's registry, though, whose entries may be replaced: ours
hands all other keys to the stock constructor, which checks them as ever, and adds this one to what
comes back. The key then stands in ``PassContext.current().config`` and in
``PassContext.list_configs()`` as one that C++ has registered.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import tvm
import tvm_ffi
from tvm import ir

from tvm_vacc.config import RELAX_DTYPES
from tvm_vacc.errors import ConfigError

KEY = "relay.ext.tvm_vacc.options"
_CONSTRUCTOR = "transform.PassContext"
_LISTING = "transform.ListConfigs"


@dataclass(frozen=True)
class VaccOptions:
    """What may stand under the key; only builds for the target ``tvm_vacc`` read it.

    Attributes:
        dtype: ``fp32``, ``fp16`` or ``bf16``: what large weights are stored as. Activations are
            fp32 always.
        print_ir_after: names of passes after which the module is printed.
    """

    dtype: str = "fp32"
    print_ir_after: tuple[str, ...] = ()


def current_options() -> VaccOptions:
    """Return the options of the current pass context.

    Raises:
        ConfigError: an option is unknown or of a wrong value.
    """
    given = tvm.transform.PassContext.current().config.get(KEY)
    return VaccOptions() if given is None else _checked(given)


def register_config_key() -> None:
    """Make `tvm.transform.PassContext` accept `KEY`; a second call changes nothing."""
    if KEY in tvm.transform.PassContext.list_configs():
        return
    construct = tvm_ffi.get_global_func(_CONSTRUCTOR)
    list_configs = tvm_ffi.get_global_func(_LISTING)

    def construct_with_key(
        opt_level: int,
        required: Sequence[str],
        disabled: Sequence[str],
        instruments: Sequence[Any],
        config: Mapping[str, Any] | None,
    ) -> tvm.transform.PassContext:
        given = {} if config is None else dict(config.items())
        if KEY not in given:
            return construct(opt_level, required, disabled, instruments, config)
        ours = given.pop(KEY)
        context = construct(opt_level, required, disabled, instruments, given)
        return ir.make_node(
            _CONSTRUCTOR,
            opt_level=context.opt_level,
            required_pass=context.required_pass,
            disabled_pass=context.disabled_pass,
            instruments=context.instruments,
            config={**dict(context.config.items()), KEY: ours},
        )

    def list_configs_with_key() -> dict[str, Any]:
        return {**dict(list_configs().items()), KEY: {"type": "ffi.Map"}}

    tvm_ffi.register_global_func(_CONSTRUCTOR, construct_with_key, override=True)
    tvm_ffi.register_global_func(_LISTING, list_configs_with_key, override=True)
    tvm_ffi.init_ffi_api("transform", "tvm.ir._ffi_transform_api")


def _checked(given: Any) -> VaccOptions:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{KEY} is {given!r}", 'give a dict, such as {"dtype": "bf16"}')
    known = [field.name for field in fields(VaccOptions)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise ConfigError(
                f"{KEY}: unknown option {name!r}",
                f"did you mean {near!r}? valid: {', '.join(known)}",
            )
    dtype = given.get("dtype", VaccOptions.dtype)
    if dtype not in RELAX_DTYPES:
        raise ConfigError(f"{KEY}: dtype is {dtype!r}", f"choose of {', '.join(RELAX_DTYPES)}")
    names = given.get("print_ir_after", ())
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    if not (is_list and all(isinstance(name, str) for name in names)):
        raise ConfigError(f"{KEY}: print_ir_after is {names!r}", "give a list of names of passes")
    return VaccOptions(str(dtype), tuple(map(str, names)))
