from __future__ import annotations

import pytest
import tvm

from tvm_vacc.codegen.pass_config import parse_pass_config
from tvm_vacc.errors import ConfigError


def test_values_have_the_types_of_their_keys() -> None:
    texts = ["tirx.disable_vectorize=true", "relax.FuseOps.max_depth = 7", "tirx.disable_assert=0"]
    config = parse_pass_config(texts)
    assert config == {
        "tirx.disable_vectorize": True,
        "relax.FuseOps.max_depth": 7,
        "tirx.disable_assert": False,
    }
    with tvm.transform.PassContext(config=config):
        pass  # TVM takes it


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["tirx.disable_vectorize"], "is no name=value; write for instance"),
        (["=1"], "is no name=value"),
        (
            ["tir.disable_vectorize=1"],
            r"no such key; did you mean tirx.disable_vectorize\?",
        ),
        (["nothing.of.the.kind=1"], "valid: relax.FuseOps.max_depth, "),
        (["tirx.UnrollLoop=1"], "which no text can give; valid: "),
        (["tirx.disable_assert=maybe"], "is 'maybe'; give true or false"),
        (["relax.FuseOps.max_depth=x"], "is 'x'; give a whole number"),
        (["tirx.disable_assert=1", "tirx.disable_assert=1"], "is given twice"),
    ],
)
def test_what_cannot_be_used_is_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_pass_config(texts)
