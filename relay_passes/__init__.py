"""Graph passes, IRModule to IRModule, one a file.

The name is the one the project was asked for; Relay itself left TVM in 0.20, and these passes work
on Relax, its successor.
"""
