"""GPTQ checkpoints, as AutoGPTQ and GPTQModel write them.

A quantised module has ``qweight [in * bits / 32, out]`` int32 (see `packed_codes`), ``scales
[groups, out]``, ``qzeros [groups, out * bits / 32]`` int32 packed along ``out``, and ``g_idx
[in]`` int32, the group of each input: a weight is ``scale * (code - zero)``. Of symmetric
quantisation all zeros are ``2 ** (bits - 1)``; format `gptq` stores them less one, `gptq_v2` as
they are. Sources: https://github.com/AutoGPTQ/AutoGPTQ, `nn_modules/qlinear`;
https://github.com/ModelCloud/GPTQModel, `utils/model.py` (conversion between the formats).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

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

_CODES, _SCALES, _ZEROS, _ORDER = "qweight", "scales", "qzeros", "g_idx"


@dataclass(frozen=True)
class Gptq:
    """What `quantization_config` says.

    Attributes:
        bits: of a code.
        group_size: inputs a scale; -1: all.
        zero: what stands for the zero point of symmetric codes.
    """

    bits: Literal[4, 8]
    group_size: int
    zero: int

    mark = _CODES
    """The tensor by which a quantised module is known."""

    names = (_CODES, _SCALES, _ZEROS, _ORDER)
    """The tensors that a quantised module may have besides its bias."""

    @classmethod
    def from_config(cls, config: ConfigReader) -> Gptq:
        """Read the section `quantization_config`.

        Raises:
            CheckpointError: a key is missing, or asks for what the kernels do not have.
        """
        bits = config.integer("bits")
        if bits not in (4, 8):
            raise config.fault("bits", "4 or 8")
        config.require("sym", (True,), absent=True)
        config.require("pack_dtype", ("int32",), absent="int32")
        key = "checkpoint_format" if config.has("checkpoint_format") else "format"
        config.require(key, ("gptq", "gptq_v2"), absent="gptq")
        less = 0 if config.values.get(key) == "gptq_v2" else 1
        return cls(
            cast("Literal[4, 8]", bits), config.integer("group_size"), 2 ** (bits - 1) - less
        )

    def matrix(
        self, module: str, tensors: Mapping[str, TensorRef], shape: tuple[int, int]
    ) -> StoredCodes:
        """Return where the codes of a module lie.

        Args:
            module: its name.
            tensors: of the module, by their last names.
            shape: ``[out, in]`` that the config demands.

        Raises:
            CheckpointError: a tensor is missing, of another shape or dtype, asymmetric, or in
                act-order.
        """
        codes, scales, zeros = (self._needed(module, tensors, name) for name in self.names[:3])
        out_features, in_features = shape
        packing = Packing(self.bits, transposed=True)
        demand(codes, packing.word_shape(shape), ("int32",))
        where = f"{codes.file}: {module}"
        group_size = group_size_of(self.bits, in_features, self.group_size, where)
        groups = 1 if self.group_size == -1 else -(-in_features // self.group_size)
        demand(scales, (groups, out_features), SCALE_DTYPES)
        demand(zeros, (groups, out_features // packing.codes_per_word), ("int32",))
        self._demand_symmetry(zeros)
        if _ORDER in tensors:
            demand(tensors[_ORDER], (in_features,), ("int32",))
            demand_order(tensors[_ORDER], in_features if groups == 1 else group_size)
        name = f"{module}.weight"
        return StoredCodes(
            codes=replace(codes, name=name, shape=shape, dtype="int8", packing=packing),
            scales=scales,
            transposed=True,
            bits=self.bits,
            group_size=group_size,
        )

    def _needed(self, module: str, tensors: Mapping[str, TensorRef], name: str) -> TensorRef:
        if name not in tensors:
            raise CheckpointError(
                f"{tensors[_CODES].file}: {module}.{name} is missing", "download the file again"
            )
        return tensors[name]

    def _demand_symmetry(self, zeros: TensorRef) -> None:
        stored = zeros.read().view(np.uint8)
        wanted = self.zero if self.bits == 8 else self.zero | self.zero << 4
        if (stored != wanted).any():
            raise CheckpointError(
                f"{zeros.file}: {zeros.name} holds zero points other than {self.zero}: the codes "
                "are asymmetric, or of another checkpoint_format than config.json says",
                "quantise with sym: true",
            )
