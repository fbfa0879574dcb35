"""The programs that are compared, ours among them: one adapter a file.

An adapter is a program of its own, run by the interpreter of an environment that has what it
needs (``python -m benchmarks.peers.NAME MODEL --threads N``); versions so never clash. It loads
the model, says what it is, and then does what it is told (`benchmarks.peers.protocol`).
"""
