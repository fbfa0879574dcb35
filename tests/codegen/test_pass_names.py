from __future__ import annotations

import pytest
import tvm

from tvm_vacc.codegen.pass_names import build_pass_names, check_pass_names
from tvm_vacc.errors import ConfigError
from tvm_vacc.pipeline import graph_pipeline
from tvm_vacc.target import autoload

STEPS = graph_pipeline("float32")


def test_an_unknown_name_lists_the_known_ones() -> None:
    check_pass_names(STEPS, ["canonicalize", "fuse_linear"])
    with pytest.raises(ConfigError, match=r"no pass fuse_everything; .*choose of canonicalize, "):
        check_pass_names(STEPS, ["fuse_everything"])


def test_passes_of_tvm_are_known_where_the_target_is() -> None:
    autoload()
    target = tvm.target.Target("tvm_vacc")
    check_pass_names(STEPS, ["fuse_linear", "FuseOps", "tirx.VectorizeLoop"], target)
    with pytest.raises(ConfigError, match=r"no pass FuseOp; did you mean FuseOps\?.*of TVM: "):
        check_pass_names(STEPS, ["FuseOp"], target)
    names = build_pass_names(target)
    assert names.index("LegalizeOps") < names.index("FuseOps") < names.index("tirx.LowerIntrin")
