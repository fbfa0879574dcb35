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
