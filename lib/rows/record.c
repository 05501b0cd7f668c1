/* record.c - one record: where it ends, whether it is sound, what it says.
 *
 * SPDX-License-Identifier: MIT */
#include "rows/reading.h"

#include "base/digest.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

/* ---- where a record ends ---------------------------------------------- */

/* Record and line end of a line of n bytes whose line feed stands at n; or
 * that ends with the input. */
static void end_at(struct tr_found *found, struct tr_str bytes, size_t n,
                   bool line_feed)
{
    found->next = n + line_feed;
    found->n = n && bytes.p[n - 1] == '\r' ? n - 1 : n;
    found->done = true;
}

static void over_long(struct tr_found *found, struct tr_str bytes)
{
    found->why = TR_WHY_OVER_LONG;
    found->bad_at = 0;
    found->n = tr_utf8_cut(bytes, TR_RECORD_BYTES_MAX);
    found->next = found->n;
    found->cut = true;
    found->done = true;
}

/* The end of the line that begins at or after from; false: not in memory. */
static bool find_line_end(struct tr_found *found, struct tr_str bytes,
                          size_t from, bool final)
{
    const char *lf = from < bytes.n
                         ? memchr(bytes.p + from, '\n', bytes.n - from)
                         : NULL;

    if (lf)
        end_at(found, bytes, (size_t)(lf - bytes.p), true);
    else if (final)
        end_at(found, bytes, bytes.n, false);
    else if (bytes.n < TR_SCAN_BYTES)
        return false;
    if (!found->done || found->n > TR_RECORD_BYTES_MAX)
        over_long(found, bytes);
    return true;
}

static bool find_line(struct tr_source *src, struct tr_str bytes, bool final)
{
    bool found = find_line_end(&src->found, bytes, src->looked, final);

    src->looked = bytes.n;
    return found;
}

static bool find_csv(struct tr_source *src, struct tr_str bytes, bool final)
{
    struct tr_found *found = &src->found;
    struct tr_csv_record *csv = &src->csv;

    if (found->why == TR_WHY_NONE) {
        enum tr_csv_result result =
            tr_csv_scan(csv, bytes, final, src->delimiter);
        bool at_limit = bytes.n == TR_SCAN_BYTES;

        if (result == TR_CSV_MORE && !at_limit)
            return false;
        if (result == TR_CSV_RECORD && csv->n <= TR_RECORD_BYTES_MAX) {
            found->n = csv->n;
            found->next = csv->next;
            found->done = true;
            return true;
        }
        if (result == TR_CSV_MORE && csv->open) {
            result = TR_CSV_UNCLOSED;
            csv->bad_at = csv->field_at;
        }
        if (result == TR_CSV_MORE || result == TR_CSV_RECORD) {
            over_long(found, bytes);
            return true;
        }
        tr_faulty_csv(found, result, at_limit);
        found->bad_at = csv->bad_at;
        found->good = csv->fields;
        found->good_n = csv->field_at;
    }
    /* A bad quote: go on at the line after the one where its field began. */
    return find_line_end(found, bytes, csv->field_at, final);
}

bool tr_record_find(struct tr_source *src)
{
    struct tr_str bytes = tr_feed_bytes(src);
    bool final = src->feed.final;

    if (bytes.n > TR_SCAN_BYTES) {
        bytes.n = TR_SCAN_BYTES;
        final = false;
    }
    if (src->format == TR_FMT_CSV || src->format == TR_FMT_TSV)
        return find_csv(src, bytes, final);
    return find_line(src, bytes, final);
}

/* Where a line is a text of its own, a blank one is an empty text. */
static bool blank_is_text(const struct tr_source *src)
{
    return src->format == TR_FMT_LINES ||
           (src->format != TR_FMT_JSONL && src->column_count < 2);
}

/* The length of the line end at p, 0 for anything else; -1: not in memory. */
static int line_end(const char *p, size_t n, bool final)
{
    if (p[0] != '\r')
        return p[0] == '\n';
    if (n == 1)
        return final ? 1 : -1;
    return p[1] == '\n' ? 2 : 0;
}

