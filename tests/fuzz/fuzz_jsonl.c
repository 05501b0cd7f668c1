/* fuzz_jsonl.c - the JSON reader of rows against yyjson: the same lines are
 * objects, with the same members and values; and what is escaped is read back.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "base/bounds.h"
#include "rows/jsonl.h"

#include <yyjson.h>

enum { CAP = 40 };

static yyjson_doc *parse(struct tr_str s)
{
    return yyjson_read_opts((char *)(size_t)(const void *)s.p, s.n,
                            YYJSON_READ_NUMBER_AS_RAW, NULL, NULL);
}

/* "\ud8" to "\udf": the line may hold half of a surrogate pair, which is the
 * affair of who unescapes it. */
static bool may_be_half(struct tr_str s)
{
    for (size_t i = 0; i + 3 < s.n; i++)
        if (s.p[i] == '\\' && s.p[i + 1] == 'u' && (s.p[i + 2] | 32) == 'd')
            return true;
    return false;
}

static size_t depth_of(yyjson_val *v)
{
    size_t deepest = 0, i, n;
    yyjson_val *key, *inner;

    if (yyjson_is_obj(v)) {
        yyjson_obj_foreach(v, i, n, key, inner) {
            size_t d = depth_of(inner);

            deepest = d > deepest ? d : deepest;
        }
    } else if (yyjson_is_arr(v)) {
        yyjson_arr_foreach(v, i, n, inner) {
            size_t d = depth_of(inner);

            deepest = d > deepest ? d : deepest;
        }
    } else {
        return 0;
    }
    return deepest + 1;
}

static void check_string(struct tr_str body, yyjson_val *want)
{
    struct tr_buf b;

    tr_buf_init(&b, 0);
    CHECK(tr_json_unescape(body, &b));
    CHECK(tr_str_eq(tr_buf_str(&b), tr_str(yyjson_get_str(want),
                                           yyjson_get_len(want))));
    tr_buf_release(&b);
}

static void check_members(const struct tr_json_member *m, size_t count,
                          yyjson_val *object)
{
    yyjson_val *key, *value;
    size_t i, n;

    CHECK(yyjson_obj_size(object) == count);
    yyjson_obj_foreach(object, i, n, key, value) {
        yyjson_doc *alone = parse(m[i].value);

        check_string(m[i].key, key);
        CHECK(alone && yyjson_equals(yyjson_doc_get_root(alone), value));
        if (yyjson_is_str(value))
            check_string(tr_json_body(m[i].value), value);
        yyjson_doc_free(alone);
    }
}

/* Any text as a JSON string comes back as it was. */
static void check_escaping(struct tr_str s)
{
    struct tr_buf b;
    yyjson_doc *doc;

    tr_buf_init(&b, 0);
    tr_buf_add_json(&b, s);
    doc = parse(tr_buf_str(&b));
    CHECK(doc);
    CHECK(tr_str_eq(s, tr_str(yyjson_get_str(yyjson_doc_get_root(doc)),
                              yyjson_get_len(yyjson_doc_get_root(doc)))));
    check_string(tr_json_body(tr_buf_str(&b)), yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    tr_buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct tr_str line = tr_str((const char *)data, n);
    struct tr_json_member members[CAP];
    struct tr_json_fault fault = {0};
    size_t count;
    bool ours = tr_json_object(line, members, CAP, &count, &fault), theirs;
    yyjson_doc *doc;
    yyjson_val *root;

    CHECK(count <= CAP);
    if (!ours)
        CHECK(fault.at <= n && fault.what && fuzz_is_plain(fault.what));
    for (size_t i = 0; ours && i < count; i++) {
        const char *p = members[i].value.p;

        CHECK(p >= line.p && p + members[i].value.n <= line.p + n);
        CHECK(members[i].value.n > 0);
    }
    if (fuzz_utf8_valid(line) < n || (n && memchr(line.p, 0, n)))
        return 0; /* no row: its bytes are looked at before */
    check_escaping(line);
    doc = parse(line);
    root = yyjson_doc_get_root(doc);
    theirs = yyjson_is_obj(root) && yyjson_obj_size(root) <= CAP &&
             depth_of(root) <= TR_JSON_DEPTH_MAX;
    if (theirs)
        CHECK(ours);
    else if (!may_be_half(line))
        CHECK(!ours);
    if (ours && theirs)
        check_members(members, count, root);
    yyjson_doc_free(doc);
    return 0;
}
