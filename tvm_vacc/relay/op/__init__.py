"""Relay's operators that a GLM needs, each as an expression of Relax operators."""
