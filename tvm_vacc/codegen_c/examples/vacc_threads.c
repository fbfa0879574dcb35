#define _POSIX_C_SOURCE 200112L

#include "vacc_threads.h"

#include <pthread.h>

/* One loop at a time: its tasks are handed out one by one, under the lock. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t has_tasks, is_done;
    pthread_t *threads;
    int thread_count;
    bool is_busy, is_ending;
    vacc_task task;
    const void *context;
    int64_t next, count; /* tasks handed out, and of all */
    int64_t unfinished;  /* tasks handed out that are running */
    int status;
    int (*before)(vacc_task, const void *, int64_t);
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .has_tasks = PTHREAD_COND_INITIALIZER,
          .is_done = PTHREAD_COND_INITIALIZER};

/* Runs tasks until none is left; the lock is held at the call, and when it returns. */
static void run_tasks(void) {
    while (pool.next < pool.count) {
        const int64_t index = pool.next++;
        ++pool.unfinished;
        pthread_mutex_unlock(&pool.lock);
        const int status = pool.task(pool.context, index);
        pthread_mutex_lock(&pool.lock);
        if (status != VACC_OK) {
            pool.status = status;
            pool.next = pool.count;
        }
        if (--pool.unfinished == 0 && pool.next == pool.count) {
            pthread_cond_signal(&pool.is_done);
        }
    }
}

static void *worker(void *none) {
    (void)none;
    pthread_mutex_lock(&pool.lock);
    while (!pool.is_ending) {
        run_tasks();
        pthread_cond_wait(&pool.has_tasks, &pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static int parallel_for(vacc_task task, const void *context, int64_t count) {
    pthread_mutex_lock(&pool.lock);
    if (pool.is_busy || count < 2) { /* a loop within a task, or nothing to share */
        pthread_mutex_unlock(&pool.lock);
        return pool.before(task, context, count);
    }
    pool.is_busy = true;
    pool.task = task;
    pool.context = context;
    pool.next = 0;
    pool.count = count;
    pool.status = VACC_OK;
    pthread_cond_broadcast(&pool.has_tasks);
    run_tasks();
    while (pool.unfinished > 0) {
        pthread_cond_wait(&pool.is_done, &pool.lock);
    }
    pool.is_busy = false;
    const int status = pool.status;
    pthread_mutex_unlock(&pool.lock);
    return status;
}

int vacc_threads_start(int count) {
    pool.before = vacc_parallel_for;
    pool.thread_count = 0;
    pool.threads = vacc_allocate(sizeof(pthread_t) * (size_t)(count > 1 ? count - 1 : 1));
    if (pool.threads == NULL) {
        return VACC_NO_MEMORY;
    }
    vacc_parallel_for = parallel_for;
    while (pool.thread_count < count - 1) {
        if (pthread_create(&pool.threads[pool.thread_count], NULL, worker, NULL) != 0) {
            vacc_threads_stop();
            return VACC_NO_MEMORY;
        }
        ++pool.thread_count;
    }
    return VACC_OK;
}

void vacc_threads_stop(void) {
    pthread_mutex_lock(&pool.lock);
    pool.is_ending = true;
    pthread_cond_broadcast(&pool.has_tasks);
    pthread_mutex_unlock(&pool.lock);
    while (pool.thread_count > 0) {
        pthread_join(pool.threads[--pool.thread_count], NULL);
    }
    vacc_release(pool.threads);
    pool.is_ending = false;
    vacc_parallel_for = pool.before;
}
