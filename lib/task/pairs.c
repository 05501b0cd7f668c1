/* pairs.c - answers in JSON, whole or cut, in the shapes models use.
 *
 *   [417,"refund"]   [417,"a","b"]   [417,["a","b"]]
 *   {"417":"refund"}   {"id":417,"label":"refund"}   {"id":417,"labels":[..]}
 *
 * alone, or within any arrays and objects ({"a":[...]}). Only what has its
 * closing bracket or quote counts. Labels without an id are never taken by
 * their position.
 *
 * SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "task/reading.h"

#include <yyjson.h>

#define DEPTH_MAX 8        /* of arrays and objects around a pair */
#define VALUE_DEPTH_MAX 4  /* within a pair */
#define NAMES_MAX 64       /* labels of one text */
#define TREE_BYTES_MAX ((size_t)24 << 20) /* of one value: a reply of 8 MiB of
                              "0,0,0," must not become a tree of 72 MiB */

/* ctx: a bool, set when a value would be a larger tree. */
static void *alc_malloc(void *ctx, size_t size)
{
    *(bool *)ctx |= size > TREE_BYTES_MAX;
    return size > TREE_BYTES_MAX ? NULL : tr_alloc(size);
}

static void *alc_realloc(void *ctx, void *p, size_t old, size_t size)
{
    (void)old;
    *(bool *)ctx |= size > TREE_BYTES_MAX;
    return size > TREE_BYTES_MAX ? NULL : tr_resize(p, size);
}

static void alc_free(void *ctx, void *p)
{
    (void)ctx;
    tr_free(p);
}

/* The place in the text, and who reads. */
struct walk {
    struct tr_reading *r;
    const char *p, *end;
};

static void skip_blanks(struct walk *w)
{
    while (w->p < w->end && (*w->p == ' ' || *w->p == '\t' || *w->p == '\n' ||
                             *w->p == '\r'))
        w->p++;
}

static bool at(struct walk *w, char c)
{
    skip_blanks(w);
    return w->p < w->end && *w->p == c;
}

static bool take(struct walk *w, char c)
{
    if (!at(w, c))
        return false;
    w->p++;
    return true;
}

/* Behind the closing quote, or NULL. A string of JSON has no line breaks. */
static const char *string_end(const char *p, const char *end)
{
    for (p++; p < end && *p != '\n'; p++) {
        if (*p == '"')
            return p + 1;
        if (*p == '\\' && p + 1 < end)
            p++;
    }
    return NULL;
}

/* Behind the value that begins at p, if its end is there to see. */
static const char *value_end(const char *p, const char *end)
{
    int depth = 0;

    for (; p < end; p++) {
        if (*p == '"') {
            p = string_end(p, end);
            if (!p || depth == 0)
                return p;
            p--;
        } else if (*p == '[' || *p == '{') {
            if (++depth > VALUE_DEPTH_MAX)
                return NULL;
        } else if (*p == ']' || *p == '}') {
            if (depth == 0)
                return p;
            if (--depth == 0)
                return p + 1;
        } else if (depth == 0 && (*p == ',' || *p == ' ' || *p == '\n' ||
                                  *p == '\r' || *p == '\t')) {
            return p;
        }
    }
    return NULL; /* a number at the very end may go on */
}

/* The complete value here as a document; NULL leaves the place as it is. */
static yyjson_doc *take_value(struct walk *w, struct tr_str *raw)
{
    bool too_large = false;
    const yyjson_alc alc = {alc_malloc, alc_realloc, alc_free, &too_large};
    yyjson_read_err e = {0};
    const char *stop;
    yyjson_doc *doc;

    skip_blanks(w);
    stop = w->p < w->end ? value_end(w->p, w->end) : NULL;
    if (!stop || stop == w->p)
        return NULL;
    /* Without the in-situ flag yyjson does not write to its input. */
    doc = yyjson_read_opts((char *)w->p, (size_t)(stop - w->p), 0, &alc, &e);
    if (!doc) {
        if (e.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION && !too_large)
            w->r->rc = tr_fail(w->r->err, TR_NOMEM,
                               "out of memory for an answer");
        return NULL;
    }
    *raw = tr_str(w->p, (size_t)(stop - w->p));
    w->p = stop;
    return doc;
}

