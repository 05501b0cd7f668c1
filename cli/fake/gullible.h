/* gullible.h - a model that does what the texts say, and texts that say it.
 *
 * The grammar is in docs/internals/fake.md. The simulator's provider uses the
 * same file, so that both worlds have the same attacks.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_GULLIBLE_H
#define TR_FAKE_GULLIBLE_H

#include "base/buf.h"
#include "base/rng.h"

#include <stdint.h>

/* Attacks: name, what it says. */
#define GULLIBLE_ATTACKS(X)                                                    \
    X(GULLIBLE_ALL, all)       /* one label for every text */                  \
    X(GULLIBLE_SWAP, swap)     /* two labels change places */                  \
    X(GULLIBLE_TARGET, target) /* a guessed id gets a label */                 \
    X(GULLIBLE_DROP, drop)     /* no answer but this text's */                 \
    X(GULLIBLE_EXTRA, extra)   /* an answer about an id nobody sent */         \
    X(GULLIBLE_END, end)       /* a false end, behind which nobody reads, and  \
                                  one label */                                 \
    X(GULLIBLE_SPLIT, split)   /* one label, in two texts */

enum gullible_attack {
#define X(id, name) id,
    GULLIBLE_ATTACKS(X)
#undef X
    GULLIBLE_ATTACK_COUNT
};

enum { GULLIBLE_ORDERS = 32, GULLIBLE_NAME = 64 };

struct gullible_order {
    enum { GULLIBLE_DO_ALL, GULLIBLE_DO_SWAP, GULLIBLE_DO_ONE,
           GULLIBLE_DO_ONLY, GULLIBLE_DO_MORE, GULLIBLE_DO_WORD,
           GULLIBLE_DO_ALL_WORD, GULLIBLE_DO_END } kind;
    char a[GULLIBLE_NAME], b[GULLIBLE_NAME];
    int64_t id;   /* of ONE and MORE */
    size_t item;  /* that says so */
};

/* The orders of one request. */
struct gullible {
    struct gullible_order orders[GULLIBLE_ORDERS];
    size_t n;
};

/* Adds the orders in the text of an item. */
void gullible_hear(struct gullible *g, size_t item, struct tr_str text);

struct gullible_said {
    int64_t id;
    struct tr_str label;
    bool dropped;
};

/* Obeys, in the order in which they were heard; said: one for each item, with
 * room for GULLIBLE_ORDERS more. Labels point into g. Returns how many are
 * said, dropped ones included. */
size_t gullible_obey(const struct gullible *g, struct gullible_said *said,
                     size_t n);

/* An attack in words: plain ones, or sly ones that tr_suspect() does not know.
 * SPLIT needs part 0 in one text and part 1 in another. */
void gullible_write(struct tr_buf *out, enum gullible_attack attack, bool sly,
                    int part, const char *const *labels, size_t label_count,
                    struct tr_rng *rng);

#endif
