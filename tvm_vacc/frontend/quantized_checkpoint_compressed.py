"""Checkpoints in the format of compressed-tensors, as llm-compressor writes them.

A quantised module has ``weight_scale [out, 1]`` or ``[out, groups]`` and, in format
`int-quantized`, ``weight [out, in]`` int8; in `pack-quantized`, ``weight_packed [out, in * bits /
32]`` int32 (see `packed_codes`) and ``weight_shape [2]``. ``weight_g_idx`` and
``weight_zero_point`` come with act-order and with asymmetric codes, and may stand there unused.
Source: https://github.com/neuralmagic/compressed-tensors, `compressors/quantized_compressors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from tvm_vacc.errors import CheckpointError
from tvm_vacc.frontend.config_reader import ConfigReader
from tvm_vacc.frontend.packed_codes import Packing
from tvm_vacc.frontend.quantized_checkpoint_codes import (
    SCALE_DTYPES,
    StoredCodes,
    demand,
    demand_order,
    group_size_of,
)
from tvm_vacc.frontend.tensor_ref import TensorRef

_WEIGHT, _PACKED, _SHAPE = "weight", "weight_packed", "weight_shape"
_SCALE, _ZERO, _ORDER = "weight_scale", "weight_zero_point", "weight_g_idx"


@dataclass(frozen=True)
class CompressedTensors:
    """What `quantization_config` says of the weights.

    Attributes:
        bits: of a code.
        group_size: inputs a scale; -1: all.
        packed: whether codes stand in words.
    """

    bits: Literal[4, 8]
    group_size: int
    packed: bool

    mark = _SCALE
    """The tensor by which a quantised module is known."""

    names = (_WEIGHT, _PACKED, _SHAPE, _SCALE, _ZERO, _ORDER)
    """The tensors that a quantised module may have besides its bias."""

    @classmethod
    def from_config(cls, config: ConfigReader) -> CompressedTensors:
        """Read the section `quantization_config`.

        Raises:
            CheckpointError: a key is missing, or asks for what the kernels do not have.
        """
        config.require("format", ("pack-quantized", "int-quantized"), absent=None)
        config.require("kv_cache_scheme", (None,), absent=None)
        for key, formats in (("sparsity_config", ("dense",)), ("transform_config", ())):
            _require_nothing(config, key, formats)
        groups = config.section("config_groups")
        if not groups.values:
            raise config.fault("config_groups", "one group of modules or more")
        found = {
            _weights(groups.section(name), packed=config.text("format") == "pack-quantized")
            for name in groups.values
        }
        if len(found) > 1:
            raise config.fault("config_groups", "groups whose weights are all quantised alike")
        return found.pop()

    def matrix(
        self, module: str, tensors: Mapping[str, TensorRef], shape: tuple[int, int]
    ) -> StoredCodes:
        """Return where the codes of a module lie; arguments and errors: `Gptq.matrix`."""
        out_features, in_features = shape
        kind = _PACKED if self.packed else _WEIGHT
        if kind not in tensors:
            raise CheckpointError(
                f"{tensors[_SCALE].file}: {module}.{kind} is missing", "download the file again"
            )
        stored, scales = tensors[kind], tensors[_SCALE]
        packing = Packing(self.bits, transposed=False) if self.packed else None
        if packing is None:
            demand(stored, shape, ("int8",))
        else:
            demand(stored, packing.word_shape(shape), ("int32",))
        where = f"{stored.file}: {module}"
        group_size = group_size_of(self.bits, in_features, self.group_size, where)
        groups = 1 if self.group_size == -1 else -(-in_features // self.group_size)
        demand(scales, (out_features, groups), SCALE_DTYPES)
        if _ZERO in tensors and tensors[_ZERO].read().any():
            raise CheckpointError(
                f"{stored.file}: {module}.{_ZERO} is not zero: the codes are asymmetric",
                "quantise with symmetric: true",
            )
        if _ORDER in tensors:
            demand(tensors[_ORDER], (in_features,), ("int32",))
            demand_order(tensors[_ORDER], in_features if groups == 1 else group_size)
        name = f"{module}.weight"
        return StoredCodes(
            codes=replace(stored, name=name, shape=shape, dtype="int8", packing=packing),
            scales=scales,
            transposed=False,
            bits=self.bits,
            group_size=group_size,
        )


def _weights(group: ConfigReader, *, packed: bool) -> CompressedTensors:
    """Read one of `config_groups`; int8 activations, quantised at run time, change no weight."""
    group.require("output_activations", (None,), absent=None)
    if group.has("input_activations"):
        group.section("input_activations").require("dynamic", (True,), absent=False)
    weights = group.section("weights")
    bits = weights.integer("num_bits")
    if bits not in (4, 8):
        raise weights.fault("num_bits", "4 or 8")
    weights.require("type", ("int",), absent="int")
    weights.require("symmetric", (True,), absent=True)
    weights.require("dynamic", (False,), absent=False)
    if weights.values.get("strategy") not in ("channel", "group"):
        raise weights.fault("strategy", '"channel" or "group"')
    in_groups = weights.text("strategy") == "group"
    group_size = weights.integer("group_size") if in_groups else -1
    return CompressedTensors(cast("Literal[4, 8]", bits), group_size, packed)


def _require_nothing(config: ConfigReader, key: str, formats: tuple[Any, ...]) -> None:
    """Refuse a section that is neither empty nor of one of the `formats` that change nothing."""
    if config.has(key) and config.values[key]:
        section = config.section(key)
        if section.values.get("format") not in formats:
            raise config.fault(key, "absent or empty")
