"""The demo checkpoint: a small GLM trained on the King James Bible and Song/Tang poems."""
