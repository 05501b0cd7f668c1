/* faulty.c - what is said about a bad record, and how it is kept.
 *
 * A kept record has the right number of columns and loses no byte, unless it is
 * over-long or would grow to more than twice its bytes: sound fields stay, the
 * rest of the line becomes one quoted field.
 *
 * SPDX-License-Identifier: MIT */
#include "base/utf8.h"
#include "rows/reading.h"

#include <stdio.h>

static const char *name_of(const struct tr_source *src)
{
    return tr_input_name(src, src->file);
}

int tr_faulty_say(const struct tr_source *src, int code, size_t at,
                  bool keepable, struct tr_err *err, const char *what,
                  const char *remedy)
{
    struct tr_str bytes = tr_feed_bytes(src);
    uint64_t line = src->feed.line;
    size_t line_at = 0;

    if (at > bytes.n)
        at = bytes.n;
    for (size_t i = 0; i < at; i++) {
        if (bytes.p[i] == '\n') {
            line++;
            line_at = i + 1;
        }
    }
    return tr_fail(err, code, "%s, line %llu, column %zu: %s; %s%s",
                   name_of(src), (unsigned long long)line,
                   tr_utf8_count(tr_str(bytes.p + line_at, at - line_at)) + 1,
                   what, remedy,
                   keepable ? ", or keep such rows with --on-bad-row fail"
                            : "");
}

void tr_faulty_csv(struct tr_found *found, enum tr_csv_result result,
                   bool at_limit)
{
    static const struct {
        const char *what, *remedy;
    } said[] = {
        [TR_CSV_UNCLOSED] = {"the quote that opens here is never closed",
                             "close it, or double it where it is part of a "
                             "quoted text"},
        [TR_CSV_STRAY] = {"a quote stands inside a field that does not begin "
                          "with one",
                          "put the whole field in quotes and double the "
                          "quotes in it"},
        [TR_CSV_AFTER] = {"text follows a closing quote",
                          "double the quotes that are part of the text"},
        [TR_CSV_BARE_CR] = {"a carriage return stands without a line feed",
                            "put the field in quotes, or turn old line ends "
                            "into new ones with tr '\\r' '\\n'"},
    };

    found->why = TR_WHY_BAD_QUOTE;
    found->what = said[result].what;
    found->remedy = said[result].remedy;
    if (result == TR_CSV_UNCLOSED && at_limit)
        found->what = "the quote that opens here is not closed within 8 MiB";
}

static bool plain_for_shell(const char *z)
{
    for (; *z; z++) {
        bool ok = (*z >= 'a' && *z <= 'z') || (*z >= 'A' && *z <= 'Z') ||
                  (*z >= '0' && *z <= '9') || strchr("_./+-", *z);

        if (!ok)
            return false;
    }
    return true;
}

/* The command that converts the input in work to UTF-8. */
static void add_iconv(const struct tr_source *src, const char *from,
                      struct tr_buf *out)
{
    const char *path = src->paths[src->file];
    const char *slash = strrchr(path, '/');
    struct tr_str new_name = tr_str_c(slash ? slash + 1 : path);
    const char *dot = NULL;
    const char *q;

    if (strcmp(path, "-") == 0) {
        tr_buf_addf(out, "pipe it through iconv -f %s -t UTF-8", from);
        return;
    }
    /* A name with a quote in it would need more than one pair of quotes. */
    q = plain_for_shell(path) || strchr(path, '\'') ? "" : "'";
    for (size_t i = 0; i < new_name.n; i++) {
        if (new_name.p[i] == '.' && i) {
            dot = new_name.p + i;
            break;
        }
    }
    if (dot)
        new_name.n = (size_t)(dot - new_name.p);
    if (tr_intake_packed(src->feed.in)) {
        bool zst = strlen(path) > 4 &&
                   strcmp(path + strlen(path) - 4, ".zst") == 0;

        tr_buf_addf(out, "%s -dc %s%s%s | iconv -f %s -t UTF-8 > ",
                    zst ? "zstd" : "gzip", q, path, q, from);
    } else {
        tr_buf_addf(out, "iconv -f %s -t UTF-8 %s%s%s > ", from, q, path, q);
    }
    tr_buf_addf(out, "%s%.*s.utf8%s%s", q, (int)new_name.n, new_name.p,
                src->format == TR_FMT_JSONL   ? ".jsonl"
                : src->format == TR_FMT_TSV   ? ".tsv"
                : src->format == TR_FMT_LINES ? ".txt"
                                              : ".csv",
                q);
}

int tr_faulty_utf16(const struct tr_source *src, struct tr_err *err)
{
    struct tr_buf remedy;
    int rc;

    tr_buf_init(&remedy, 0);
    tr_buf_addz(&remedy, "convert it with ");
    add_iconv(src, "UTF-16", &remedy);
    rc = tr_faulty_say(src, TR_DATA, 0, false, err, "this is UTF-16",
                       tr_buf_ok(&remedy) ? remedy.p : "convert it to UTF-8");
    tr_buf_release(&remedy);
    return rc;
}

/* Clauses that depend on the record. */
static void fields_clauses(const struct tr_source *src, struct tr_buf *what,
                           struct tr_buf *remedy)
{
    uint32_t have = src->csv.fields, want = src->column_count;

