"""The steps of a compile, in the order of `tvm_vacc.compiler`; each leaves a piece in the cache."""
