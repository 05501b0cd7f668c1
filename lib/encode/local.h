/* local.h - the local lane, and the arithmetic on its label vectors.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ENCODE_LOCAL_H
#define TR_ENCODE_LOCAL_H

#include "lane.h"

#define TR_LOCAL_SAMPLE_MAX 2000 /* texts the label vectors are moved by */

struct tr_local_label {
    struct tr_str name, description;
    const struct tr_str *examples;
    size_t example_count;
};

struct tr_local_opts {
    const char *path;      /* GGUF, or NULL: the model that comes along */
    int threads;           /* 0: all cores that may be used */
    const struct tr_local_label *labels;
    size_t label_count;
    bool multiple, none;   /* refused for now: TR_CONFIG with the reason */
};
/* Copies what it needs. lane->wants_sample is set; lane->model becomes
 * "local/all-MiniLM-L6-v2+3f9a1c" after fit(). */
int tr_local_lane_open(struct tr_lane **out, const struct tr_local_opts *o,
                       struct tr_err *err);

/* Path of the model that comes along: looked for where TROMMEL_MODEL_DIR says,
 * in ../share/trommel from the program (installed, or moved as a whole), where
 * it was installed, and in the program's own folder (built, not installed).
 * False when it is in none of these. */
bool tr_local_find_model(char *path, size_t size);

/* How a label's name and description are put into sentences: writes phrasing
 * i of name and description and returns true, or false when there are no more.
 * Names are split into words at _ - / and capitals. */
bool tr_phrasing(size_t i, struct tr_str name, struct tr_str description,
                 struct tr_buf *out);

/* Pure part, for tests and bench: label vectors m' from class texts c,
 * examples e and sample x (all unit vectors of dim), see docs. prototypes has
 * room for labels*dim. examples_of[i] says whose label example i is.
 * TR_NOMEM is the only failure. */
int tr_prototypes_fit(float *prototypes, size_t labels, size_t dim,
                      const float *class_vectors, const float *example_vectors,
                      const uint32_t *examples_of, size_t example_count,
                      const float *sample, size_t sample_count);
/* Gives each of count vectors unit length. */
void tr_unit_vectors(float *vectors, size_t count, size_t dim);
/* Nearest prototype and softmax(cos/0.05) of it, 0..10000. */
struct tr_score tr_prototypes_score(const float *prototypes, size_t labels,
                                    size_t dim, const float *vector);

#endif
