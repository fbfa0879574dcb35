"""The `tvmc` command: one file a subcommand, thin."""
