"""Calibration: the texts a model is run on, and the quantisers that learn from what they see."""