/* An id as a number, or as a string of digits; no signs, no leading zero. */
static bool as_id(yyjson_val *v, uint64_t *id)
{
    const char *s = yyjson_get_str(v);
    size_t n = yyjson_get_len(v);

    if (yyjson_is_uint(v)) {
        *id = yyjson_get_uint(v);
        return true;
    }
    if (!s || n == 0 || n > 9 || (s[0] == '0' && n > 1))
        return false;
    *id = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *id = *id * 10 + (uint64_t)(s[i] - '0');
    }
    return true;
}

/* Names of labels; a label may be a number (1 to 5 stars). */
struct names {
    struct tr_str name[NAMES_MAX];
    char digits[NAMES_MAX][24];
    size_t n;
    bool bad; /* something that can be no label */
};

static void add_name(struct names *names, yyjson_val *v)
{
    struct tr_buf b;

    if (names->n == NAMES_MAX || (!yyjson_is_str(v) && !yyjson_is_int(v))) {
        names->bad = true;
        return;
    }
    if (yyjson_is_str(v)) {
        names->name[names->n++] =
            tr_str(yyjson_get_str(v), yyjson_get_len(v));
        return;
    }
    tr_buf_init(&b, 0);
    tr_buf_addf(&b, yyjson_is_uint(v) ? "%llu" : "%lld",
                (unsigned long long)yyjson_get_uint(v));
    if (tr_buf_ok(&b) && b.n < sizeof names->digits[0]) {
        memcpy(names->digits[names->n], b.p, b.n);
        names->name[names->n] = tr_str(names->digits[names->n], b.n);
        names->n++;
    } else {
        names->bad = true;
    }
    tr_buf_release(&b);
}

static void add_names(struct names *names, yyjson_val *v)
{
    size_t i, max;
    yyjson_val *one;

    if (yyjson_is_arr(v)) {
        yyjson_arr_foreach(v, i, max, one)
            add_name(names, one);
    } else {
        add_name(names, v);
    }
}

static enum tr_match match_names(struct tr_reading *r,
                                 const struct names *names, bool was_list,
                                 uint64_t *set)
{
    if (names->bad)
        return TR_MATCH_NOT;
    if (names->n == 1 && !was_list) /* "a|b" in one string */
        return tr_match_labels(r, names->name[0], set);
    return tr_match_names(r, names->name, names->n, set);
}

/* A model that repeats the data before it answers says [417,"its text"]. */
static bool is_echo(struct tr_reading *r, uint64_t id,
                    const struct names *names, enum tr_match match,
                    uint64_t set)
{
    ptrdiff_t i = tr_find_item(r, id);

    if (i < 0 || names->bad || names->n != 1 ||
        !tr_str_eq(names->name[0], r->items[i].text))
        return false;
    if (match == TR_MATCH_NOT) {
        r->echoes++;
        return true;
    }
    /* Its text is the name of a label: an echo only if others are echoed. */
    r->said[i].echo = true;
    r->said[i].echo_set = set;
    r->claims++;
    return true;
}

