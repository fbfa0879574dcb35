"""Searches for faster kernels on the machine at hand, and keeps what it finds as records."""
