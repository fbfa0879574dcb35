"""Every numeric limit of the project, with its unit and its reason."""

from __future__ import annotations

from typing import Final

PAGE_SIZE: Final = 16
"""Positions a KV-cache page: one fp32 AVX-512 register of scores a page."""

SEQUENCE_MULTIPLE: Final = PAGE_SIZE
"""Sequence lengths in configs are multiples of this: whole pages."""

WEIGHT_ALIGNMENT: Final = 4096
"""Bytes: tensors in weight files start on whole memory pages; kernels need 64."""

MAX_JSON_BYTES: Final = 64 << 20
"""Bytes: largest JSON file read whole (a tokenizer of 150k entries takes 20 MB)."""

MAX_SAFETENSORS_HEADER: Final = 100_000_000
"""Bytes: the limit of the safetensors format itself."""

MAX_YAML_BYTES: Final = 1 << 20
"""Bytes: a config is small; anything larger is a mistake."""
