"""The machine at hand: what it can do at most, measured, and kernels run on it alone."""
