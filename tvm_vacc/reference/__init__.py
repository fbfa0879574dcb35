"""The oracle: transformers' own GLM in fp32, one layer in memory at a time."""
