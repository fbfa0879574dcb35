from __future__ import annotations

from typing import Any

import pytest
import tvm

from tvm_vacc.errors import ConfigError
from tvm_vacc.relay.pass_context import KEY, VaccOptions, current_options, register_config_key


def context(options: Any, **others: Any) -> tvm.transform.PassContext:
    return tvm.transform.PassContext(opt_level=3, config={KEY: options, **others})


def test_without_the_key_all_is_as_it_was() -> None:
    with tvm.transform.PassContext(opt_level=1) as entered:
        assert KEY not in entered.config
        assert current_options() == VaccOptions()


def test_options_are_read_from_the_context_that_surrounds() -> None:
    with context({"dtype": "bf16", "print_ir_after": ["fuse_linear"]}):
        assert current_options() == VaccOptions("bf16", ("fuse_linear",))
        with context({"dtype": "fp16"}):
            assert current_options().dtype == "fp16"
        assert current_options().dtype == "bf16"
    assert current_options() == VaccOptions()


def test_everything_else_of_the_context_stays() -> None:
    made = tvm.transform.PassContext(
        opt_level=1,
        required_pass=["One"],
        disabled_pass=["Other"],
        config={KEY: {}, "tirx.disable_vectorize": True},
    )
    assert made.opt_level == 1
    assert list(made.required_pass) == ["One"]
    assert list(made.disabled_pass) == ["Other"]
    assert bool(made.config["tirx.disable_vectorize"]) is True


def test_the_key_is_listed() -> None:
    listed = tvm.transform.PassContext.list_configs()
    assert KEY in listed
    assert "tirx.disable_vectorize" in listed


def test_stock_keys_are_checked_as_ever() -> None:
    with pytest.raises(AttributeError, match=r"tirx\.disable_vectorize"):
        context({}, **{"tirx.no_such_key": 1})


def test_registering_twice_changes_nothing() -> None:
    construct = tvm.get_global_func("transform.PassContext")
    register_config_key()
    assert tvm.get_global_func("transform.PassContext").same_as(construct)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtpe": "fp16"}, "unknown option 'dtpe'; did you mean 'dtype'?"),
        ({"zz": 1}, "unknown option 'zz'; did you mean"),
        ({"dtype": "fp8"}, "dtype is 'fp8'; choose of fp16, bf16, fp32"),
        ({"dtype": 16}, "dtype is 16; choose of"),
        ({"print_ir_after": "fuse_linear"}, "give a list of names"),
        ({"print_ir_after": 3}, "give a list of names"),
        (7, "options is 7; give a dict"),
    ],
)
def test_what_cannot_be_is_refused(options: Any, message: str) -> None:
    with context(options), pytest.raises(ConfigError) as refused:
        current_options()
    assert message in str(refused.value)
