/* match.c - what a model wrote after an id, as labels of the task.
 *
 * The name as it stands wins. Otherwise quotes, marks and a final stop are
 * peeled off, and ASCII case and kinds of blanks are ignored; then everything
 * that fits must be the same label.
 *
 * SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "base/utf8.h"
#include "task/reading.h"

#define PEELS_MAX 8

bool tr_unwrap(struct tr_str *s)
{
    static const struct {
        const char *open, *close;
    } pairs[] = {
        {"\"", "\""}, {"'", "'"}, {"`", "`"}, {"*", "*"}, {"_", "_"},
        {"\xe2\x80\x9c", "\xe2\x80\x9d"}, /* curly double quotes */
        {"\xe2\x80\x98", "\xe2\x80\x99"}, /* curly single quotes */
        {"\xc2\xab", "\xc2\xbb"},         /* guillemets */
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t a = strlen(pairs[i].open), b = strlen(pairs[i].close);

        if (s->n > a + b && tr_str_begins(*s, pairs[i].open) &&
            tr_str_ends(*s, pairs[i].close)) {
            *s = tr_utf8_trim(tr_str(s->p + a, s->n - a - b));
            return true;
        }
    }
    return false;
}

/* The same, or one '.', ',' or ';' or ideographic stop at the end. */
static bool peel(struct tr_str *s)
{
    static const char *const stops[] = {".", ",", ";", "\xe3\x80\x82"};

    if (tr_unwrap(s))
        return true;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        size_t n = strlen(stops[i]);

        if (s->n > n && tr_str_ends(*s, stops[i])) {
            *s = tr_utf8_trim(tr_str(s->p, s->n - n));
            return true;
        }
    }
    return false;
}

enum tr_match tr_match_label(const struct tr_task *task, struct tr_str s,
                             uint32_t *label)
{
    int32_t found;

    s = tr_utf8_trim(s);
    found = tr_task_label(task, s);
    if (found >= 0) {
        *label = (uint32_t)found;
        return TR_MATCH_EXACT;
    }
    for (int i = 0; i < PEELS_MAX; i++) {
        int32_t here = tr_task_label_like(task, s);

        if (here >= 0 && found >= 0 && here != found)
            return TR_MATCH_NOT; /* 'A' and A. are both labels: which? */
        if (here >= 0)
            found = here;
        if (!peel(&s))
            break;
    }
    if (found < 0)
        return TR_MATCH_NOT;
    *label = (uint32_t)found;
    return TR_MATCH_FORGIVEN;
}

static bool push(struct tr_reading *r, uint32_t label)
{
    if (r->label_count == r->label_cap) {
        uint32_t cap = r->label_cap ? r->label_cap * 2 : 16;
        uint32_t *labels = tr_resize(r->labels, cap * sizeof *labels);

        if (!labels) {
            r->rc = tr_fail(r->err, TR_NOMEM, "out of memory for an answer");
            return false;
        }
        r->labels = labels;
        r->label_cap = cap;
    }
    r->labels[r->label_count++] = label;
    return true;
}

static enum tr_match worse(enum tr_match a, enum tr_match b)
{
    return a < b ? a : b;
}

/* Several labels where one is asked for, or "none of these" beside one of
 * these, are no set: the store keeps every set that was ever made. */
static bool may_be_a_set(const struct tr_reading *r)
{
    bool several = false, none = false;

    for (uint32_t i = 0; i < r->label_count; i++) {
        several = several || r->labels[i] != r->labels[0];
        none = none || (int32_t)r->labels[i] == r->task->none;
    }
    return !several || (r->task->multiple && !none);
}

static enum tr_match close_set(struct tr_reading *r, enum tr_match match,
                               uint64_t *set)
{
    struct tr_task *t = r->task;

    if (match == TR_MATCH_NOT || !may_be_a_set(r))
        return TR_MATCH_NOT;
    if (r->label_count == 0) {
        if (!t->multiple)
            return TR_MATCH_NOT;
        *set = t->none >= 0 ? (uint32_t)t->none : TR_SET_NOTHING;
        return match;
    }
    r->rc = tr_task_set(t, r->labels, r->label_count, set, r->err);
    if (r->rc == TR_CONFIG) { /* no room: whoever asks will find it full */
        r->rc = TR_OK;
        return TR_MATCH_NOT;
    }
    return r->rc == TR_OK ? match : TR_MATCH_NOT;
}

static bool is_dash(struct tr_str s, enum tr_match *match)
{
    s = tr_utf8_trim(s);
    *match = TR_MATCH_EXACT;
    do {
        if (tr_str_eq_c(s, "-"))
            return true;
        *match = TR_MATCH_FORGIVEN;
        if (tr_str_eq_c(s, "\xe2\x80\x93") || tr_str_eq_c(s, "\xe2\x80\x94"))
            return true;
    } while (peel(&s));
    return false;
}

enum tr_match tr_match_names(struct tr_reading *r, const struct tr_str *names,
                             size_t n, uint64_t *set)
{
    enum tr_match match;
    uint32_t label;

    r->label_count = 0;
    if (n == 1 && r->task->multiple && is_dash(names[0], &match))
        return close_set(r, match, set);
    match = TR_MATCH_EXACT;
    for (size_t i = 0; i < n && match != TR_MATCH_NOT; i++) {
        match = worse(match, tr_match_label(r->task, names[i], &label));
        if (match != TR_MATCH_NOT && !push(r, label))
            return TR_MATCH_NOT;
    }
    return close_set(r, match, set);
}

/* Every part between the separators is a label, or nothing is. */
static enum tr_match match_split(struct tr_reading *r, struct tr_str s,
                                 char by, uint64_t *set)
{
    enum tr_match match = by == '|' ? TR_MATCH_EXACT : TR_MATCH_FORGIVEN;
    const char *bar;
    uint32_t label;

    r->label_count = 0;
    do {
        size_t n;

        bar = s.n ? memchr(s.p, by, s.n) : NULL;
        n = bar ? (size_t)(bar - s.p) : s.n;
        match = worse(match,
                      tr_match_label(r->task, tr_str(s.p, n), &label));
        if (match == TR_MATCH_NOT || !push(r, label))
            return TR_MATCH_NOT;
        if (bar)
            s = tr_str(bar + 1, s.n - n - 1);
    } while (bar);
    return close_set(r, match, set);
}

enum tr_match tr_match_labels(struct tr_reading *r, struct tr_str s,
                              uint64_t *set)
{
    enum tr_match match = tr_match_names(r, &s, 1, set);

    if (match != TR_MATCH_NOT || !r->task->multiple || r->rc != TR_OK)
        return match;
    s = tr_utf8_trim(s);
    match = match_split(r, s, '|', set);
    if (match == TR_MATCH_NOT && r->rc == TR_OK)
        match = match_split(r, s, ',', set);
    while (match == TR_MATCH_NOT && r->rc == TR_OK && peel(&s)) {
        match = worse(match_split(r, s, '|', set), TR_MATCH_FORGIVEN);
        if (match == TR_MATCH_NOT && r->rc == TR_OK)
            match = match_split(r, s, ',', set);
    }
    return match;
}
