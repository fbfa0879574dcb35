/* Loops through the threads of vacc_threads.c; exits with the number of the first check that fails. */
#include "vacc_threads.h"

enum { TASKS = 1000, INNER = 7 };

struct loop {
    int64_t *results;
    bool is_nested;
    int64_t failing;
};

static int inner_task(const void *context, int64_t index) {
    int64_t *const results = *(int64_t *const *)context;
    results[index] += index;
    return VACC_OK;
}

static int task(const void *context, int64_t index) {
    const struct loop *const loop = context;
    loop->results[index] += index;
    if (loop->is_nested) {
        int64_t inner[INNER] = {0};
        int64_t *const results = inner;
        VACC_TRY(vacc_parallel_for(inner_task, &results, INNER));
        for (int64_t i = 0; i < INNER; ++i) {
            if (inner[i] != i) {
                return VACC_BAD_SIZE;
            }
        }
    }
    return index == loop->failing ? VACC_NO_MEMORY : VACC_OK;
}

int main(void) {
    static int64_t results[TASKS];
    int (*const serial)(vacc_task, const void *, int64_t) = vacc_parallel_for;
    for (int round = 1; round <= 3; ++round) {
        if (vacc_threads_start(round == 1 ? 1 : 4) != VACC_OK || vacc_parallel_for == serial) {
            return 1;
        }
        memset(results, 0, sizeof results);
        const struct loop whole = {results, round == 3, -1};
        for (int again = 1; again <= 20; ++again) {
            if (vacc_parallel_for(task, &whole, TASKS) != VACC_OK) {
                return 2;
            }
            for (int64_t i = 0; i < TASKS; ++i) {
                if (results[i] != again * i) {
                    return 3;
                }
            }
        }
        const struct loop failing = {results, false, 500};
        if (vacc_parallel_for(task, &failing, TASKS) != VACC_NO_MEMORY) {
            return 4;
        }
        if (vacc_parallel_for(task, &whole, 0) != VACC_OK) {
            return 5;
        }
        vacc_threads_stop();
        if (vacc_parallel_for != serial) {
            return 6;
        }
    }
    return 0;
}