/* [id, label...]; junk: more than a comma follows on its line. */
static bool claim_pair(struct tr_reading *r, yyjson_val *arr, bool junk)
{
    struct names *names;
    enum tr_match match;
    size_t i, max;
    yyjson_val *v;
    bool list = false;
    uint64_t set = 0;
    uint64_t id;

    if (!as_id(yyjson_arr_get_first(arr), &id))
        return false;
    names = tr_alloc(sizeof *names);
    if (!names) {
        r->rc = tr_fail(r->err, TR_NOMEM, "out of memory for an answer");
        return true;
    }
    yyjson_arr_foreach(arr, i, max, v) {
        if (i == 0)
            continue;
        list = list || yyjson_is_arr(v) || i > 1;
        if (yyjson_is_arr(v) && max > 2)
            names->bad = true; /* [1,["a"],"b"]: no shape we know */
        add_names(names, v);
    }
    if (max < 2)
        names->bad = true;
    match = junk ? TR_MATCH_NOT : match_names(r, names, list, &set);
    if (junk || !is_echo(r, id, names, match, set))
        tr_claim(r, id, match, set);
    tr_free(names);
    return true;
}

/* "417": "refund", or the two members of {"id":417,"label":"refund"}. */
static void claim_value(struct tr_reading *r, uint64_t id, yyjson_val *v)
{
    struct names *names = tr_alloc(sizeof *names);
    enum tr_match match;
    uint64_t set = 0;

    if (!names) {
        r->rc = tr_fail(r->err, TR_NOMEM, "out of memory for an answer");
        return;
    }
    if (yyjson_is_obj(v) && yyjson_obj_size(v) == 1) {
        yyjson_val *inner = yyjson_obj_get(v, "label");

        v = inner ? inner : yyjson_obj_get(v, "labels");
    }
    add_names(names, v);
    match = match_names(r, names, yyjson_is_arr(v), &set);
    tr_claim(r, id, match, set);
    tr_free(names);
}

static enum tr_json walk(struct walk *w, int depth);

/* What follows a pair that stands alone on its line. */
static bool junk_follows(const struct walk *w)
{
    const char *p = w->p;

    while (p < w->end && strchr(" \t\r,;`", *p) && *p)
        p++;
    return p < w->end && *p != '\n' && *p != '[' && *p != '{';
}

static enum tr_json walk_pair(struct walk *w, int depth)
{
    const char *from = w->p;
    struct tr_str raw;
    yyjson_doc *doc = take_value(w, &raw);
    bool was;

    if (!doc)
        return depth ? TR_JSON_STUCK : TR_JSON_NOT;
    /* "[417] refund" is a line, not JSON. */
    if (depth == 0 && yyjson_arr_size(yyjson_doc_get_root(doc)) < 2)
        was = false;
    else
        was = claim_pair(w->r, yyjson_doc_get_root(doc),
                         depth == 0 && junk_follows(w));
    yyjson_doc_free(doc);
    if (!was)
        w->p = from;
    return was ? TR_JSON_DONE : TR_JSON_NOT;
}

static enum tr_json walk_array(struct walk *w, int depth)
{
    const char *from = w->p;
    char c;

    w->p++;
    skip_blanks(w);
    c = w->p < w->end ? *w->p : 0;
    if (take(w, ']'))
        return depth ? TR_JSON_DONE : TR_JSON_NOT;
    if (c != '[' && c != '{') {
        w->p = from;
        return (c >= '0' && c <= '9') || c == '"' ? walk_pair(w, depth)
                                                  : TR_JSON_NOT;
    }
    do {
        skip_blanks(w);
        if (walk(w, depth + 1) != TR_JSON_DONE)
            return TR_JSON_STUCK;
    } while (tr_may_go_on(w->r) && take(w, ','));
    return take(w, ']') ? TR_JSON_DONE : TR_JSON_STUCK;
}

/* One object while its members come in. */
struct object {
    uint64_t id;
    bool has_id;
    yyjson_doc *label;
};

static bool is_any(struct tr_str key, const char *const *words)
{
    for (; *words; words++)
        if (tr_str_eq_c(key, *words))
            return true;
    return false;
}

/* Does a wrapper begin here (an array or object of answers), not a value? */
static bool wraps(struct walk *w, bool has_id)
{
    const char *p;

    if (at(w, '{'))
        return true;
    if (has_id || !at(w, '['))
        return false;
    for (p = w->p + 1; p < w->end && strchr(" \t\r\n", *p) && *p; p++)
        ;
    return p < w->end && *p != '"';
}

