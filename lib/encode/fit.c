/* fit.c - the labels of a local lane as vectors: told apart, made, kept.
 *
 * What prototypes.c reckons with is encoded here, slice by slice, so that a run
 * can be stopped meanwhile.
 *
 * SPDX-License-Identifier: MIT */
#include "encode/fit.h"

#include "base/bounds.h"
#include "base/digest.h"
#include "base/keymap.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_BYTES 4096 /* of text, per core */
#define TEXT_BYTES 2048  /* what a longer text counts as: it will be cut */
#define SAMPLE_BYTES 8192 /* of a sample text that are kept while fitting */

/* ---- texts in slices ---------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    const struct tr_local_text *x = a, *y = b;
    int order;

    if (x->text.n != y->text.n)
        return x->text.n < y->text.n ? 1 : -1;
    order = x->text.n ? memcmp(x->text.p, y->text.p, x->text.n) : 0;
    if (order)
        return order;
    return x->index < y->index ? -1 : x->index > y->index;
}

void tr_local_sort(struct tr_local_text *items, size_t n)
{
    qsort(items, n, sizeof *items, by_text);
}

size_t tr_local_slice(const struct tr_encoder *e,
                      const struct tr_local_text *items, size_t i,
                      size_t count)
{
    size_t room = (size_t)tr_encoder_threads(e) * SLICE_BYTES;
    size_t bytes = 0, n = 0;

    while (i + n < count) {
        size_t size = items[i + n].text.n;

        bytes += size < TEXT_BYTES ? size : TEXT_BYTES;
        if (n > 0 && bytes > room)
            break;
        n++;
    }
    return n;
}

/* ---- label vectors ------------------------------------------------------ */

/* Everything whose vector the fit needs: phrasings of labels, their examples,
 * the input's sample. One list, encoded slice by slice, longest first. */
enum part { PART_CLASS, PART_EXAMPLE, PART_SAMPLE };

struct tr_fitting {
    struct tr_arena memory; /* phrasings and the arrays */
    struct tr_local_text *items;  /* index: into who[] */
    size_t count, at;       /* at: next to encode */
    struct {
        enum part part;
        size_t place; /* label, example, or place in the sample */
    } *who;
    float *class_vectors, *examples, *sample;
    uint32_t *examples_of;
    size_t example_count, sample_count;
};

static void fitting_free(struct tr_fitting *m)
{
    if (!m)
        return;
    tr_arena_release(&m->memory);
    tr_free(m);
}

static void add(struct tr_fitting *m, struct tr_str text, enum part part,
                size_t place)
{
    m->items[m->count] = (struct tr_local_text){text, m->count};
    m->who[m->count].part = part;
    m->who[m->count].place = place;
    m->count++;
}

static int add_label(struct tr_fit *f, struct tr_fitting *m, size_t k,
                     struct tr_buf *scratch)
{
    const struct tr_local_label *label = &f->labels[k];

    for (size_t i = 0;
         tr_phrasing(i, label->name, label->description, scratch); i++) {
        struct tr_str copy = tr_arena_dup(&m->memory, tr_buf_str(scratch));

        if (!copy.p || !tr_buf_ok(scratch))
            return TR_NOMEM;
        add(m, copy, PART_CLASS, k);
    }
    for (size_t i = 0; i < label->example_count; i++) {
        m->examples_of[m->example_count] = (uint32_t)k;
        add(m, label->examples[i], PART_EXAMPLE, m->example_count++);
    }
    return TR_OK;
}

/* The first TR_LOCAL_SAMPLE_MAX distinct texts, copied: the caller's rows may
 * have moved when the next slice is due. */
