"""The artefact directory: what a compile writes and the runtime maps."""