    if (!src->found.n) {
        tr_buf_addf(what, "an empty line where %u fields belong", want);
        tr_buf_addz(remedy, "remove it");
        return;
    }
    tr_buf_addf(what, "%u field%s where the %s has %u", have,
                have == 1 ? "" : "s",
                src->no_header ? "first line" : "header", want);
    if (have < want)
        tr_buf_addz(remedy, "add the missing ones, empty if need be");
    else
        tr_buf_addf(remedy, "put quotes around the field that holds the extra "
                            "%s",
                    src->delimiter == '\t'  ? "TAB"
                    : src->delimiter == ',' ? "','"
                    : src->delimiter == ';' ? "';'"
                                            : "delimiter");
}

static void utf8_clauses(const struct tr_source *src, struct tr_buf *what,
                         struct tr_buf *remedy)
{
    struct tr_str record = tr_str(tr_feed_bytes(src).p, src->found.n);

    if (tr_utf8_looks_1252(record)) {
        tr_buf_addz(what, "not valid UTF-8, it looks like Windows-1252");
        tr_buf_addz(remedy, "convert it with ");
        add_iconv(src, "WINDOWS-1252", remedy);
    } else {
        tr_buf_addz(what, "not valid UTF-8");
        tr_buf_addz(remedy, "save the file as UTF-8 or correct the bytes");
    }
}

int tr_faulty_row(struct tr_source *src, bool keepable, struct tr_err *err)
{
    struct tr_found *f = &src->found;
    struct tr_buf what, remedy;
    int rc;

    tr_buf_init(&what, 0);
    tr_buf_init(&remedy, 0);
    if (f->what) {
        tr_buf_addz(&what, f->what);
        tr_buf_addz(&remedy, f->remedy);
    } else if (f->why == TR_WHY_BAD_FIELDS) {
        fields_clauses(src, &what, &remedy);
    } else if (f->why == TR_WHY_BAD_UTF8) {
        utf8_clauses(src, &what, &remedy);
    } else if (f->why == TR_WHY_BAD_NUL) {
        tr_buf_addz(&what, "a NUL byte");
        tr_buf_addz(&remedy, "remove it, for example with tr -d '\\000'");
    } else {
        tr_buf_addz(&what, "the record is longer than 8 MiB");
        tr_buf_addz(&remedy, "split it, or correct the quote or line end "
                             "that is missing");
    }
    rc = tr_buf_ok(&what) && tr_buf_ok(&remedy)
             ? tr_faulty_say(src, TR_DATA, f->bad_at, keepable, err, what.p,
                             remedy.p)
             : tr_fail(err, TR_NOMEM, "no memory to say what is wrong in %s",
                       name_of(src));
    tr_buf_release(&what);
    tr_buf_release(&remedy);
    return rc;
}

static void pad(const struct tr_source *src, uint32_t have, struct tr_buf *out)
{
    for (; have < src->column_count; have++)
        tr_buf_addc(out, src->delimiter);
}

/* As tr_csv_quote(), but always with quotes: the bytes were not a field. */
static void quoted(struct tr_str value, struct tr_buf *out)
{
    const char *p = value.p, *end = value.p + value.n;

    tr_buf_addc(out, '"');
    while (p < end) {
        const char *quote = memchr(p, '"', (size_t)(end - p));

        tr_buf_add(out, p, (size_t)((quote ? quote + 1 : end) - p));
        if (!quote)
            break;
        tr_buf_addc(out, '"');
        p = quote + 1;
    }
    tr_buf_addc(out, '"');
}

static void keep_delimited(struct tr_source *src, struct tr_str record,
                           struct tr_buf *out, bool *as_is)
{
    const struct tr_found *f = &src->found;

    if (f->why == TR_WHY_BAD_FIELDS && src->csv.fields < src->column_count) {
        tr_buf_adds(out, record);
        pad(src, src->csv.fields, out);
    } else if (f->why == TR_WHY_BAD_QUOTE && f->good < src->column_count) {
        tr_buf_add(out, record.p, f->good_n);
        quoted(tr_str(record.p + f->good_n, record.n - f->good_n), out);
        pad(src, f->good + 1, out);
    } else if (f->why == TR_WHY_BAD_FIELDS || f->why == TR_WHY_BAD_QUOTE ||
               f->why == TR_WHY_OVER_LONG) {
        quoted(record, out);
        pad(src, 1, out);
    } else {
        *as_is = true;
    }
}

/* So much of a record that it is at most max bytes as a JSON string: only many
 * control bytes make one more than twice as long. */
static struct tr_str cut_for_json(struct tr_str record, size_t max)
{
    size_t n = 0, grown = 0;

    while (n < record.n) {
        unsigned char c = (unsigned char)record.p[n];
        size_t more = c == '\t' || c == '\r' || c == '"' || c == '\\' ? 2
                    : c < 0x20 || c == 0x7f ? 6
                    : c == 0xe2 ? 4 /* U+2028: six for three */ : 1;

        if (grown + more > max)
            break;
        grown += more;
        n++;
    }
    return tr_str(record.p, tr_utf8_cut(record, n));
}

void tr_faulty_keep(struct tr_source *src, struct tr_buf *out, bool *as_is)
{
    struct tr_str record = tr_str(tr_feed_bytes(src).p, src->found.n);

    *as_is = false;
    if (src->format == TR_FMT_LINES) {
        *as_is = true;
    } else if (src->format != TR_FMT_JSONL) {
        keep_delimited(src, record, out, as_is);
    } else if (src->found.object) {
        *as_is = true;
    } else {
        tr_buf_addz(out, "{\"raw\":");
        tr_buf_add_json(out, cut_for_json(record,
                                          2 * (size_t)TR_RECORD_BYTES_MAX));
        tr_buf_addc(out, '}');
    }
}
