/* texts.c - the gold file, and one counter pair per distinct text.
 *
 * Reads CSV with a reader of its own, on purpose: the judge of a run must not
 * share a reader with what it judges.
 *
 * SPDX-License-Identifier: MIT */
#include "fake/texts.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide;

static uint64_t mix(uint64_t a, uint64_t b)
{
    wide m = (wide)a * b;

    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Multiply and fold, 8 bytes a step: the texts are ours, no one attacks it. */
uint64_t fake_hash(struct tr_str s)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ s.n, w;
    size_t i;

    for (i = 0; i + 8 <= s.n; i += 8) {
        memcpy(&w, s.p + i, 8);
        h = mix(h ^ w, 0xd6e8feb86659fd93u);
    }
    w = 0;
    if (s.n > i)
        memcpy(&w, s.p + i, s.n - i);
    h = mix(h ^ w, 0xa0761d6478bd642fu);
    h = mix(h ^ 0xe7037ed1a0b428dbu, 0x8ebc6af09c88c6e3u);
    return h ? h : 1;
}

/* ---- words ------------------------------------------------------------ */

static int words_grow(struct fake_words *w)
{
    uint32_t cap = w->slot_cap ? w->slot_cap * 2 : 64, *slots;
    char **p = tr_resize(w->p, cap * sizeof *p);

    if (!p)
        return TR_NOMEM;
    w->p = p;
    slots = tr_array(cap, sizeof *slots);
    if (!slots)
        return TR_NOMEM;
    for (uint32_t i = 0; i < w->n; i++) {
        uint64_t at = fake_hash(tr_str_c(p[i]));

        while (slots[at & (cap - 1)])
            at++;
        slots[at & (cap - 1)] = i + 1;
    }
    tr_free(w->slots);
    w->slots = slots;
    w->slot_cap = cap;
    return TR_OK;
}

/* Index of s + 1; 0 when out of memory. */
static uint32_t words_add(struct fake_words *w, struct tr_str s)
{
    uint64_t at = fake_hash(s);
    uint32_t i;

    if (w->n * 2 >= w->slot_cap && words_grow(w) != TR_OK)
        return 0;
    for (; (i = w->slots[at & (w->slot_cap - 1)]); at++)
        if (tr_str_eq_c(s, w->p[i - 1]))
            return i;
    w->p[w->n] = tr_dup(s.p, s.n);
    if (!w->p[w->n])
        return 0;
    w->slots[at & (w->slot_cap - 1)] = ++w->n;
    return w->n;
}

static void words_release(struct fake_words *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        tr_free(w->p[i]);
    tr_free(w->p);
    tr_free(w->slots);
}

static int add_labels(struct fake_texts *t, struct tr_str s, char separator)
{
    while (s.n) {
        const char *end = memchr(s.p, separator, s.n);
        size_t n = end ? (size_t)(end - s.p) : s.n;
        struct tr_str one = tr_str_trim(tr_str(s.p, n));

        if (one.n && !words_add(&t->labels, one))
            return TR_NOMEM;
        n += end != NULL;
        s = tr_str(s.p + n, s.n - n);
    }
    return TR_OK;
}

/* ---- texts ------------------------------------------------------------ */

static int texts_grow(struct fake_texts *t)
{
    size_t cap = t->cap ? t->cap * 2 : 1024;
    struct fake_text *slots = tr_array(cap, sizeof *slots);

    if (!slots)
        return TR_NOMEM;
    for (size_t i = 0; i < t->cap; i++) {
        uint64_t at = t->slots[i].hash;

        if (!at)
            continue;
        while (slots[at & (cap - 1)].hash)
            at++;
        slots[at & (cap - 1)] = t->slots[i];
    }
    tr_free(t->slots);
    t->slots = slots;
    t->cap = cap;
    return TR_OK;
}

struct fake_text *fake_texts_at(struct fake_texts *t, uint64_t hash)
{
    uint64_t at = hash;

    if (t->n * 2 >= t->cap && texts_grow(t) != TR_OK)
        return NULL;
    for (;; at++) {
        struct fake_text *slot = &t->slots[at & (t->cap - 1)];

        if (slot->hash == hash)
            return slot;
        if (!slot->hash) {
            slot->hash = hash;
            t->n++;
            return slot;
        }
    }
}

void fake_texts_clear(struct fake_texts *t)
{
    for (size_t i = 0; i < t->cap; i++)
        t->slots[i].asked = t->slots[i].paid = 0;
}

void fake_texts_close(struct fake_texts *t)
{
    tr_free(t->slots);
    words_release(&t->answers);
    words_release(&t->labels);
    *t = (struct fake_texts){0};
}

/* ---- CSV -------------------------------------------------------------- */

struct csv {
    FILE *file;
    const char *name;
    int delimiter;
    uint64_t line;
    struct tr_buf bytes;  /* fields of the record, unquoted, one after another */
    size_t ends[4096];    /* where each field ends in bytes */
    size_t fields;
};

static int csv_end_field(struct csv *c, struct tr_err *err)
{
    if (c->fields == sizeof c->ends / sizeof *c->ends)
        return tr_fail(err, TR_DATA, "%s:%llu: more than %zu fields", c->name,
                       (unsigned long long)c->line, c->fields);
    c->ends[c->fields++] = c->bytes.n;
    return TR_OK;
}

static struct tr_str csv_field(const struct csv *c, size_t i)
{
    size_t begin = i ? c->ends[i - 1] : 0;

    return tr_str(c->bytes.p + begin, c->ends[i] - begin);
}