enum tr_rest tr_record_rest(struct tr_source *src)
{
    struct tr_feed *f = &src->feed;
    struct tr_str bytes = tr_feed_bytes(src);
    int n = 1;

    f->blanks_count |= !f->rows; /* a file of blank lines is no file of rows */
    if (f->blanks_count || blank_is_text(src))
        return TR_REST_ROWS;
    /* So many that they would fill the memory are no slip of an editor. */
    while (src->looked < bytes.n && src->looked < TR_SCAN_BYTES) {
        n = line_end(bytes.p + src->looked, bytes.n - src->looked, f->final);
        if (n <= 0)
            break;
        src->looked += (size_t)n;
    }
    if (src->looked == bytes.n && f->final)
        return TR_REST_BLANK;
    if ((src->looked == bytes.n || n < 0) && bytes.n < TR_SCAN_BYTES)
        return TR_REST_MORE;
    f->blanks_count = true;
    src->looked = 0;
    return TR_REST_ROWS;
}

/* ---- is the record sound ---------------------------------------------- */

static void wrong(struct tr_found *found, enum tr_why why, size_t at)
{
    found->why = why;
    found->bad_at = at;
}

static void judge_bytes(struct tr_source *src, struct tr_str record)
{
    const char *nul = memchr(record.p, '\0', record.n);
    size_t valid;

    if (nul) {
        wrong(&src->found, TR_WHY_BAD_NUL, (size_t)(nul - record.p));
        return;
    }
    valid = tr_utf8_valid(record);
    if (valid < record.n)
        wrong(&src->found, TR_WHY_BAD_UTF8, valid);
}

static void judge_csv(struct tr_source *src, struct tr_str record)
{
    const struct tr_csv_record *csv = &src->csv;
    uint32_t want = src->column_count;

    if (csv->fields != want) {
        bool extra = csv->fields > want && want < csv->ends_cap;

        wrong(&src->found, TR_WHY_BAD_FIELDS,
              extra ? csv->ends[want - 1] : csv->n);
    } else if (csv->nul_at != TR_CSV_NOWHERE) {
        wrong(&src->found, TR_WHY_BAD_NUL, csv->nul_at);
    } else if (csv->high) {
        size_t valid = tr_utf8_valid(record);

        if (valid < record.n)
            wrong(&src->found, TR_WHY_BAD_UTF8, valid);
    }
}

int tr_record_plain_keys(struct tr_source *src, struct tr_err *err)
{
    for (size_t i = 0; i < src->member_count; i++) {
        struct tr_str *key = &src->members[i].key;
        struct tr_str plain;

        if (!memchr(key->p, '\\', key->n))
            continue;
        tr_buf_clear(&src->scratch);
        /* A name that is no Unicode stays as it is spelled. */
        if (!tr_json_unescape(*key, &src->scratch))
            continue;
        plain = tr_arena_dup(&src->keys, tr_buf_str(&src->scratch));
        if (!tr_buf_ok(&src->scratch) || !plain.p)
            return tr_fail(err, TR_NOMEM, "no memory for member names");
        *key = plain;
    }
    return TR_OK;
}

static void bad_member(struct tr_source *src, const char *what, const char *at)
{
    src->found.what = what;
    wrong(&src->found, TR_WHY_BAD_MEMBER,
          at ? (size_t)(at - tr_feed_bytes(src).p) : 0);
}

/* A clash ends the run, so all names are looked at for one before a name that
 * stands twice makes a bad row, which is kept as it is. */
static int check_keys(struct tr_source *src, struct tr_err *err)
{
    struct tr_json_member *m = src->members;

    for (size_t i = 0; i < src->member_count; i++) {
        for (int c = 0; c < TR_COMPANIONS; c++) {
            char what[160];

            if (!tr_str_eq(m[i].key, src->style.names[c]))
                continue;
            snprintf(what, sizeof what, "there is already a member \"%.*s\"",
                     (int)tr_utf8_cut(m[i].key, 40), m[i].key.p);
            return tr_faulty_say(src, TR_USAGE, 0, false, err, what,
                                 "give the label another name with --as NAME");
        }
    }
    for (size_t i = 0; i < src->member_count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (!tr_str_eq(m[i].key, m[j].key))
                continue;
            src->found.remedy = "rename or remove one of the two";
            bad_member(src, "a member name stands twice in the object",
                       m[i].value.p);
            return TR_OK;
        }
    }
    return TR_OK;
}

