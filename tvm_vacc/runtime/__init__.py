"""Runs artefacts: needs neither the compiler nor torch nor transformers."""
