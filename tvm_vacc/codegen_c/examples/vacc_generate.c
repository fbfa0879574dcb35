/*
 * Greedy generation, token ids in and token ids out: an example of a program around vacc_forward.
 *
 *   vacc_generate [-n TOKENS] [-t THREADS] DIRECTORY [TOKEN ...]
 *
 * DIRECTORY holds the weights. Without a TOKEN the prompt is read from the standard input. The
 * answer ends after TOKENS (64), at an end token of the model, or where the context is full.
 */
#include "vacc_manifest.h"
#include "vacc_model.h"
#include "vacc_weights.h"
#ifdef VACC_THREADS
#include "vacc_threads.h"
#endif

#include <stdio.h>
#include <stdlib.h>

enum { PAGES = VACC_CONTEXT / VACC_PAGE_SIZE };

/* One sequence, which has all pages of the KV cache. */
struct session {
    struct vacc_weights weights;
    void *params[VACC_CACHES + VACC_WEIGHTS]; /* the tensors of the KV cache, then the weights */
    int32_t page_table[PAGES];
    int64_t length;                /* tokens whose keys and values are in the cache */
    float logits[VACC_VOCABULARY]; /* of the last token */
};

static int session_open(struct session *session, const char *directory) {
    VACC_TRY(vacc_weights_open(&session->weights, directory, session->params + VACC_CACHES));
    for (int i = 0; i < VACC_CACHES; ++i) {
        session->params[i] = calloc(PAGES, (size_t)vacc_cache_page_bytes[i]);
        if (session->params[i] == NULL) {
            return VACC_NO_MEMORY;
        }
    }
    for (int32_t page = 0; page < PAGES; ++page) {
        session->page_table[page] = page;
    }
    return VACC_OK;
}

static void session_close(struct session *session) {
    for (int i = 0; i < VACC_CACHES; ++i) {
        free(session->params[i]);
    }
    vacc_weights_close(&session->weights);
}

/* Memory for a workspace of `bytes`, which `*place` is set to; NULL where there is none. */
static void *workspace_of(size_t bytes, void **place) {
    char *const memory = malloc(bytes + 64);
    if (memory != NULL) {
        *place = memory + (64 - (uintptr_t)memory % 64) % 64;
    }
    return memory;
}

/* Appends `count` tokens, at most VACC_PREFILL, to the sequence, and computes the last one's logits. */
static int session_append(struct session *session, const int64_t *tokens, int64_t count) {
    int64_t positions[VACC_PREFILL];
    int32_t slots[VACC_PREFILL];
    for (int64_t i = 0; i < count; ++i) {
        positions[i] = session->length + i;
        slots[i] = (int32_t)positions[i]; /* page * VACC_PAGE_SIZE + place; page p is the p-th */
    }
    session->length += count;
    const int32_t query_start[] = {0, (int32_t)count};
    const int32_t kv_lens[] = {(int32_t)session->length};
    const int32_t logit_rows[] = {(int32_t)count - 1};
    const struct vacc_forward_arguments arguments = {
        .seq = count,
        .rows = 1,
        .pages_per_row = PAGES,
        .outputs = 1,
        .pages = PAGES,
        .input_ids = tokens,
        .position_ids = positions,
        .slots = slots,
        .page_table = session->page_table,
        .query_start = query_start,
        .kv_lens = kv_lens,
        .logit_rows = logit_rows,
        .model_params = session->params,
        .output = session->logits,
    };
    void *place = NULL;
    void *const memory = workspace_of(vacc_forward_workspace(&arguments), &place);
    const int status = memory == NULL ? VACC_NO_MEMORY : vacc_forward(&arguments, place);
    free(memory);
    return status;
}

/* Draws the next token from the logits: a temperature of 0 takes the most probable one. */
static int session_sample(const struct session *session, int64_t *token) {
    const float temperature = 0.0f, top_p = 1.0f, uniform = 0.0f;
    const int32_t top_k = 0;
    int32_t drawn = 0;
    const struct vacc_sample_arguments arguments = {
        .rows = 1,
        .logits = session->logits,
        .temperature = &temperature,
        .top_p = &top_p,
        .top_k = &top_k,
        .uniform = &uniform,
        .output = &drawn,
    };
    void *place = NULL;
    void *const memory = workspace_of(vacc_sample_workspace(&arguments), &place);
    const int status = memory == NULL ? VACC_NO_MEMORY : vacc_sample(&arguments, place);
    free(memory);
    *token = drawn;
    return status;
}