/* -1: there is none of this name. */
static ptrdiff_t member_at(const struct tr_source *src, struct tr_str name)
{
    for (size_t i = 0; i < src->member_count; i++)
        if (tr_str_eq(src->members[i].key, name))
            return (ptrdiff_t)i;
    return -1;
}

/* A member of this name is missing; which: what it is for. */
static void no_member(struct tr_source *src, struct tr_str name,
                      const char *which)
{
    bool path = name.n && memchr(name.p, '.', name.n);

    snprintf(src->said, sizeof src->said, "the member %s, \"%.*s\", is missing"
             "%s", which, (int)tr_utf8_cut(name, 40), name.p,
             path ? ", and only members of the outer object can be named" : "");
    if (path)
        src->found.remedy = "bring those inside of it out, for example with "
                            "jq -c '.text = .meta.text'";
    bad_member(src, src->said, NULL);
}

/* Where text and marks are in this row. */
static void find_members(struct tr_source *src)
{
    static const struct {
        const char *not_plain, *which;
    } marks[TR_MARKS] = {
        [TR_MARK_LABEL] = {"the member with the label is not a string or "
                           "number", "with the label"},
        [TR_MARK_PARTY] = {"the member that keeps rows apart is not a string "
                           "or number", "that keeps rows apart"},
    };

    src->found.remedy = src->said_text.remedy;
    for (uint32_t t = 0; t < src->text_count; t++) {
        ptrdiff_t i = member_at(src, src->text[t].name);

        if (i < 0) {
            no_member(src, src->text[t].name, "to label");
            return;
        }
        if (src->members[i].value.p[0] != '"') {
            bad_member(src, "the member to label is not a string",
                       src->members[i].value.p);
            return;
        }
        src->text[t].at = (uint32_t)i;
    }
    for (int k = 0; k < TR_MARKS; k++) {
        struct tr_column *c = &src->mark[k];
        ptrdiff_t i;

        if (!c->name.n)
            continue;
        i = member_at(src, c->name);
        src->found.remedy = src->said_mark[k].remedy;
        if (i < 0) {
            no_member(src, c->name, marks[k].which);
            return;
        }
        if (strchr("{[", src->members[i].value.p[0])) {
            bad_member(src, marks[k].not_plain, src->members[i].value.p);
            return;
        }
        c->at = (uint32_t)i;
    }
}

static int judge_jsonl(struct tr_source *src, struct tr_str record,
                       struct tr_err *err)
{
    struct tr_found *found = &src->found;
    struct tr_json_fault fault;
    int rc;

    src->member_count = 0;
    judge_bytes(src, record);
    if (found->why != TR_WHY_NONE)
        return TR_OK;
    found->object = tr_json_object(record, src->members, TR_FIELDS_MAX,
                                   &src->member_count, &fault);
    if (!found->object) {
        struct tr_str start = tr_str_trim(record);

        found->what = fault.what;
        found->remedy = "correct the line";
        if (!start.n) {
            found->what = "an empty line where a JSON object belongs";
            found->remedy = "remove it";
        } else if (start.p[0] == '[') {
            found->what = "this is a JSON array, not one object per line";
            found->remedy = "convert it with jq -c '.[]'";
        } else if (start.p[0] != '{') {
            found->remedy = "write one object per line, such as "
                            "{\"text\": \"...\"}";
        } else if (fault.at >= record.n) { /* it goes on in the next, or not */
            found->what = "the line ends before its object does";
            found->remedy = "write each object in one line, as jq -c . does";
        }
        wrong(found, TR_WHY_BAD_JSON, fault.at);
        return TR_OK;
    }
    TRY(tr_record_plain_keys(src, err));
    TRY(check_keys(src, err));
    if (found->why == TR_WHY_NONE)
        find_members(src);
out:
    return rc;
}