static int add_sample(struct tr_fitting *m, const struct tr_str *texts,
                      size_t n)
{
    struct tr_local_text *sorted = tr_array(n + 1, sizeof *sorted);
    bool *again = tr_array(n + 1, sizeof *again);
    int rc = TR_OK;

    if (!sorted || !again) {
        tr_free(sorted);
        tr_free(again);
        return TR_NOMEM;
    }
    for (size_t i = 0; i < n; i++)
        sorted[i] = (struct tr_local_text){texts[i], i};
    tr_local_sort(sorted, n);
    for (size_t i = 1; i < n; i++)
        again[sorted[i].index] = tr_str_eq(sorted[i].text, sorted[i - 1].text);
    for (size_t i = 0; i < n && m->sample_count < TR_LOCAL_SAMPLE_MAX; i++) {
        struct tr_str text = texts[i];

        if (again[i])
            continue;
        if (text.n > SAMPLE_BYTES)
            text.n = SAMPLE_BYTES;
        text = tr_arena_dup(&m->memory, text);
        if (!text.p) {
            rc = TR_NOMEM;
            break;
        }
        add(m, text, PART_SAMPLE, m->sample_count++);
    }
    tr_free(sorted);
    tr_free(again);
    return rc;
}

static int begin(struct tr_fit *f, const struct tr_str *texts, size_t n,
                 struct tr_err *err)
{
    struct tr_fitting *m = tr_alloc(sizeof *m);
    struct tr_buf scratch;
    size_t examples = 0, max, samples;
    int rc = TR_NOMEM;

    tr_buf_init(&scratch, TR_TASK_BYTES_MAX);
    if (!m)
        goto out;
    tr_arena_init(&m->memory);
    for (size_t k = 0; k < f->label_count; k++)
        examples += f->labels[k].example_count;
    samples = n < TR_LOCAL_SAMPLE_MAX ? n : TR_LOCAL_SAMPLE_MAX;
    max = f->label_count * 8 + examples + samples;
    m->items = tr_arena_alloc(&m->memory, max * sizeof *m->items);
    m->who = tr_arena_alloc(&m->memory, max * sizeof *m->who);
    m->examples_of = tr_arena_alloc(&m->memory,
                                    (examples + 1) * sizeof *m->examples_of);
    m->class_vectors = tr_arena_alloc(&m->memory, f->label_count * f->dim *
                                                      sizeof(float));
    m->examples = tr_arena_alloc(&m->memory,
                                 (examples * f->dim + 1) * sizeof(float));
    m->sample = tr_arena_alloc(&m->memory,
                               (samples * f->dim + 1) * sizeof(float));
    if (!m->items || !m->who || !m->examples_of || !m->class_vectors ||
        !m->examples || !m->sample)
        goto out;
    for (size_t k = 0; k < f->label_count; k++)
        TRY(add_label(f, m, k, &scratch));
    TRY(add_sample(m, texts, n));
    tr_local_sort(m->items, m->count);
    f->more = m;
    m = NULL;
    rc = TR_OK;
out:
    fitting_free(m);
    tr_buf_release(&scratch);
    if (rc == TR_NOMEM)
        tr_fail(err, rc, "out of memory while fitting the local model");
    return rc;
}

/* Puts a vector where it belongs; a label's phrasings are summed up. */
static void put(const struct tr_fit *f, const struct tr_local_text *item,
                const float *v)
{
    struct tr_fitting *m = f->more;
    size_t place = m->who[item->index].place;
    float *to;

    switch (m->who[item->index].part) {
    case PART_CLASS:
        to = m->class_vectors + place * f->dim;
        for (size_t i = 0; i < f->dim; i++)
            to[i] += v[i];
        return;
    case PART_EXAMPLE:
        memcpy(m->examples + place * f->dim, v, f->dim * sizeof *v);
        return;
    case PART_SAMPLE:
        memcpy(m->sample + place * f->dim, v, f->dim * sizeof *v);
        return;
    }
}

