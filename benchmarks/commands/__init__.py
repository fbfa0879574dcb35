"""The subcommands, thin: one a file."""
