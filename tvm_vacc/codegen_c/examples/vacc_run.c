/*
 * Runs vacc_forward on files: an example of a program around it.
 *
 *   vacc_run DIRECTORY [DIMENSION ...] [INPUT ...] [OUTPUT ...]
 *
 * DIRECTORY holds the weights. DIMENSION is the value of each dimension that is not fixed. INPUT and
 * OUTPUT are files of elements, as they lie in memory. Without arguments it lists what it takes.
 */
#include "vacc_manifest.h"
#include "vacc_model.h"
#include "vacc_run.h"
#include "vacc_weights.h"
#ifdef VACC_THREADS
#include "vacc_threads.h"
#endif

#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 4, TENSORS = VACC_RUN_INPUTS + VACC_RUN_OUTPUTS };

/* Reads exactly `bytes` from a file; false where it holds less or more. */
static bool read_file(const char *path, void *memory, size_t bytes) {
    FILE *const stream = fopen(path, "rb");
    if (stream == NULL) {
        return false;
    }
    const bool is_whole = fread(memory, 1, bytes, stream) == bytes && fgetc(stream) == EOF;
    fclose(stream);
    return is_whole;
}

static bool write_file(const char *path, const void *memory, size_t bytes) {
    FILE *const stream = fopen(path, "wb");
    if (stream == NULL) {
        return false;
    }
    const bool is_written = fwrite(memory, 1, bytes, stream) == bytes;
    return fclose(stream) == 0 && is_written;
}

static int complain(const char *program, const char *about, const char *what) {
    fprintf(stderr, "%s: %s: %s\n", program, about, what);
    return 1;
}

/* Reads the inputs, runs the model, writes the outputs; returns what main returns. */
static int run(
    char **argv, struct vacc_forward_arguments *arguments, void **tensors, const size_t *bytes) {
    char **const paths = argv + 2 + VACC_RUN_DIMENSIONS;
    for (int i = 0; i < TENSORS; ++i) {
        tensors[i] = malloc(bytes[i] + 1);
        if (tensors[i] == NULL) {
            return complain(argv[0], paths[i], vacc_status_text(VACC_NO_MEMORY));
        }
        if (i < VACC_RUN_INPUTS && !read_file(paths[i], tensors[i], bytes[i])) {
            return complain(argv[0], paths[i], "cannot be read, or is of another size");
        }
    }
    vacc_run_connect(arguments, tensors);
    char *const workspace = malloc(vacc_forward_workspace(arguments) + 64);
    int status = VACC_NO_MEMORY;
    if (workspace != NULL) {
        status = vacc_forward(arguments, workspace + (64 - (uintptr_t)workspace % 64) % 64);
        free(workspace);
    }
    if (status != VACC_OK) {
        return complain(argv[0], "vacc_forward", vacc_status_text(status));
    }
    for (int i = VACC_RUN_INPUTS; i < TENSORS; ++i) {
        if (!write_file(paths[i], tensors[i], bytes[i])) {
            return complain(argv[0], paths[i], "cannot be written");
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2 + VACC_RUN_DIMENSIONS + TENSORS) {
        fprintf(stderr, "usage: %s DIRECTORY%s", argv[0], vacc_run_usage);
        return 2;
    }
    int64_t dimensions[VACC_RUN_DIMENSIONS + 1] = {0};
    for (int i = 0; i < VACC_RUN_DIMENSIONS; ++i) {
        char *end;
        dimensions[i] = strtoll(argv[2 + i], &end, 10);
        if (end == argv[2 + i] || *end != '\0' || dimensions[i] < 0 || dimensions[i] > INT32_MAX) {
            return complain(argv[0], argv[2 + i], "is no dimension");
        }
    }
    struct vacc_weights weights;
    void *params[VACC_WEIGHTS + 1];
    int status = vacc_weights_open(&weights, argv[1], params);
    if (status != VACC_OK) {
        return complain(argv[0], argv[1], vacc_status_text(status));
    }
    struct vacc_forward_arguments arguments;
    void *tensors[TENSORS] = {NULL};
    size_t bytes[TENSORS];
    vacc_run_measure(&arguments, dimensions, params, bytes);
#ifdef VACC_THREADS
    status = vacc_threads_start(THREADS);
#endif
    if (status == VACC_OK) {
        status = run(argv, &arguments, tensors, bytes);
#ifdef VACC_THREADS
        vacc_threads_stop();
#endif
    }
    for (int i = 0; i < TENSORS; ++i) {
        free(tensors[i]);
    }
    vacc_weights_close(&weights);
    return status;
}
