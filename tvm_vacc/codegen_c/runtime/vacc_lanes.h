/*
 * Macros that define a vector type, or one function on it; vacc_vectors.h has those of a model.
 *
 * With GCC's vector extensions (gcc, clang and their relatives) vectors are vector registers; with
 * VACC_PLAIN_C defined, or another compiler, they are structs of lanes and plain loops.
 */
#ifndef VACC_LANES_H
#define VACC_LANES_H

#include "vacc.h"

#if defined(__GNUC__) && !defined(VACC_PLAIN_C)
#define VACC_GNU_VECTORS 1
/* Functions on vectors are all inlined: no ABI is involved. */
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#if VACC_GNU_VECTORS
#define VACC_LANE(vector, i) ((vector)[i])
#define VACC_VECTOR_TYPE(name, type, lanes) \
    typedef type vacc_##name __attribute__((vector_size(sizeof(type) * (lanes))));
#else
#define VACC_LANE(vector, i) ((vector).lane[i])
#define VACC_VECTOR_TYPE(name, type, lanes) \
    typedef struct { \
        type lane[lanes]; \
    } vacc_##name;
#endif

/* Runs `statement` for each lane i and returns `result`. */
#define VACC_EACH_LANE(name, lanes, statement) \
    vacc_##name result = {0}; \
    for (int i = 0; i < (lanes); ++i) { \
        VACC_LANE(result, i) = statement; \
    } \
    return result;

/* Memory needs no alignment beyond that of a lane. */
#define VACC_VECTOR(name, type, lanes) \
    VACC_VECTOR_TYPE(name, type, lanes) \
    static inline vacc_##name vacc_load_##name(const type *from) { \
        vacc_##name result; \
        memcpy(&result, from, sizeof result); \
        return result; \
    } \
    static inline void vacc_store_##name(type *to, vacc_##name value) { \
        memcpy(to, &value, sizeof value); \
    } \
    static inline vacc_##name vacc_splat_##name(type value) { \
        VACC_EACH_LANE(name, lanes, value) \
    }

#define VACC_RAMP(action, name, lanes, type) \
    static inline vacc_##name vacc_##action##_##name(type first, type step) { \
        VACC_EACH_LANE(name, lanes, (type)(first + step * i)) \
    }

#define VACC_MAP(action, name, lanes) \
    static inline vacc_##name vacc_##action##_##name(vacc_##name a) { \
        VACC_EACH_LANE(name, lanes, action(VACC_LANE(a, i))) \
    }

/* Picks lanes of several vectors that stand one after the other. */
#define VACC_SHUFFLE(name, lanes, source, source_lanes) \
    static inline vacc_##name vacc_shuffle_##name##_##source( \
        const vacc_##source *vectors, const uint8_t *from) { \
        VACC_EACH_LANE( \
            name, lanes, VACC_LANE(vectors[from[i] / (source_lanes)], from[i] % (source_lanes))) \
    }

#define VACC_SELECT_LANES(action, name, lanes, mask) \
    static inline vacc_##name vacc_##action##_##name( \
        vacc_##mask where, vacc_##name a, vacc_##name b) { \
        VACC_EACH_LANE(name, lanes, VACC_LANE(where, i) ? VACC_LANE(a, i) : VACC_LANE(b, i)) \
    }

#define VACC_EXTREME(action, name, lanes, comparison) \
    static inline vacc_##name vacc_##action##_##name(vacc_##name a, vacc_##name b) { \
        return vacc_select_##name(vacc_##comparison##_##name(a, b), a, b); \
    }

#define VACC_COMPARE_NARROW(action, name, lanes, mask, operator) \
    static inline vacc_##mask vacc_##action##_##name(vacc_##name a, vacc_##name b) { \
        VACC_EACH_LANE(mask, lanes, -(VACC_LANE(a, i) operator VACC_LANE(b, i))) \
    }

