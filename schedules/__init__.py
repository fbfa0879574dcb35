"""TIR kernels, one kernel family a file: the kernel, its data layout and its tile choice."""
