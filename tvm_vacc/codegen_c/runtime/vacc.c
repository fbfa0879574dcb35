/* The defaults of the hooks: one thread, and malloc. */
#include "vacc.h"

#include <stdlib.h>

static int one_after_the_other(vacc_task task, const void *context, int64_t count) {
    for (int64_t index = 0; index < count; ++index) {
        const int status = task(context, index);
        if (status != VACC_OK) {
            return status;
        }
    }
    return VACC_OK;
}

static void *allocate(size_t bytes) {
    return malloc(bytes ? bytes : 1); /* NULL means that there is no memory */
}

int (*vacc_parallel_for)(vacc_task, const void *, int64_t) = one_after_the_other;
void *(*vacc_allocate)(size_t bytes) = allocate;
void (*vacc_release)(void *memory) = free;

const char *vacc_status_text(int status) {
    switch (status) {
    case VACC_OK:
        return "done";
    case VACC_NO_MEMORY:
        return "not enough memory";
    case VACC_BAD_SIZE:
        return "a dimension is negative or larger than the model was compiled for";
    case VACC_NO_FILE:
        return "a file is missing or cannot be read";
    case VACC_BAD_FILE:
        return "a file is damaged, or belongs to another model";
    case VACC_BIG_ENDIAN:
        return "the weights are stored in another byte order than this machine's";
    default:
        return "unknown status";
    }
}
