/* local_accuracy.c - how often the local model is right, and how fast it is.
 *
 *   local_accuracy DATA LABELS
 *
 * DATA holds the labelled sets as NAME/test.csv and NAME/train.csv (columns
 * id, text, label), LABELS the descriptions NAME.yaml a user would write. A
 * set that is not there is left out. Every figure is over the whole test file;
 * the step is taken on 2,000 of its texts, evenly spread; examples are drawn
 * from the training file, 8 a label, ten times.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "encode/encoder.h"
#include "encode/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define LABELS_MAX 128
#define EXAMPLES 8
#define DRAWS 10
#define SLICE 256

static const struct {
    const char *name, *id_prefix, *title;
} sets[] = {
    {"ag-news", "", "AG News"},
    {"sib-200", "sib-eng_Latn", "SIB-200 English"},
    {"banking77", "", "Banking77"},
    {"sms-spam", "", "SMS spam"},
};

struct rows {
    char *bytes; /* owned; texts lie in it, quotes undone */
    struct tr_str *texts;
    uint32_t *gold;
    size_t count;
};

struct labels {
    char *bytes; /* owned */
    struct tr_str name[LABELS_MAX], description[LABELS_MAX];
    size_t count;
};

_Noreturn static void die(const char *what, const char *why)
{
    fprintf(stderr, "local_accuracy: %s: %s\n", what, why);
    exit(1);
}

static void *need(void *p)
{
    if (!p)
        die("memory", "out of it");
    return p;
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *bytes;
    size_t n;

    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    n = (size_t)ftell(f);
    rewind(f);
    bytes = need(tr_alloc(n + 1));
    if (fread(bytes, 1, n, f) != n)
        die(path, "cannot be read");
    fclose(f);
    return bytes;
}

/* "  name: description" lines below "labels:". */
static bool read_labels(struct labels *l, const char *path)
{
    char *line = l->bytes = read_file(path);

    l->count = 0;
    while (line && *line) {
        char *end = line + strcspn(line, "\n"), *colon = strstr(line, ": ");

        if (strncmp(line, "  ", 2) == 0 && colon && colon < end) {
            if (l->count == LABELS_MAX)
                die(path, "too many labels");
            l->name[l->count] = tr_str(line + 2, (size_t)(colon - line) - 2);
            l->description[l->count++] = tr_str(colon + 2,
                                                (size_t)(end - colon) - 2);
        }
        line = end + (*end == '\n');
    }
    return l->bytes != NULL;
}

/* One CSV field, unquoted in place; *p moves behind its comma or line end. */
static struct tr_str read_field(char **p)
{
    char *from = *p, *to = *p;
    struct tr_str field = {*p, 0};
    bool quoted = *from == '"';

    from += quoted;
    while (*from && (quoted || (*from != ',' && *from != '\n'))) {
        if (quoted && *from == '"') {
            from++;
            if (*from != '"')
                break;
        }
        *to++ = *from++;
    }
    field.n = (size_t)(to - field.p);
    *p = from + (*from != '\0');
    return field;
}

static uint32_t find_label(const struct labels *l, struct tr_str name,
                           const char *path)
{
    for (size_t k = 0; k < l->count; k++)
        if (tr_str_eq(l->name[k], name))
            return (uint32_t)k;
    die(path, "a label without description");
}

static bool read_rows(struct rows *r, const struct labels *l, const char *path,
                      const char *id_prefix)
{
    char *p = r->bytes = read_file(path);
    size_t cap = 0;

    if (!p)
        return false;
    for (char *c = p; *c; c++)
        cap += *c == '\n';
    r->texts = need(tr_array(cap + 1, sizeof *r->texts));
    r->gold = need(tr_array(cap + 1, sizeof *r->gold));
    r->count = 0;
    p += strcspn(p, "\n") + 1;
    while (*p) {
        struct tr_str id = read_field(&p), text = read_field(&p);
        struct tr_str label = read_field(&p);

        if (id.n < strlen(id_prefix) ||
            memcmp(id.p, id_prefix, strlen(id_prefix)) != 0)
            continue;
        r->texts[r->count] = text;
        r->gold[r->count++] = find_label(l, label, path);
    }
    return true;
}

static void rows_release(struct rows *r)
{
    tr_free(r->bytes);
    tr_free(r->texts);
    tr_free(r->gold);
}

static float *encode(struct tr_encoder *e, const struct tr_str *texts, size_t n)
{
    size_t dim = (size_t)tr_encoder_dim(e);
    float *v = need(tr_array(n * dim + 1, sizeof *v));
    struct tr_err err;

    for (size_t i = 0; i < n; i += SLICE)
        if (tr_encoder_run(e, texts + i, n - i < SLICE ? n - i : SLICE,
                           v + i * dim, NULL, &err) != TR_OK)
            die("encoder", err.text);
    return v;
}

static float *encode_labels(struct tr_encoder *e, const struct labels *l)
{
    size_t dim = (size_t)tr_encoder_dim(e);
    float *c = need(tr_array(l->count * dim, sizeof *c));
    struct tr_buf text;

    tr_buf_init(&text, 0);
    for (size_t k = 0; k < l->count; k++)
        for (size_t i = 0;
             tr_phrasing(i, l->name[k], l->description[k], &text); i++) {
            struct tr_str phrase = tr_buf_str(&text);
            float *v = encode(e, &phrase, 1);

            for (size_t d = 0; d < dim; d++)
                c[k * dim + d] += v[d];
            tr_free(v);
        }
    tr_unit_vectors(c, l->count, dim);
    tr_buf_release(&text);
    return c;
}

