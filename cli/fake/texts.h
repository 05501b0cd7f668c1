/* texts.h - every text the fake knows or met: its answer, how often asked and
 * how often paid for.
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_TEXTS_H
#define TR_FAKE_TEXTS_H

#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

struct fake_text {
    uint64_t hash;   /* of the text; 0: free slot */
    uint32_t answer; /* index of its gold answer + 1; 0: not in the gold file */
    uint32_t asked;  /* requests that held it */
    uint32_t paid;   /* answers billed */
};

/* Strings by number. */
struct fake_words {
    char **p;        /* owned, NUL-terminated */
    uint32_t n, cap;
    uint32_t *slots; /* open addressing: index + 1; owned */
    uint32_t slot_cap;
};

struct fake_texts {
    struct fake_text *slots; /* open addressing, a power of two; owned */
    size_t n, cap;
    struct fake_words answers; /* whole gold values: "a|b" */
    struct fake_words labels;  /* single labels */
};

uint64_t fake_hash(struct tr_str s); /* never 0 */

/* gold: CSV file or NULL; labels: "a,b,c" or NULL. */
int fake_texts_open(struct fake_texts *t, const char *gold, const char *text,
                    const char *label, const char *labels, struct tr_err *err);
void fake_texts_close(struct fake_texts *t);
/* The slot of hash, made when new; NULL when out of memory. Valid until the
 * next call. */
struct fake_text *fake_texts_at(struct fake_texts *t, uint64_t hash);
/* Forgets what was asked and paid, not what the answers are. */
void fake_texts_clear(struct fake_texts *t);

#endif
