"""Every error class of the project.

An error says in one line what is wrong (which file, which key) and what cures it. The command line
prints ``Error: <message>`` and exits with ``exit_code``; no traceback reaches a user.
"""

from __future__ import annotations


class VaccError(Exception):
    """Base of all errors a user can cause.

    Args:
        message: what is wrong, naming the file and the key.
        cure: what to do about it, as an imperative; printed after the message.
    """

    exit_code = 4

    def __init__(self, message: str, cure: str = "") -> None:
        self.message = message
        self.cure = cure
        super().__init__(message, cure)

    def __str__(self) -> str:
        text = f"{self.message}; {self.cure}" if self.cure else self.message
        return " ".join(text.split())  # one line, whatever a path or a value contains


class VaccWarning(UserWarning):
    """Something that works, at a cost that the user should know; says the cure too."""


class ConfigError(VaccError):
    """A YAML config, a command line option or an argument that cannot be used."""


class CheckpointError(VaccError):
    """A checkpoint that is incomplete, damaged, or of an unknown layout."""


class OnnxError(VaccError):
    """An ONNX file that cannot be read or holds operators that cannot be compiled."""


class DatasetError(VaccError):
    """Calibration data that is missing, damaged, of another format, or too little."""


class TargetError(VaccError):
    """A target string that TVM or this plugin cannot take."""


class PassError(VaccError):
    """A pass that did not match as often as the model's structure demands."""


class ArtifactError(VaccError):
    """An artefact that is damaged, truncated, incomplete or of another format version."""


class RequestError(VaccError):
    """A prompt or a sampling parameter that the model cannot serve."""


class MissingExtraError(VaccError):
    """An optional dependency is needed and not installed."""

    exit_code = 5
