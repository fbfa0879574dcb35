"""Prints ``vacc_run.h``: what the example program ``vacc_run.c`` must know of a plain graph."""

from __future__ import annotations

from tvm_vacc.codegen_c.signature import Signature, Tensor

RUN_HEADER = "vacc_run.h"


def run_header(signature: Signature) -> str:
    """Return the text of the file, for the function ``vacc_forward`` that `signature` describes."""
    tensors = [*signature.inputs, *signature.outputs]
    names = [*signature.dims, *(tensor.name for tensor in tensors)]
    about = "".join(
        f'    "  {tensor.name}: [{tensor.shape}] {tensor.ctype.suffix}\\n"\n' for tensor in tensors
    )
    values = "".join(
        f"    const int64_t {name} = dimensions[{index}];\n    arguments->{name} = {name};\n"
        for index, name in enumerate(signature.dims)
    )
    unused = "" if signature.dims else "    (void)dimensions;\n"
    if signature.bundle:
        params = f"    arguments->{signature.bundle} = params;\n"
    else:
        params = "    (void)params;\n"
    bytes_ = "".join(f"    bytes[{i}] = {_bytes(tensor)};\n" for i, tensor in enumerate(tensors))
    connected = "".join(
        f"    arguments->{tensor.name} = tensors[{i}];\n" for i, tensor in enumerate(tensors)
    )
    return _HEADER.format(
        dimensions=len(signature.dims),
        inputs=len(signature.inputs),
        outputs=len(signature.outputs),
        usage="".join(f" {name}" for name in names),
        about=about.rstrip("\n"),
        measured=values + unused + params + bytes_,
        connected=connected,
    )


def _bytes(tensor: Tensor) -> str:
    count = " * ".join(f"(size_t)({dim})" for dim in tensor.dims)
    return f"sizeof({tensor.ctype.scalar})" + (f" * {count}" if count else "")


_HEADER = """\
/* What vacc_run.c must know of this model. */
#ifndef VACC_RUN_H
#define VACC_RUN_H

#include "vacc_model.h"

#define VACC_RUN_DIMENSIONS {dimensions}
#define VACC_RUN_INPUTS {inputs}
#define VACC_RUN_OUTPUTS {outputs}

static const char vacc_run_usage[] =
    "{usage}\\n"
{about};

/* Sets the dimensions and the weights; `bytes` of each input and output follow from them. */
static void vacc_run_measure(
    struct vacc_forward_arguments *arguments, const int64_t *dimensions, void **params,
    size_t *bytes) {{
    memset(arguments, 0, sizeof *arguments);
{measured}}}

/* Sets the addresses of the inputs and outputs. */
static void vacc_run_connect(struct vacc_forward_arguments *arguments, void **tensors) {{
{connected}}}

#endif
"""
