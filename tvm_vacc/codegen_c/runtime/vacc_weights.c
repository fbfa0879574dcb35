#if (defined(__unix__) || defined(__APPLE__)) && !defined(VACC_NO_MMAP)
#define VACC_MMAP 1
#define _POSIX_C_SOURCE 200112L
#define _FILE_OFFSET_BITS 64 /* files beyond 2 GiB on 32-bit systems */
#endif

#include "vacc_weights.h"

#if VACC_MMAP
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#include <stdio.h>
#endif

#if VACC_MMAP

static int open_file(const char *path, size_t bytes, void **memory) {
    struct stat found;
    const int descriptor = open(path, O_RDONLY);
    if (descriptor < 0) {
        return VACC_NO_FILE;
    }
    int status = VACC_OK;
    if (fstat(descriptor, &found) != 0 || !S_ISREG(found.st_mode)) {
        status = VACC_NO_FILE;
    } else if (found.st_size < 0 || (uint64_t)found.st_size != bytes) {
        status = VACC_BAD_FILE;
    } else {
        void *const mapped = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (mapped == MAP_FAILED) {
            status = VACC_NO_MEMORY;
        } else {
            *memory = mapped;
        }
    }
    close(descriptor);
    return status;
}

static void close_file(void *memory, size_t bytes) {
    munmap(memory, bytes);
}

#else

static int open_file(const char *path, size_t bytes, void **memory) {
    FILE *const stream = fopen(path, "rb");
    if (stream == NULL) {
        return VACC_NO_FILE;
    }
    int status = VACC_OK;
    void *const buffer = vacc_allocate(bytes);
    if (buffer == NULL) {
        status = VACC_NO_MEMORY;
    } else {
        const bool is_whole = fread(buffer, 1, bytes, stream) == bytes && fgetc(stream) == EOF;
        if (ferror(stream)) {
            status = VACC_NO_FILE;
        } else if (!is_whole) {
            status = VACC_BAD_FILE;
        }
        if (status == VACC_OK) {
            *memory = buffer;
        } else {
            vacc_release(buffer);
        }
    }
    fclose(stream);
    return status;
}

static void close_file(void *memory, size_t bytes) {
    (void)bytes;
    vacc_release(memory);
}

#endif

/* FNV-1a, 64 bits. */
static uint64_t hash_of(const unsigned char *bytes, size_t count) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < count; ++i) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static int open_checked(const char *path, const struct vacc_weight_file *file, void **memory) {
    const size_t bytes = (size_t)file->bytes;
    if (bytes != file->bytes) {
        return VACC_NO_MEMORY; /* more than an address can tell */
    }
    VACC_TRY(open_file(path, bytes, memory));
    if (hash_of(*memory, (size_t)file->header_bytes) != file->header_hash) {
        close_file(*memory, bytes);
        *memory = NULL;
        return VACC_BAD_FILE;
    }
    return VACC_OK;
}

static int open_all(struct vacc_weights *weights, const char *directory) {
    for (int i = 0; i < VACC_WEIGHT_FILES; ++i) {
        const struct vacc_weight_file *const file = &vacc_weight_files[i];
        const size_t front = strlen(directory), back = strlen(file->name) + 1;
        char *const path = vacc_allocate(front + 1 + back);
        if (path == NULL) {
            return VACC_NO_MEMORY;
        }
        memcpy(path, directory, front);
        path[front] = '/';
        memcpy(path + front + 1, file->name, back);
        const int status = open_checked(path, file, &weights->files[i]);
        vacc_release(path);
        if (status != VACC_OK) {
            return status;
        }
    }
    return VACC_OK;
}

int vacc_weights_open(struct vacc_weights *weights, const char *directory, void **tensors) {
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    for (int i = 0; i < VACC_WEIGHT_FILES; ++i) {
        weights->files[i] = NULL;
    }
    const int status = first == 1 ? open_all(weights, directory) : VACC_BIG_ENDIAN;
    if (status != VACC_OK) {
        vacc_weights_close(weights);
        return status;
    }
    for (int i = 0; i < VACC_WEIGHTS; ++i) {
        const struct vacc_weight *const weight = &vacc_weight_table[i];
        const uint64_t bytes = vacc_weight_files[weight->file].bytes;
        if (weight->offset > bytes || weight->bytes > bytes - weight->offset) {
            vacc_weights_close(weights);
            return VACC_BAD_FILE;
        }
        tensors[i] = (char *)weights->files[weight->file] + weight->offset;
    }
    return VACC_OK;
}

void vacc_weights_close(struct vacc_weights *weights) {
    for (int i = 0; i < VACC_WEIGHT_FILES; ++i) {
        if (weights->files[i] != NULL) {
            close_file(weights->files[i], (size_t)vacc_weight_files[i].bytes);
            weights->files[i] = NULL;
        }
    }
}