static int encode_slice(struct tr_fit *f, struct tr_err *err)
{
    struct tr_fitting *m = f->more;
    size_t n = tr_local_slice(f->encoder, m->items, m->at, m->count);
    struct tr_str *texts = tr_array(n + 1, sizeof *texts);
    float *vectors = tr_array(n * f->dim + 1, sizeof *vectors);
    int rc = TR_OK;

    if (!texts || !vectors) {
        rc = tr_fail(err, TR_NOMEM, "out of memory for %zu texts", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        texts[i] = m->items[m->at + i].text;
    TRY(tr_encoder_run(f->encoder, texts, n, vectors, NULL, err));
    for (size_t i = 0; i < n; i++)
        put(f, &m->items[m->at + i], vectors + i * f->dim);
    m->at += n;
out:
    tr_free(texts);
    tr_free(vectors);
    return rc;
}

static int end(struct tr_fit *f, struct tr_err *err)
{
    struct tr_fitting *m = f->more;
    float *prototypes = tr_array(f->label_count * f->dim, sizeof *prototypes);
    int rc = TR_NOMEM;

    if (prototypes) {
        tr_unit_vectors(m->class_vectors, f->label_count, f->dim);
        rc = tr_prototypes_fit(prototypes, f->label_count, f->dim,
                               m->class_vectors, m->examples, m->examples_of,
                               m->example_count, m->sample, m->sample_count);
    }
    if (rc != TR_OK) {
        tr_free(prototypes);
        return tr_fail(err, rc, "out of memory for %zu label vectors",
                       f->label_count);
    }
    f->prototypes = prototypes;
    return TR_OK;
}

/* What the store keeps: one line that says what the vectors belong to, then
 * the vectors as they lie in memory. */
static void header_of(const struct tr_fit *f, char *out, size_t size)
{
    struct tr_key digest = tr_encoder_digest(f->encoder);
    char hex[2 * sizeof digest.b + 1];

    tr_key_hex(&digest, sizeof digest.b, hex);
    snprintf(out, size, "trommel-fit 2 %.100s %s %zu labels %zu dimensions\n",
             tr_encoder_name(f->encoder), hex, f->label_count, f->dim);
}

static size_t prototype_bytes(const struct tr_fit *f)
{
    return f->label_count * f->dim * sizeof *f->prototypes;
}

static int restore(struct tr_fit *f, struct tr_str fitted, struct tr_err *err)
{
    char header[200];
    size_t n;

    header_of(f, header, sizeof header);
    n = strlen(header);
    if (fitted.n != n + prototype_bytes(f) || memcmp(fitted.p, header, n) != 0)
        return fitted.n ? TR_FIT_OTHER : TR_OK;
    f->prototypes = tr_alloc(prototype_bytes(f));
    if (!f->prototypes)
        return tr_fail(err, TR_NOMEM, "out of memory for %zu label vectors",
                       f->label_count);
    memcpy(f->prototypes, fitted.p + n, prototype_bytes(f));
    return TR_OK;
}

/* Keeps the vectors in out, and their digest as a name. */
static int publish(struct tr_fit *f, struct tr_buf *out, struct tr_err *err)
{
    struct tr_str bytes = tr_str((const char *)f->prototypes,
                                 prototype_bytes(f));
    struct tr_key salt = tr_encoder_digest(f->encoder);
    struct tr_key key = tr_digest(&salt, bytes);
    char header[200];

    tr_key_hex(&key, 3, f->name);
    header_of(f, header, sizeof header);
    tr_buf_clear(out);
    tr_buf_addz(out, header);
    tr_buf_adds(out, bytes);
    if (!tr_buf_ok(out))
        return tr_fail(err, TR_NOMEM, "out of memory for %zu label vectors",
                       f->label_count);
    return TR_OK;
}

int tr_fit_step(struct tr_fit *f, const struct tr_str *texts, size_t n,
                struct tr_str fitted, struct tr_buf *out, struct tr_err *err)
{
    int rc = TR_OK;

    if (!f->prototypes && !f->more) {
        TRY(restore(f, fitted, err));
        if (!f->prototypes)
            TRY(begin(f, texts, n, err));
    }
    if (f->more) {
        TRY(encode_slice(f, err));
        if (f->more->at < f->more->count)
            return TR_FIT_MORE;
        TRY(end(f, err));
        fitting_free(f->more);
        f->more = NULL;
    }
    TRY(publish(f, out, err));
out:
    return rc;
}

/* ---- opening and closing ------------------------------------------------ */

static int copy_labels(struct tr_fit *f, const struct tr_local_label *labels,
                       size_t label_count)
{
    f->labels = tr_arena_alloc(&f->memory, label_count * sizeof *f->labels);
    if (!f->labels)
        return TR_NOMEM;
    f->label_count = label_count;
    for (size_t k = 0; k < label_count; k++) {
        const struct tr_local_label *from = &labels[k];
        struct tr_local_label *to = &f->labels[k];
        struct tr_str *examples;

        to->name = tr_arena_dup(&f->memory, from->name);
        to->description = tr_arena_dup(&f->memory, from->description);
        to->example_count = from->example_count;
        to->examples = examples = tr_arena_alloc(
            &f->memory, (from->example_count + 1) * sizeof *examples);
        if (!to->name.p || !to->description.p || !examples)
            return TR_NOMEM;
        for (size_t i = 0; i < from->example_count; i++) {
            examples[i] = tr_arena_dup(&f->memory, from->examples[i]);
            if (!examples[i].p)
                return TR_NOMEM;
        }
    }
    return TR_OK;
}

/* Digest of all that a label's own vector is made of. */
static int label_sum(struct tr_fit *f, const struct tr_local_label *label,
                     struct tr_buf *scratch, struct tr_key *sum,
                     struct tr_err *err)
{
    int rc = TR_OK;

    *sum = (struct tr_key){{0}};
    for (size_t i = 0;
         tr_phrasing(i, label->name, label->description, scratch); i++) {
        if (!tr_buf_ok(scratch))
            return tr_fail(err, TR_NOMEM, "out of memory for the labels");
        TRY(tr_encoder_sum(f->encoder, tr_buf_str(scratch), sum, err));
    }
out:
    return rc;
}

/* Of two labels that the model reads as the same, the first would get every
 * text. Examples make a difference. */
static int check_labels(struct tr_fit *f, struct tr_err *err)
{
    struct tr_keymap seen;
    struct tr_buf scratch;
    int rc = TR_OK;

    tr_keymap_init(&seen);
    tr_buf_init(&scratch, TR_TASK_BYTES_MAX);
    for (size_t k = 0; k < f->label_count; k++) {
        struct tr_local_label *label = &f->labels[k];
        const struct tr_local_label *other;
        struct tr_key sum;

        if (label->example_count)
            continue;
        TRY(label_sum(f, label, &scratch, &sum, err));
        other = tr_keymap_find(&seen, &sum);
        if (other)
            TRY(tr_fail(err, TR_CONFIG, "the local model reads the labels "
                        "'%.*s' and '%.*s' as the same; describe them in "
                        "English in a task file (--task), or name a language "
                        "model with --model", (int)other->name.n,
                        other->name.p, (int)label->name.n, label->name.p));
        if (!tr_keymap_add(&seen, &sum, label))
            TRY(tr_fail(err, TR_NOMEM, "out of memory for the labels"));
    }
out:
    tr_keymap_release(&seen);
    tr_buf_release(&scratch);
    return rc;
}

int tr_fit_open(struct tr_fit *f, struct tr_encoder *e,
                const struct tr_local_label *labels, size_t label_count,
                struct tr_err *err)
{
    *f = (struct tr_fit){.encoder = e, .dim = (size_t)tr_encoder_dim(e)};
    tr_arena_init(&f->memory);
    if (copy_labels(f, labels, label_count) != TR_OK)
        return tr_fail(err, TR_NOMEM,
                       "the local model cannot start: out of memory");
    return check_labels(f, err);
}

void tr_fit_close(struct tr_fit *f)
{
    fitting_free(f->more);
    tr_free(f->prototypes);
    tr_arena_release(&f->memory);
}
