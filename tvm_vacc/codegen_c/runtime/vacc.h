/*
 * What the printed kernels stand on: statuses, hooks for threads and memory, storage types, integers.
 * C99; vacc_lanes.h adds vectors.
 */
#ifndef VACC_H
#define VACC_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum vacc_status {
    VACC_OK = 0,
    VACC_NO_MEMORY = 1, /* vacc_allocate gave none */
    VACC_BAD_SIZE = 2,  /* a dimension is negative or larger than it was compiled for */
    VACC_NO_FILE = 3,   /* a file is missing or cannot be read */
    VACC_BAD_FILE = 4,  /* a file is damaged, or not the one that belongs to these sources */
    VACC_BIG_ENDIAN = 5 /* weights are stored in the other byte order */
};

/* One line in English; "unknown status" for numbers that are none. */
const char *vacc_status_text(int status);

/* ---- Hooks: each may be set to a function of your own before the first call. ---- */

typedef int (*vacc_task)(const void *context, int64_t index);

/*
 * Calls task(context, 0) ... task(context, count - 1) in any order, on any threads, and returns
 * when all are done: VACC_OK, or what a task that failed has returned. Default: one after the other.
 */
extern int (*vacc_parallel_for)(vacc_task task, const void *context, int64_t count);

/*
 * Memory of intermediate results, aligned as malloc aligns; called from the threads of
 * vacc_parallel_for. Default: malloc.
 */
extern void *(*vacc_allocate)(size_t bytes);
extern void (*vacc_release)(void *memory);

#ifdef __cplusplus
}
#endif

/* Leaves the function with the status of `call` unless that is VACC_OK. */
#define VACC_TRY(call) \
    do { \
        const int status_of_call = (call); \
        if (status_of_call != VACC_OK) { \
            return status_of_call; \
        } \
    } while (0)

/* `bytes`, to the next multiple of 64. */
#define VACC_ALIGNED(bytes) (((size_t)(bytes) + 63) / 64 * 64)

/* ---- Storage types: 16 bits in memory, fp32 in arithmetic. ---- */

typedef uint16_t vacc_f16;  /* IEEE 754 binary16 */
typedef uint16_t vacc_bf16; /* the upper half of an fp32 */

static inline uint32_t vacc_u32_of_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float vacc_f32_of_u32(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float vacc_f32_from_bf16(vacc_bf16 x) {
    return vacc_f32_of_u32((uint32_t)x << 16);
}

/* To nearest, ties to even; NaN stays NaN. */
static inline vacc_bf16 vacc_bf16_from_f32(float x) {
    const uint32_t bits = vacc_u32_of_f32(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (vacc_bf16)((bits >> 16) | 0x40u);
    }
    return (vacc_bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float vacc_f32_from_f16(vacc_f16 x) {
    const uint32_t sign = ((uint32_t)x & 0x8000u) << 16;
    const uint32_t magnitude = ((uint32_t)x & 0x7fffu) << 13;
    if (magnitude >= 0x7c00u << 13) { /* infinity and NaN */
        return vacc_f32_of_u32(sign | magnitude | 0x7f800000u);
    }
    /* The exponent's bias differs by 112; multiplying makes normal numbers of subnormal ones too. */
    return vacc_f32_of_u32(sign | vacc_u32_of_f32(vacc_f32_of_u32(magnitude) * 0x1p112f));
}

/* To nearest, ties to even; beyond the range infinity, NaN stays NaN. */
static inline vacc_f16 vacc_f16_from_f32(float x) {
    const uint32_t bits = vacc_u32_of_f32(x);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (vacc_f16)(sign | 0x7e00u);
    }
    if (magnitude >= 0x477ff000u) { /* rounds beyond 65504 */
        return (vacc_f16)(sign | 0x7c00u);
    }
    if (magnitude < 0x38800000u) { /* subnormal: the addition rounds at 2^-24 */
        const float sum = vacc_f32_of_u32(magnitude) + 0.5f;
        return (vacc_f16)(sign | (vacc_u32_of_f32(sum) - 0x3f000000u));
    }
    const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    return (vacc_f16)(sign | ((rounded - 0x38000000u) >> 13));
}

/* ---- Integers: division rounds towards minus infinity, signed arithmetic on bits wraps. ---- */

#define VACC_INTEGER(name, type, unsigned_type) \
    static inline type vacc_floordiv_##name(type a, type b) { \
        return a / b - ((a % b != 0) && ((a < 0) != (b < 0))); \
    } \
    static inline type vacc_floormod_##name(type a, type b) { \
        return a - vacc_floordiv_##name(a, b) * b; \
    } \
    static inline type vacc_wrapping_add_##name(type a, type b) { \
        return (type)((unsigned_type)a + (unsigned_type)b); \
    } \
    static inline type vacc_wrapping_sub_##name(type a, type b) { \
        return (type)((unsigned_type)a - (unsigned_type)b); \
    } \
    static inline type vacc_wrapping_mul_##name(type a, type b) { \
        return (type)((unsigned_type)a * (unsigned_type)b); \
    } \
    static inline type vacc_wrapping_shl_##name(type a, type b) { \
        return (type)((unsigned_type)a << b); \
    }

VACC_INTEGER(i32, int32_t, uint32_t)
VACC_INTEGER(i64, int64_t, uint64_t)

/* ---- Scalars: min and max, and accesses to memory that is read or written as several types. ---- */

#define VACC_SCALAR(name, type) \
    static inline type vacc_min_##name(type a, type b) { \
        return a < b ? a : b; \
    } \
    static inline type vacc_max_##name(type a, type b) { \
        return a > b ? a : b; \
    } \
    static inline type vacc_read_##name(const void *from) { \
        type value; \
        memcpy(&value, from, sizeof value); \
        return value; \
    } \
    static inline void vacc_write_##name(void *to, type value) { \
        memcpy(to, &value, sizeof value); \
    }

VACC_SCALAR(i8, int8_t)
VACC_SCALAR(i16, int16_t)
VACC_SCALAR(i32, int32_t)
VACC_SCALAR(i64, int64_t)
VACC_SCALAR(u8, uint8_t)
VACC_SCALAR(u16, uint16_t)
VACC_SCALAR(u32, uint32_t)
VACC_SCALAR(u64, uint64_t)
VACC_SCALAR(f16, vacc_f16)
VACC_SCALAR(bf16, vacc_bf16)
VACC_SCALAR(f32, float)
VACC_SCALAR(f64, double)

static inline float vacc_sigmoid_f32(float x) {
    return 1.0f / (1.0f + expf(-x));
}

static inline double vacc_sigmoid_f64(double x) {
    return 1.0 / (1.0 + exp(-x));
}

static inline float vacc_rsqrt_f32(float x) {
    return 1.0f / sqrtf(x);
}

static inline double vacc_rsqrt_f64(double x) {
    return 1.0 / sqrt(x);
}

/* Asks for the cache line at `address`, to be read; 3 into all caches, 1 into the outermost. */
#if defined(__GNUC__)
#define VACC_PREFETCH(address, locality) __builtin_prefetch((address), 0, (locality))
#else
#define VACC_PREFETCH(address, locality) ((void)0)
#endif

#endif
