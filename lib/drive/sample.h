/* sample.h - texts spread over the whole input: for models that fit themselves,
 * and for estimate --sample.
 * SPDX-License-Identifier: MIT */
#ifndef TR_SAMPLE_H
#define TR_SAMPLE_H

#include "base/arena.h"
#include "rows/source.h"

#define TR_SAMPLE_TEXTS 2000u
#define TR_SAMPLE_MOST 5000u
#define TR_SAMPLE_BYTES 8192u /* of a text: a fit looks at no more */

struct tr_sample {
    struct tr_arena arena; /* owns the texts */
    struct tr_str *texts;  /* distinct, or of different parties */
    uint64_t *parties;     /* whose they are (tr_row.party) */
    size_t n;              /* at most as many as were wished for */
};

void tr_sample_init(struct tr_sample *s);
void tr_sample_release(struct tr_sample *s);
/* Reads the whole input once and keeps the `most` texts with the smallest
 * digests: the same ones whatever the order of the rows, so that a file sorted
 * by label is sampled as well as a shuffled one. Of each text text_max bytes
 * are kept, 0: all. At most twice as many texts as are wished for are in memory
 * meanwhile. On failure the sample stays empty. */
int tr_sample_draw(struct tr_sample *s, size_t most, size_t text_max,
                   const struct tr_source_opts *input, struct tr_err *err);
/* Of the longer texts, how many in a hundred hold no very common English word;
 * 0 when there are too few to tell. */
int tr_sample_foreign_pct(const struct tr_sample *s);

#endif