/* EXAMPLES of each label, drawn without replacement (or all there are). */
static size_t draw(const struct rows *train, const struct labels *l,
                   uint64_t seed, struct tr_str *texts, uint32_t *of)
{
    size_t *mine = need(tr_array(train->count + 1, sizeof *mine)), n = 0;
    struct tr_rng rng = {seed};

    for (uint32_t k = 0; k < l->count; k++) {
        size_t have = 0;

        for (size_t i = 0; i < train->count; i++)
            if (train->gold[i] == k)
                mine[have++] = i;
        for (size_t i = 0; i < EXAMPLES && i < have; i++) {
            size_t pick = i + (size_t)tr_rng_below(&rng, have - i);
            size_t at = mine[pick];

            mine[pick] = mine[i];
            texts[n] = train->texts[at];
            of[n++] = k;
        }
    }
    tr_free(mine);
    return n;
}

static double accuracy(const float *prototypes, const struct labels *l,
                       size_t dim, const float *v, const struct rows *test)
{
    size_t right = 0;

    for (size_t i = 0; i < test->count; i++)
        right += tr_prototypes_score(prototypes, l->count, dim, v + i * dim)
                     .label == test->gold[i];
    return 100.0 * (double)right / (double)test->count;
}

static void run_set(struct tr_encoder *e, const struct labels *l,
                    const struct rows *test, const struct rows *train,
                    const char *title)
{
    size_t dim = (size_t)tr_encoder_dim(e), sampled = test->count;
    float *m = need(tr_array(l->count * dim, sizeof *m));
    struct tr_str *texts = need(tr_array(l->count * EXAMPLES, sizeof *texts));
    uint32_t *of = need(tr_array(l->count * EXAMPLES, sizeof *of));
    float *c = encode_labels(e, l), *v, *sample;
    double sum = 0, low = 100, high = 0, plain, stepped, took_s;
    int64_t before_ns = tr_clock_mono_ns();

    v = encode(e, test->texts, test->count);
    took_s = (double)(tr_clock_mono_ns() - before_ns) / 1e9;
    if (sampled > TR_LOCAL_SAMPLE_MAX)
        sampled = TR_LOCAL_SAMPLE_MAX;
    sample = need(tr_array(sampled * dim, sizeof *sample));
    for (size_t i = 0; i < sampled; i++)
        memcpy(sample + i * dim, v + i * test->count / sampled * dim,
               dim * sizeof *v);

    tr_prototypes_fit(m, l->count, dim, c, NULL, NULL, 0, NULL, 0);
    plain = accuracy(m, l, dim, v, test);
    tr_prototypes_fit(m, l->count, dim, c, NULL, NULL, 0, sample, sampled);
    stepped = accuracy(m, l, dim, v, test);
    for (uint64_t seed = 1; seed <= DRAWS; seed++) {
        size_t n = draw(train, l, seed, texts, of);
        float *examples = encode(e, texts, n);
        double got;

        tr_prototypes_fit(m, l->count, dim, c, examples, of, n, sample,
                          sampled);
        got = accuracy(m, l, dim, v, test);
        sum += got;
        low = got < low ? got : low;
        high = got > high ? got : high;
        tr_free(examples);
    }
    printf("| %-15s | %5zu | %8.1f | %8.1f | %6.1f (%.1f - %.1f) | %6.0f |\n",
           title, test->count, plain, stepped, sum / DRAWS, low, high,
           (double)test->count / took_s);
    fflush(stdout);
    tr_free(m);
    tr_free(texts);
    tr_free(of);
    tr_free(c);
    tr_free(v);
    tr_free(sample);
}

int main(int argc, char **argv)
{
    char path[1024];
    struct tr_encoder *e;
    struct tr_err err;
    struct rusage used;
    int64_t before_ns;

    if (argc != 3) {
        fprintf(stderr, "usage: local_accuracy DATA LABELS\n");
        return 2;
    }
    if (!tr_local_find_model(path, sizeof path))
        die("model", "not built");
    before_ns = tr_clock_mono_ns();
    if (tr_encoder_open(&e, path, 0, &err) != TR_OK)
        die("model", err.text);
    printf("%s, loaded in %.3f s, %d threads\n\n", tr_encoder_name(e),
           (double)(tr_clock_mono_ns() - before_ns) / 1e9,
           tr_encoder_threads(e));
    printf("| set             | texts | no step  | one step | 8 examples: mean "
           "(low - high) | texts/s |\n|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct labels l;
        struct rows test, train;

        snprintf(path, sizeof path, "%s/%s.yaml", argv[2], sets[i].name);
        if (!read_labels(&l, path))
            die(path, "cannot be read");
        snprintf(path, sizeof path, "%s/%s/test.csv", argv[1], sets[i].name);
        if (read_rows(&test, &l, path, sets[i].id_prefix)) {
            snprintf(path, sizeof path, "%s/%s/train.csv", argv[1],
                     sets[i].name);
            if (!read_rows(&train, &l, path, sets[i].id_prefix))
                die(path, "cannot be read");
            run_set(e, &l, &test, &train, sets[i].title);
            rows_release(&test);
            rows_release(&train);
        }
        tr_free(l.bytes);
    }
    getrusage(RUSAGE_SELF, &used);
    printf("\npeak memory %ld MB, with all texts and vectors of a set\n",
           used.ru_maxrss / 1024);
    tr_encoder_close(e);
    return 0;
}
