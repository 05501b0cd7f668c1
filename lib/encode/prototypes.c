/* prototypes.c - from label texts, examples and the input to label vectors.
 *
 * Pure arithmetic on unit vectors; docs/internals/local.md says why this and
 * no more. In one line: m = norm(3c + 3 sum e), and then one step on the
 * input's own texts, m' = norm(3c + 3 sum e + sum q(x) x).
 *
 * SPDX-License-Identifier: MIT */
#include "encode/local.h"

#include "base/mem.h"

#include <math.h>

#define CLASS_WEIGHT 3.0f
#define EXAMPLE_WEIGHT 3.0f
#define TEMPERATURE 0.05f

static float dot(const float *a, const float *b, size_t dim)
{
    float part[8] = {0}, sum = 0; /* eight sums, so that SIMD may be used */
    size_t i = 0;

    for (; i + 8 <= dim; i += 8)
        for (size_t k = 0; k < 8; k++)
            part[k] += a[i + k] * b[i + k];
    for (; i < dim; i++)
        sum += a[i] * b[i];
    for (size_t k = 0; k < 8; k++)
        sum += part[k];
    return sum;
}

static void add(float *to, const float *v, float weight, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        to[i] += weight * v[i];
}

static void norm(float *v, size_t dim)
{
    float length = sqrtf(dot(v, v, dim));

    for (size_t i = 0; length > 0 && i < dim; i++)
        v[i] /= length;
}

void tr_unit_vectors(float *vectors, size_t count, size_t dim)
{
    for (size_t k = 0; k < count; k++)
        norm(vectors + k * dim, dim);
}

/* softmax over labels of cos(x, m)/0.05 into q; returns the likeliest. */
static size_t posterior(float *q, const float *m, size_t labels, size_t dim,
                        const float *x)
{
    size_t best = 0;
    float sum = 0, top;

    for (size_t k = 0; k < labels; k++) {
        q[k] = dot(m + k * dim, x, dim);
        if (q[k] > q[best])
            best = k;
    }
    top = q[best];
    for (size_t k = 0; k < labels; k++) {
        q[k] = expf((q[k] - top) / TEMPERATURE);
        sum += q[k];
    }
    for (size_t k = 0; k < labels; k++)
        q[k] /= sum;
    return best;
}

int tr_prototypes_fit(float *prototypes, size_t labels, size_t dim,
                      const float *class_vectors, const float *example_vectors,
                      const uint32_t *examples_of, size_t example_count,
                      const float *sample, size_t sample_count)
{
    float *before = tr_array(labels * dim + 1, sizeof *before);
    float *q = tr_array(labels + 1, sizeof *q);
    int rc = TR_NOMEM;

    if (!before || !q)
        goto out;
    memset(prototypes, 0, labels * dim * sizeof *prototypes);
    for (size_t k = 0; k < labels; k++)
        add(prototypes + k * dim, class_vectors + k * dim, CLASS_WEIGHT, dim);
    for (size_t i = 0; i < example_count; i++)
        add(prototypes + (size_t)examples_of[i] * dim,
            example_vectors + i * dim, EXAMPLE_WEIGHT, dim);
    memcpy(before, prototypes, labels * dim * sizeof *before);
    tr_unit_vectors(before, labels, dim);

    /* One step, never a second: it would lose up to eight points where the
     * labels are tones, not topics. */
    for (size_t i = 0; i < sample_count; i++) {
        const float *x = sample + i * dim;

        posterior(q, before, labels, dim, x);
        for (size_t k = 0; k < labels; k++)
            if (q[k] > 1e-6f)
                add(prototypes + k * dim, x, q[k], dim);
    }
    tr_unit_vectors(prototypes, labels, dim);
    rc = TR_OK;
out:
    tr_free(before);
    tr_free(q);
    return rc;
}

struct tr_score tr_prototypes_score(const float *prototypes, size_t labels,
                                    size_t dim, const float *vector)
{
    struct tr_score score = {0, 0, 0};
    float best = -2, sum = 0;

    for (size_t k = 0; k < labels; k++) {
        float cosine = dot(prototypes + k * dim, vector, dim);

        /* The sum is kept relative to the best so far, so one pass does. */
        if (cosine > best) {
            sum = sum * expf((best - cosine) / TEMPERATURE) + 1;
            best = cosine;
            score.label = (uint32_t)k;
        } else {
            sum += expf((cosine - best) / TEMPERATURE);
        }
    }
    if (sum > 0)
        score.confidence = (uint16_t)lrintf(10000 / sum);
    return score;
}

/* ---- phrasings --------------------------------------------------------- */

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

/* "card_arrival" and "CardArrival" become "card arrival", "Card Arrival". */
static void add_words(struct tr_buf *out, struct tr_str name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        if (i > 0 && is_upper(c) && is_lower(name.p[i - 1]))
            tr_buf_addc(out, ' ');
        if (c == '/')
            tr_buf_addz(out, " / ");
        else
            tr_buf_addc(out, c == '_' || c == '-' ? ' ' : c);
    }
}

/* n: the name in words, d: the description; others stand for themselves.
 * The first two also serve a label without description. */
static const char *const phrasings[] = {
    "<n>", "This text is about <n>.", "<d>", "<n>: <d>",
    "This text is about <d>.",
};

bool tr_phrasing(size_t i, struct tr_str name, struct tr_str description,
                 struct tr_buf *out)
{
    size_t count = sizeof phrasings / sizeof *phrasings;

    description = tr_str_trim(description);
    while (description.n && description.p[description.n - 1] == '.')
        description.n--;
    if (i >= (description.n ? count : 2))
        return false;
    tr_buf_clear(out);
    for (const char *p = phrasings[i]; *p; p++) {
        if (strncmp(p, "<n>", 3) == 0) {
            add_words(out, name);
            p += 2;
        } else if (strncmp(p, "<d>", 3) == 0) {
            tr_buf_adds(out, description);
            p += 2;
        } else {
            tr_buf_addc(out, *p);
        }
    }
    return true;
}
