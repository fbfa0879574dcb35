"""From Relax to machine code: passes of the build, kernels, linking, and what users look at."""