static bool ends_answer(int64_t token) {
    for (int i = 0; i < VACC_END_TOKENS; ++i) {
        if (token == vacc_end_tokens[i]) {
            return true;
        }
    }
    return false;
}

static int generate(
    struct session *session, const int64_t *prompt, int64_t prompt_length, int64_t wanted) {
    for (int64_t start = 0; start < prompt_length; start += VACC_PREFILL) {
        const int64_t left = prompt_length - start;
        VACC_TRY(session_append(session, prompt + start, left < VACC_PREFILL ? left : VACC_PREFILL));
    }
    for (int64_t made = 0; made < wanted; ++made) {
        int64_t token;
        VACC_TRY(session_sample(session, &token));
        if (ends_answer(token)) {
            break;
        }
        printf("%lld\n", (long long)token);
        fflush(stdout);
        if (session->length == VACC_CONTEXT) {
            break;
        }
        if (made + 1 < wanted) {
            VACC_TRY(session_append(session, &token, 1));
        }
    }
    return VACC_OK;
}

/* Reads a whole number from `text`; false where it is none, or not in [lowest, highest]. */
static bool parse(const char *text, long long lowest, long long highest, int64_t *value) {
    char *end;
    const long long read = strtoll(text, &end, 10);
    *value = read;
    return end != text && *end == '\0' && read >= lowest && read <= highest;
}

/* Puts the prompt into `tokens` and returns its length; -1 where it is no prompt of this model. */
static int64_t read_prompt(char **words, int count, int64_t tokens[VACC_CONTEXT]) {
    char word[32];
    int64_t length = 0;
    for (int i = 0; count > 0 ? i < count : scanf("%31s", word) == 1; ++i) {
        if (length == VACC_CONTEXT) {
            return -1;
        }
        if (!parse(count > 0 ? words[i] : word, 0, VACC_VOCABULARY - 1, &tokens[length++])) {
            return -1;
        }
    }
    return length > 0 ? length : -1;
}

int main(int argc, char **argv) {
    static struct session session;
    static int64_t prompt[VACC_CONTEXT];
    int64_t wanted = 64, threads = 1;
    int first = 1;
    bool is_understood = true;
    while (first + 1 < argc && argv[first][0] == '-') {
        if (strcmp(argv[first], "-n") == 0) {
            is_understood &= parse(argv[first + 1], 1, VACC_CONTEXT, &wanted);
        } else if (strcmp(argv[first], "-t") == 0) {
            is_understood &= parse(argv[first + 1], 1, 1024, &threads);
        } else {
            is_understood = false;
        }
        first += 2;
    }
    if (!is_understood || first >= argc) {
        fprintf(stderr, "usage: %s [-n TOKENS] [-t THREADS] DIRECTORY [TOKEN ...]\n", argv[0]);
        return 2;
    }
    const int64_t length = read_prompt(argv + first + 1, argc - first - 1, prompt);
    if (length < 0) {
        fprintf(
            stderr,
            "%s: a prompt is 1 to %d tokens from 0 to %d\n",
            argv[0],
            VACC_CONTEXT,
            VACC_VOCABULARY - 1);
        return 2;
    }
    int status = VACC_OK;
#ifdef VACC_THREADS
    status = vacc_threads_start((int)threads);
    if (status != VACC_OK) {
        fprintf(stderr, "%s: %s\n", argv[0], vacc_status_text(status));
        return 1;
    }
#else
    if (threads > 1) {
        fprintf(stderr, "%s: was built without threads\n", argv[0]);
        return 2;
    }
#endif
    status = session_open(&session, argv[first]);
    if (status == VACC_OK) {
        status = generate(&session, prompt, length, wanted);
    }
    session_close(&session);
#ifdef VACC_THREADS
    vacc_threads_stop();
#endif
    if (status != VACC_OK) {
        fprintf(stderr, "%s: %s: %s\n", argv[0], argv[first], vacc_status_text(status));
        return 1;
    }
    return 0;
}
