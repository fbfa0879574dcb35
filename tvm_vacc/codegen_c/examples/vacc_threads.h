/* Threads for vacc_parallel_for: an example, for POSIX threads. */
#ifndef VACC_THREADS_H
#define VACC_THREADS_H

#include "vacc.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Starts `count` - 1 threads beside the caller's and sets vacc_parallel_for. Returns VACC_OK, or
 * VACC_NO_MEMORY where the system gives no more; then all is as it was.
 */
int vacc_threads_start(int count);

/* Ends them and puts vacc_parallel_for back; no task may be running. */
void vacc_threads_stop(void);

#ifdef __cplusplus
}
#endif

#endif
