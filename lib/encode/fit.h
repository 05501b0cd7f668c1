/* fit.h - the labels of a local lane as vectors: told apart, made, kept.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ENCODE_FIT_H
#define TR_ENCODE_FIT_H

#include "base/arena.h"
#include "encode/encoder.h"
#include "encode/local.h"

/* ---- texts in slices ---------------------------------------------------- */

struct tr_local_text {
    struct tr_str text;
    size_t index; /* place among those of the caller */
};

/* Longest first, equal texts side by side: slices then hold texts of about one
 * length. */
void tr_local_sort(struct tr_local_text *items, size_t n);
/* How many of count items from i on make one slice of work for e: about 0.2 s,
 * after which a cancel is seen. */
size_t tr_local_slice(const struct tr_encoder *e,
                      const struct tr_local_text *items, size_t i,
                      size_t count);

/* ---- label vectors ------------------------------------------------------ */

struct tr_fit {
    struct tr_encoder *encoder; /* not owned */
    size_t dim;
    struct tr_arena memory;     /* owns labels and their texts */
    struct tr_local_label *labels;
    size_t label_count;
    float *prototypes;          /* label vectors; NULL until they are made */
    struct tr_fitting *more;    /* while tr_fit_step() has more to do */
    char name[7];               /* digest of the vectors, once they are there:
                                   equal names mean equal label vectors of the
                                   same model */
};

/* Copies the labels. TR_CONFIG names two that the model reads as the same.
 * To be closed in any case. */
int tr_fit_open(struct tr_fit *f, struct tr_encoder *e,
                const struct tr_local_label *labels, size_t label_count,
                struct tr_err *err);
/* As tr_lane_vt.fit: from what was kept (fitted), or else slice by slice from
 * the labels and these texts of the input. When it is done, out is what to
 * keep. */
int tr_fit_step(struct tr_fit *f, const struct tr_str *texts, size_t n,
                struct tr_str fitted, struct tr_buf *out, struct tr_err *err);
void tr_fit_close(struct tr_fit *f);

#endif
