/* Opens the files of weights that vacc_manifest.c describes. */
#ifndef VACC_WEIGHTS_H
#define VACC_WEIGHTS_H

#include "vacc.h"
#include "vacc_manifest.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Files of weights in memory: mapped where the system is POSIX; read elsewhere, or with VACC_NO_MMAP. */
struct vacc_weights {
    void *files[VACC_WEIGHT_FILES + 1];
};

/*
 * Opens the files in `directory` and puts the addresses of the VACC_WEIGHTS tensors into `tensors`,
 * in the order in which model_params takes them, behind the caches. They are read-only.
 *
 * Each file's size and header (names, types, shapes, offsets) are compared with those of the model
 * these sources were printed for. Returns VACC_OK or
 *   VACC_NO_FILE     one is missing or cannot be read,
 *   VACC_BAD_FILE    one is damaged, or of another model,
 *   VACC_BIG_ENDIAN  this machine's byte order is not that of the files,
 *   VACC_NO_MEMORY   they have no room in the address space, or vacc_allocate gave none;
 * then nothing is open. A file must not be made shorter while it is open.
 */
int vacc_weights_open(struct vacc_weights *weights, const char *directory, void **tensors);

void vacc_weights_close(struct vacc_weights *weights);

#ifdef __cplusplus
}
#endif

#endif
