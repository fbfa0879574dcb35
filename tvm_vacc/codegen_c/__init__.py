"""Prints compiled models as C99 sources, for toolchains other than LLVM."""
