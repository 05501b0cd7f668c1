/* encoder.h - texts in, unit vectors out. The only door to llama.cpp is
 * encoder.c; without it (TROMMEL_LOCAL=OFF) opening fails with a sentence.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ENCODE_ENCODER_H
#define TR_ENCODE_ENCODER_H

#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

struct tr_encoder;

#define TR_ENCODER_MISSING                                                     \
    "this trommel was built without the local model (TROMMEL_LOCAL=OFF); "     \
    "build it with, or name a server's model with --model"

/* path: a GGUF embedding model. Refuses a generative one with a sentence that
 * names llama-server and Ollama. threads 0: one for each core that the process
 * may use. */
int tr_encoder_open(struct tr_encoder **out, const char *path, int threads,
                    struct tr_err *err);
int tr_encoder_dim(const struct tr_encoder *e);
const char *tr_encoder_name(const struct tr_encoder *e); /* from the file */
/* Of every byte of the file: another model may have the same name. */
struct tr_key tr_encoder_digest(const struct tr_encoder *e);
int tr_encoder_threads(const struct tr_encoder *e);
/* vectors[i*dim .. ] of texts[i], unit length; cut[i] (may be NULL) is set
 * when the text was longer than the model reads. Micro-batches sorted by
 * length inside. Deterministic: a text's vector does not depend on its
 * neighbours beyond rounding. */
int tr_encoder_run(struct tr_encoder *e, const struct tr_str *texts, size_t n,
                   float *vectors, bool *cut, struct tr_err *err);
/* Of all that the model reads of a text: equal for texts that it cannot tell
 * apart. Continues what was before it, *sum. */
int tr_encoder_sum(struct tr_encoder *e, struct tr_str text, struct tr_key *sum,
                   struct tr_err *err);
void tr_encoder_close(struct tr_encoder *e);

#endif