static bool csv_at_start(const struct csv *c)
{
    return c->bytes.n == (c->fields ? c->ends[c->fields - 1] : 0);
}

static bool csv_at_line_end(struct csv *c)
{
    int b = getc_unlocked(c->file);

    if (b != EOF)
        ungetc(b, c->file);
    return b == '\n' || b == EOF;
}

/* One record: 1, or 0 at the end of the file, or an error. */
static int csv_next(struct csv *c, struct tr_err *err)
{
    bool quoted = false, any = false;
    int b, rc;

    tr_buf_clear(&c->bytes);
    c->fields = 0;
    c->line++;
    while ((b = getc_unlocked(c->file)) != EOF) {
        if (quoted) {
            if (b != '"') {
                c->line += b == '\n';
            } else {
                b = getc_unlocked(c->file);
                if (b != '"') {
                    quoted = false;
                    if (b != EOF)
                        ungetc(b, c->file);
                    continue;
                }
            }
            tr_buf_addc(&c->bytes, (char)b);
        } else if (b == '"' && csv_at_start(c)) {
            quoted = any = true;
        } else if (b == c->delimiter) {
            any = true;
            TRY(csv_end_field(c, err));
        } else if (b == '\n') {
            if (any)
                break;
            c->line++;
        } else if (b != '\r' || !csv_at_line_end(c)) {
            any = true;
            tr_buf_addc(&c->bytes, (char)b);
        }
    }
    if (!any)
        return 0;
    TRY(csv_end_field(c, err));
    if (!tr_buf_ok(&c->bytes))
        return tr_fail(err, TR_DATA, "%s:%llu: record too long, or out of "
                       "memory", c->name, (unsigned long long)c->line);
    return 1;
out:
    return rc;
}

/* To the first byte behind a byte order mark. */
static void csv_rewind(FILE *f)
{
    char mark[3];

    rewind(f);
    if (fread(mark, 1, sizeof mark, f) != sizeof mark ||
        memcmp(mark, "\xef\xbb\xbf", sizeof mark) != 0)
        rewind(f);
}

/* The delimiter that the header holds most of. */
static int csv_delimiter(FILE *f)
{
    static const char marks[] = ",;\t|";
    int count[4] = {0}, best = 0, b;
    const char *mark;

    while ((b = getc_unlocked(f)) != EOF && b != '\n')
        if (b && (mark = strchr(marks, b)) != NULL)
            count[mark - marks]++;
    csv_rewind(f);
    for (int i = 1; i < 4; i++)
        if (count[i] > count[best])
            best = i;
    return marks[best];
}

static int csv_column(const struct csv *c, const char *name, size_t *out,
                      struct tr_err *err)
{
    for (size_t i = 0; i < c->fields; i++) {
        struct tr_str field = csv_field(c, i);

        if (tr_str_eq_c(field, name)) {
            *out = i;
            return TR_OK;
        }
    }
    return tr_fail(err, TR_DATA, "%s has no column '%s'; name it with --text "
                   "or --label", c->name, name);
}

static int add_row(struct fake_texts *t, struct tr_str text, struct tr_str gold)
{
    struct fake_text *slot = fake_texts_at(t, fake_hash(text));

    if (!slot || !(slot->answer = words_add(&t->answers, gold)))
        return TR_NOMEM;
    return TR_OK;
}

static int read_gold(struct fake_texts *t, const char *path, const char *text,
                     const char *label, struct tr_err *err)
{
    static struct csv c; /* 32 KiB of field ends: not on the stack */
    size_t text_at = 0, label_at = 0;
    int rc;

    c = (struct csv){.file = fopen(path, "rb"), .name = path};
    if (!c.file)
        return tr_fail(err, TR_NOINPUT, "%s cannot be opened: %s; check the "
                       "name and its permissions", path, strerror(errno));
    tr_buf_init(&c.bytes, 64u << 20);
    c.delimiter = csv_delimiter(c.file);
    rc = csv_next(&c, err);
    if (rc == 0)
        rc = tr_fail(err, TR_DATA, "%s is empty", path);
    if (rc < 0)
        goto out;
    TRY(csv_column(&c, text, &text_at, err));
    TRY(csv_column(&c, label, &label_at, err));
    while ((rc = csv_next(&c, err)) == 1) {
        if (c.fields <= text_at || c.fields <= label_at) {
            rc = tr_fail(err, TR_DATA, "%s:%llu: only %zu fields", path,
                         (unsigned long long)c.line, c.fields);
            goto out;
        }
        rc = add_row(t, csv_field(&c, text_at), csv_field(&c, label_at));
        if (rc != TR_OK) {
            rc = tr_fail(err, rc, "%s: out of memory", path);
            goto out;
        }
    }
out:
    tr_buf_release(&c.bytes);
    fclose(c.file);
    return rc;
}

int fake_texts_open(struct fake_texts *t, const char *gold, const char *text,
                    const char *label, const char *labels, struct tr_err *err)
{
    int rc;

    *t = (struct fake_texts){0};
    if (gold)
        TRY(read_gold(t, gold, text, label, err));
    TRY(add_labels(t, tr_str_c(labels), ','));
    /* Without --labels the labels are those of the gold file. */
    for (uint32_t i = 0; !labels && i < t->answers.n; i++)
        TRY(add_labels(t, tr_str_c(t->answers.p[i]), '|'));
    if (!t->labels.n)
        TRY(tr_fail(err, TR_DATA, "there is no label to answer with"));
out:
    if (rc != TR_OK)
        fake_texts_close(t);
    return rc;
}
