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

MAX_RELAX_BYTES: Final = 1 << 30
"""Bytes: largest Relax module in a file; constants stand in its JSON as text."""

MAX_SAFETENSORS_HEADER: Final = 100_000_000
"""Bytes: the limit of the safetensors format itself."""

MAX_FOLDED_BYTES: Final = 64 << 10
"""Bytes of an ONNX initialiser that onnxsim may fold: shapes and tables are smaller, weights are
not."""

MAX_UNROLLED_STEPS: Final = 32
"""Steps of a loop that are written out; more are a function that is called, which compiles in the
time of one step."""

MAX_YAML_BYTES: Final = 1 << 20
"""Bytes: a config is small; anything larger is a mistake."""

MAX_SAMPLES: Final = 1 << 16
"""Calibration samples: GPTQ's authors take 128; more than a few thousand change nothing."""

MAX_DATASET_BYTES: Final = 1 << 30
"""Bytes of unpacked text read of a shard of c4 (which has 800 MB) in search of long texts."""

MAX_DATASET_UNPACKED_BYTES: Final = 16 << 30
"""Bytes that a gzipped shard may unpack to: what is more is a bomb (16 GB take two minutes)."""

MAX_DATASET_TEXT_BYTES: Final = 64 << 20
"""Bytes of one text, of a text file, and of all csv files of a zip (C-Eval's have 5 MB)."""

MAX_DATASET_MEMBERS: Final = 4096
"""Members of a zip of calibration data; C-Eval has 52 subjects of three files each."""

MAX_YARDSTICK_BYTES: Final = 16 << 20
"""Bytes of a text that accuracy is measured on; a few hundred tokens of it are used."""

MAX_CONTEXT: Final = 1 << 20
"""Tokens: GLM-4-9B-chat-1M has the longest context of the family."""

MAX_WORKERS: Final = 1024
"""Processes: more parallel workers than any machine has cores is a mistake."""

ALWAYS_HASHED_BYTES: Final = 64 << 20
"""Bytes: smaller files of an artefact are hashed at every open (0.1 s); larger ones on demand."""

MAX_NOTE_CHARS: Final = 300
"""Characters that an error repeats of a pass's note, which names every weight it tells of."""

MAX_SEQUENCES: Final = 8
"""Sequences of full context that the KV cache of a loaded model has room for."""

MAX_TEMPLATE_CHARS: Final = 1 << 18
"""Characters of a chat template's source; the longest published ones have about 30,000."""

MAX_TEMPLATE_UNITS: Final = 1 << 25
"""Steps plus characters made in rendering one conversation: a million tokens are 5 M characters,
which a template handles a few times over."""

MAX_TEMPLATE_SECONDS: Final = 5.0
"""Seconds for rendering one conversation; an honest one takes milliseconds."""

MAX_TEMPLATE_INTEGER: Final = 100_000
"""Largest number a template may pass to a function: widths, counts, jinja's own limit of range."""

CACHED_SMALL_PIECES: Final = 16
"""Graphs, and builds of kernels, that a workspace's cache keeps: a few megabytes each."""

CACHED_CODES: Final = 2
"""Calibrated codes of a model that a workspace's cache keeps: a byte a weight, hours of work."""

FP16_MAX: Final = 65504.0
"""The largest number of fp16."""

CALIBRATION_MEMORY_BYTES: Final = 1 << 30
"""Bytes of hidden states that calibration keeps in memory: 128 samples of 512 tokens of a GLM-4-9B
have as many; more are in a mapped file."""

CALIBRATION_BATCH_TOKENS: Final = 2048
"""Tokens that calibration runs at once: the gate and up of GLM-4-9B take 224 MB."""

CACHED_REFERENCES: Final = 2
"""References of accuracy passports that a workspace's cache keeps: 330 MB each for GLM-4-9B."""

PARTIAL_PIECE_SECONDS: Final = 7 * 24 * 3600.0
"""Seconds after which what a killed compile has left is no longer there to be resumed."""

COMPILER_BYTES: Final = 800 << 20
"""Bytes: the compiler's memory beside the slices of weights it works on; measured on 40 layers."""

RPC_CONNECT_SECONDS: Final = 10.0
"""Seconds in which a tracker or server answers a first call, on any network that is of use."""

RPC_TIMEOUT_SECONDS: Final = 600
"""Seconds that a server may work on one call, or be busy for others, unless a caller says more."""