static enum tr_json walk_member(struct walk *w, int depth, struct object *o)
{
    static const char *const id_words[] = {"id", "ID", "Id", NULL};
    static const char *const label_words[] = {"label", "labels", "Label",
                                              "Labels", "LABEL", NULL};
    struct tr_str raw, name;
    yyjson_doc *key, *value = NULL;
    enum tr_json rc = TR_JSON_STUCK;
    uint64_t id;

    if (!at(w, '"'))
        return TR_JSON_STUCK;
    key = take_value(w, &raw);
    if (!key)
        return TR_JSON_STUCK;
    name = tr_str(yyjson_get_str(yyjson_doc_get_root(key)),
                  yyjson_get_len(yyjson_doc_get_root(key)));
    if (!take(w, ':'))
        goto out;
    skip_blanks(w);
    if (as_id(yyjson_doc_get_root(key), &id)) {
        value = take_value(w, &raw);
        if (!value)
            goto out;
        claim_value(w->r, id, yyjson_doc_get_root(value));
    } else if (is_any(name, id_words)) {
        value = take_value(w, &raw);
        if (!value || o->has_id)
            goto out; /* two ids in one object: whose label is it? */
        o->has_id = as_id(yyjson_doc_get_root(value), &o->id);
        if (!o->has_id)
            goto out;
    } else if (is_any(name, label_words) && !wraps(w, o->has_id)) {
        value = take_value(w, &raw);
        if (!value || o->label)
            goto out;
        o->label = value;
        value = NULL;
    } else if (wraps(w, false)) {
        rc = walk(w, depth + 1);
        goto out;
    } else {
        value = take_value(w, &raw); /* some other member ... */
        if (!value)
            goto out;
        /* ... that is no second id under another name */
        if (as_id(yyjson_doc_get_root(value), &id) &&
            tr_find_item(w->r, id) >= 0)
            goto out;
    }
    rc = TR_JSON_DONE;
out:
    yyjson_doc_free(value);
    yyjson_doc_free(key);
    return rc;
}

static enum tr_json walk_object(struct walk *w, int depth)
{
    struct object o = {0};
    enum tr_json rc = TR_JSON_DONE;

    w->p++;
    if (take(w, '}'))
        return depth ? TR_JSON_DONE : TR_JSON_NOT;
    do {
        skip_blanks(w);
        rc = walk_member(w, depth, &o);
    } while (rc == TR_JSON_DONE && tr_may_go_on(w->r) && take(w, ','));
    if (rc == TR_JSON_DONE && !take(w, '}'))
        rc = TR_JSON_STUCK;
    if (rc != TR_JSON_DONE)
        rc = TR_JSON_STUCK;
    else if (o.has_id && o.label)
        claim_value(w->r, o.id, yyjson_doc_get_root(o.label));
    else if (o.has_id)
        tr_claim(w->r, o.id, TR_MATCH_NOT, 0);
    yyjson_doc_free(o.label);
    return rc;
}

static enum tr_json walk(struct walk *w, int depth)
{
    if (depth > DEPTH_MAX || w->p == w->end)
        return TR_JSON_STUCK;
    if (*w->p == '[')
        return walk_array(w, depth);
    if (*w->p == '{')
        return walk_object(w, depth);
    return TR_JSON_STUCK;
}

enum tr_json tr_read_json(struct tr_reading *r, struct tr_str text,
                          size_t *at_byte)
{
    struct walk w = {r, text.p + *at_byte, text.p + text.n};
    uint32_t before = r->claims + r->echoes;
    enum tr_json what = walk(&w, 0);

    if (what == TR_JSON_NOT || (what == TR_JSON_STUCK &&
                                r->claims + r->echoes == before))
        return TR_JSON_NOT;
    *at_byte = (size_t)(w.p - text.p);
    return what;
}
