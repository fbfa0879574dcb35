"""The options of `tvmc compile`, one group a file: what they are, and what becomes of them."""