int tr_record_judge(struct tr_source *src, struct tr_str record,
                    struct tr_err *err)
{
    if (src->format == TR_FMT_JSONL)
        return judge_jsonl(src, record, err);
    if (src->format == TR_FMT_LINES)
        judge_bytes(src, record);
    else
        judge_csv(src, record);
    return TR_OK;
}

/* ---- values ----------------------------------------------------------- */

/* The value as a slice of the record; false: it has to be written out. */
static bool plain_value(const struct tr_source *src, struct tr_str record,
                        uint32_t at, struct tr_str *value)
{
    if (src->format == TR_FMT_LINES) {
        *value = record;
        return true;
    }
    if (src->format != TR_FMT_JSONL)
        return tr_csv_plain(tr_csv_field(&src->csv, record.p, at), value);
    *value = src->members[at].value;
    if (value->p[0] == '"')
        *value = tr_json_body(*value);
    return !value->n || !memchr(value->p, '\\', value->n);
}

/* False: half of a surrogate pair in a JSON string. */
static bool add_value(const struct tr_source *src, struct tr_str record,
                      uint32_t at, struct tr_buf *out)
{
    struct tr_str value;

    if (plain_value(src, record, at, &value)) {
        tr_buf_adds(out, value);
        return true;
    }
    if (src->format == TR_FMT_JSONL)
        return tr_json_unescape(value, out);
    tr_csv_unquote(tr_csv_field(&src->csv, record.p, at), out);
    return true;
}

static void json_text(struct tr_found *found, enum tr_why why,
                      const char *what)
{
    found->why = why;
    found->bad_at = 0;
    found->what = what;
    found->remedy = "correct the line";
}

void tr_record_text(struct tr_source *src, struct tr_str record,
                    struct tr_str *text)
{
    struct tr_buf *b = &src->scratch;
    bool several = src->text_count > 1, sound = true;

    if (!several && plain_value(src, record, src->text[0].at, text))
        return;
    tr_buf_clear(b);
    for (uint32_t i = 0; i < src->text_count; i++) {
        size_t before = b->n, named;

        if (several) {
            if (b->n)
                tr_buf_addc(b, '\n');
            tr_buf_adds(b, src->text[i].name);
            tr_buf_addz(b, ": ");
        }
        named = b->n;
        sound &= add_value(src, record, src->text[i].at, b);
        /* A blank part says nothing; without it, equal texts are equal, and a
         * text of such parts alone is empty. */
        if (several && (b->n == named ||
                        !tr_str_trim(tr_str(b->p + named, b->n - named)).n))
            b->n = before;
    }
    *text = tr_buf_str(b);
    if (!sound)
        json_text(&src->found, TR_WHY_BAD_UTF8,
                  "half of a \\u surrogate pair in the text");
    else if (src->format == TR_FMT_JSONL && text->n &&
             memchr(text->p, '\0', text->n))
        json_text(&src->found, TR_WHY_BAD_NUL, "a NUL character in the text");
}

struct tr_str tr_record_mark(struct tr_source *src, struct tr_str record,
                             enum tr_mark which, const char *half)
{
    const struct tr_column *c = &src->mark[which];
    struct tr_str value = {NULL, 0};

    if (!c->name.n || plain_value(src, record, c->at, &value))
        return value;
    tr_buf_clear(&src->mark_buf);
    if (!add_value(src, record, c->at, &src->mark_buf))
        json_text(&src->found, TR_WHY_BAD_UTF8, half);
    return tr_buf_str(&src->mark_buf);
}

uint64_t tr_record_party(struct tr_source *src, struct tr_str record)
{
    struct tr_str value = tr_record_mark(src, record, TR_MARK_PARTY,
                                         "half of a \\u surrogate pair in "
                                         "what keeps rows apart");
    struct tr_key digest = tr_digest(NULL, value);
    uint64_t party;

    if (!src->mark[TR_MARK_PARTY].name.n)
        return 0;
    memcpy(&party, digest.b, sizeof party);
    return party ? party : 1;
}
