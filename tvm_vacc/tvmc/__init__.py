"""The `tvmc` command: subcommands in `commands`, and what they share."""