#define VACC_GATHER(name, type, indices, lanes) \
    static inline vacc_##name vacc_gather_##name##_##indices( \
        const type *base, vacc_##indices at) { \
        VACC_EACH_LANE(name, lanes, base[VACC_LANE(at, i)]) \
    }

#define VACC_SCATTER(name, type, indices, lanes) \
    static inline void vacc_scatter_##name##_##indices( \
        type *base, vacc_##indices at, vacc_##name value) { \
        for (int i = 0; i < (lanes); ++i) { \
            base[VACC_LANE(at, i)] = VACC_LANE(value, i); \
        } \
    }

#define VACC_CONVERT_HALF(to, from, lanes, from_scalar, to_scalar) \
    static inline vacc_##to vacc_##to##_from_##from(vacc_##from a) { \
        VACC_EACH_LANE(to, lanes, vacc_##to_scalar##_from_##from_scalar(VACC_LANE(a, i))) \
    }

#define VACC_BITS(to, to_type, from, from_type) \
    static inline to_type vacc_##to##_bits_##from(from_type a) { \
        to_type result; \
        memcpy(&result, &a, sizeof result); \
        return result; \
    }

#if VACC_GNU_VECTORS

#define VACC_BINARY(action, name, lanes, operator) \
    static inline vacc_##name vacc_##action##_##name(vacc_##name a, vacc_##name b) { \
        return a operator b; \
    }

#define VACC_WRAPPING(action, name, lanes, unsigned_name, operator) \
    static inline vacc_##name vacc_##action##_##name(vacc_##name a, vacc_##name b) { \
        return (vacc_##name)((vacc_##unsigned_name)a operator(vacc_##unsigned_name) b); \
    }

#define VACC_COMPARE(action, name, lanes, mask, operator) \
    static inline vacc_##mask vacc_##action##_##name(vacc_##name a, vacc_##name b) { \
        return (vacc_##mask)(a operator b); \
    }

#define VACC_SELECT_BITS(action, name, lanes, mask) \
    static inline vacc_##name vacc_##action##_##name( \
        vacc_##mask where, vacc_##name a, vacc_##name b) { \
        return (vacc_##name)(((vacc_##mask)a & where) | ((vacc_##mask)b & ~where)); \
    }

#define VACC_CONVERT(to, from, lanes, type) \
    static inline vacc_##to vacc_##to##_from_##from(vacc_##from a) { \
        return __builtin_convertvector(a, vacc_##to); \
    }

#else

#define VACC_BINARY(action, name, lanes, operator) \
    static inline vacc_##name vacc_##action##_##name(vacc_##name a, vacc_##name b) { \
        VACC_EACH_LANE(name, lanes, VACC_LANE(a, i) operator VACC_LANE(b, i)) \
    }

#define VACC_WRAPPING(action, name, lanes, unsigned_name, operator) \
    static inline vacc_##name vacc_##action##_##name(vacc_##name a, vacc_##name b) { \
        vacc_##unsigned_name x, y; \
        vacc_##name result; \
        memcpy(&x, &a, sizeof x); \
        memcpy(&y, &b, sizeof y); \
        for (int i = 0; i < (lanes); ++i) { \
            VACC_LANE(x, i) = VACC_LANE(x, i) operator VACC_LANE(y, i); \
        } \
        memcpy(&result, &x, sizeof result); \
        return result; \
    }

#define VACC_COMPARE(action, name, lanes, mask, operator) \
    VACC_COMPARE_NARROW(action, name, lanes, mask, operator)

#define VACC_SELECT_BITS(action, name, lanes, mask) VACC_SELECT_LANES(action, name, lanes, mask)

#define VACC_CONVERT(to, from, lanes, type) \
    static inline vacc_##to vacc_##to##_from_##from(vacc_##from a) { \
        VACC_EACH_LANE(to, lanes, (type)VACC_LANE(a, i)) \
    }

#endif

#endif
