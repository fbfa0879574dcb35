"""The subcommands, one a file, thin; `tvmc.compile` and its like are the Python API above."""
