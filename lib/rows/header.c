/* header.c - the begin of a file: marks, delimiter, header, columns.
 * SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "base/near.h"
#include "base/utf8.h"
#include "rows/reading.h"

#include <stdio.h>
#include <strings.h>

#define SAMPLE_RECORDS 200u
#define NAME_SHOWN 40
#define LIST_SHOWN 400

enum { MORE = 0, STARTED = 1 };

static const char delimiters[] = {',', ';', '\t', '|'};

static void list_names(const struct tr_str *names, size_t n, struct tr_buf *out)
{
    size_t before = out->n;

    for (size_t i = 0; i < n; i++) {
        if (out->n - before > LIST_SHOWN) {
            tr_buf_addf(out, " and %zu more", n - i);
            return;
        }
        if (i)
            tr_buf_addz(out, ", ");
        tr_buf_add(out, names[i].p, tr_utf8_cut(names[i], NAME_SHOWN));
        if (!names[i].n)
            tr_buf_addz(out, "(no name)");
    }
}

/* The name that wish is most likely to mean, or one with p NULL. */
static struct tr_str nearest(struct tr_str wish, const struct tr_str *names,
                             size_t n)
{
    struct tr_str best = {NULL, 0};
    size_t best_distance = 1 + wish.n / 3;

    for (size_t i = 0; i < n; i++) {
        size_t d = tr_edits(wish, names[i]);

        if (!names[i].n)
            continue;
        if (d < best_distance || (d == best_distance && !best.p)) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

/* ---- columns ---------------------------------------------------------- */

static bool column_at(const struct tr_source *src, struct tr_str name,
                      uint32_t *at)
{
    for (uint32_t i = 0; i < src->column_count; i++) {
        if (tr_str_eq(src->columns[i], name)) {
            *at = i;
            return true;
        }
    }
    return false;
}

static const char *noun(const struct tr_source *src)
{
    return src->format == TR_FMT_JSONL ? "member" : "column";
}

static int no_column(struct tr_source *src, struct tr_str wish,
                     const char *option, struct tr_err *err)
{
    struct tr_str near = nearest(wish, src->columns, src->column_count);
    struct tr_buf what, remedy;
    int rc;

    tr_buf_init(&what, 0);
    tr_buf_init(&remedy, 0);
    tr_buf_addf(&what, "there is no %s \"%.*s\"", noun(src),
                (int)tr_utf8_cut(wish, NAME_SHOWN), wish.p);
    if (near.p)
        tr_buf_addf(&what, " (did you mean \"%.*s\"?)", (int)near.n, near.p);
    tr_buf_addf(&remedy, "name one of these %ss with %s: ", noun(src), option);
    list_names(src->columns, src->column_count, &remedy);
    rc = tr_buf_ok(&what) && tr_buf_ok(&remedy)
             ? tr_faulty_say(src, TR_DATA, 0, false, err, what.p, remedy.p)
             : TR_NOMEM;
    tr_buf_release(&what);
    tr_buf_release(&remedy);
    return rc;
}

static int default_text(struct tr_source *src, struct tr_column *text,
                        struct tr_err *err)
{
    bool json = src->format == TR_FMT_JSONL;
    bool named = !json && !src->no_header;
    struct tr_buf remedy;
    int rc;

    if (column_at(src, TR_STR("text"), &text->at))
        return TR_OK;
    if (src->column_count == 1) {
        text->at = 0;
        text->name = src->columns[0];
        return TR_OK;
    }
    tr_buf_init(&remedy, 0);
    tr_buf_addf(&remedy, "name the one to label with %s: ",
                src->said_text.option);
    list_names(src->columns, src->column_count, &remedy);
    if (named && !src->none_bad) /* a file of examples has no such option */
        tr_buf_addz(&remedy, "; if that line is a row already, add "
                             "--no-header");
    rc = tr_faulty_say(src, TR_DATA, 0, false, err,
                       json    ? "none of the members is called text"
                       : named ? "the first line is taken for the names of the "
                                 "columns, and none is called text"
                               : "there are several columns",
                       tr_buf_ok(&remedy) ? remedy.p : src->said_text.remedy);
    tr_buf_release(&remedy);
    return rc;
}

/* The names asked for: the whole wish when a column is called so, else its
 * parts between commas. JSONL takes any name: rows may differ. */
static int choose_text(struct tr_source *src, struct tr_err *err)
{
    bool any_name = src->format == TR_FMT_JSONL;
    struct tr_str wish = src->text_wish;
    size_t parts = 1;
    uint32_t at;

    for (size_t i = 0; i < wish.n; i++)
        parts += wish.p[i] == ',';
    src->text = tr_array(parts, sizeof *src->text);
    if (!src->text)
        return tr_fail(err, TR_NOMEM, "no memory for the columns");
    if (!src->text_given) {
        src->text[0].name = TR_STR("text");
        src->text_count = 1;
        return any_name && !src->columns ? TR_OK
                                         : default_text(src, src->text, err);
    }
    if (column_at(src, wish, &at)) {
        src->text[0] = (struct tr_column){wish, at};
        src->text_count = 1;
        return TR_OK;
    }
    while (parts--) {
        const char *comma = wish.n ? memchr(wish.p, ',', wish.n) : NULL;
        size_t n = comma ? (size_t)(comma - wish.p) : wish.n;
        struct tr_str name = tr_str_trim(tr_str(wish.p, n));
        struct tr_column *text = &src->text[src->text_count++];

        text->name = name;
        for (const struct tr_column *t = src->text; t < text; t++)
            if (tr_str_eq(t->name, name))
                return tr_fail(err, TR_USAGE, "%s names \"%.*s\" twice; once "
                               "is enough", src->said_text.option,
                               (int)tr_utf8_cut(name, NAME_SHOWN), name.p);
        if (!column_at(src, name, &text->at) &&
            (!any_name || src->columns))
            return no_column(src, name, src->said_text.option, err);
        if (comma)
            wish = tr_str(wish.p + n + 1, wish.n - n - 1);
    }
    return TR_OK;
}

static int clash(struct tr_source *src, struct tr_str name, struct tr_err *err)
{
    char what[160];

    snprintf(what, sizeof what, "there is already a %s \"%.*s\"", noun(src),
             (int)tr_utf8_cut(name, NAME_SHOWN), name.p);
    return tr_faulty_say(src, TR_USAGE, 0, false, err, what,
                         "give the label column another name with --as NAME");
}

static int check_names(struct tr_source *src, struct tr_err *err)
{
    uint32_t at;

    for (uint32_t i = 0; i < src->column_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            char what[160];

            if (!src->columns[i].n ||
                !tr_str_eq(src->columns[i], src->columns[j]))
                continue;
            snprintf(what, sizeof what, "columns %u and %u are both called "
                     "\"%.*s\"", j + 1, i + 1,
                     (int)tr_utf8_cut(src->columns[i], NAME_SHOWN),
                     src->columns[i].p);
            return tr_faulty_say(src, TR_DATA, i ? src->csv.ends[i - 1] + 1 : 0,
                                 false, err, what, "rename one of them");
        }
    }
    for (int i = 0; i < TR_COMPANIONS; i++) {
        if (column_at(src, src->style.names[i], &at))
            return clash(src, src->style.names[i], err);
    }
    return TR_OK;
}

static int choose_marks(struct tr_source *src, struct tr_err *err)
{
    for (int i = 0; i < TR_MARKS; i++) {
        struct tr_column *c = &src->mark[i];

        if (c->name.n && !column_at(src, c->name, &c->at) &&
            (src->format != TR_FMT_JSONL || src->columns))
            return no_column(src, c->name, src->said_mark[i].option, err);
    }
    return TR_OK;
}

static int choose_columns(struct tr_source *src, struct tr_err *err)
{
    int rc;

    TRY(check_names(src, err));
    TRY(choose_text(src, err));
    TRY(choose_marks(src, err));
out:
    return rc;
}

/* ---- delimiter -------------------------------------------------------- */

/* How well a delimiter fits: records like the header, then columns. */
struct fit {
    uint32_t fields, alike, seen;
};

/* MORE, STARTED (the header is sound), or -1 (it is not). */
static int fit_header(struct tr_source *src, struct tr_str bytes, bool final,
                      char delimiter, struct tr_csv_record *rec)
{
    enum tr_csv_result result;

    *rec = (struct tr_csv_record){.ends = src->csv.ends,
                                  .ends_cap = src->csv.ends_cap};
    tr_csv_begin(rec);
    result = tr_csv_scan(rec, bytes, final, delimiter);
    if (result == TR_CSV_RECORD)
        return STARTED;
    return result == TR_CSV_MORE && bytes.n < TR_SCAN_BYTES ? MORE : -1;
}

/* An unsound record is one unlike the header, and where the next one begins
 * is not known: the delimiter under which the file breaks does not fit. */
static struct fit fit_sample(struct tr_source *src, struct tr_str bytes,
                             bool final, char delimiter)
{
    struct tr_csv_record rec;
    struct fit fit = {0};

    while (bytes.n && fit.seen < SAMPLE_RECORDS) {
        int rc = fit_header(src, bytes, final, delimiter, &rec);

        if (rc == MORE)
            break;
        fit.seen++;
        if (rc != STARTED)
            break;
        if (fit.seen == 1)
            fit.fields = rec.fields;
        fit.alike += rec.fields == fit.fields;
        bytes = tr_str(bytes.p + rec.next, bytes.n - rec.next);
    }
    return fit;
}

static bool better(struct fit a, struct fit b)
{
    uint64_t x = (uint64_t)a.alike * b.seen, y = (uint64_t)b.alike * a.seen;

    return x != y ? x > y : a.fields > b.fields;
}

/* The header alone decides when only one delimiter stands in it; else the
 * records of the first 64 KiB do, whatever the sizes of the reads were. */
static int detect(struct tr_source *src, struct tr_str bytes, bool final)
{
    uint32_t candidates = 0;
    struct fit best = {0};
    char first = ',';

    for (size_t i = 0; i < sizeof delimiters; i++) {
        struct tr_csv_record rec;
        int rc = fit_header(src, bytes, final, delimiters[i], &rec);

        if (rc == MORE)
            return MORE;
        if (rc != STARTED || rec.fields < 2)
            continue;
        if (!candidates++)
            first = delimiters[i];
    }
    if (candidates < 2) {
        src->delimiter = first;
        return STARTED;
    }
    if (bytes.n < TR_DOUBT_BYTES && !final)
        return MORE;
    if (bytes.n > TR_DOUBT_BYTES) {
        bytes.n = TR_DOUBT_BYTES;
        final = false;
    }
    src->delimiter = first;
    for (size_t i = 0; i < sizeof delimiters; i++) {
        struct fit fit = fit_sample(src, bytes, final, delimiters[i]);

        if (fit.fields >= 2 && (!best.seen || better(fit, best))) {
            best = fit;
            src->delimiter = delimiters[i];
        }
    }
    return STARTED;
}

/* ---- header of CSV and TSV -------------------------------------------- */

static int keep_header(struct tr_source *src, struct tr_str record,
                       struct tr_err *err)
{
    struct tr_buf name;
    bool ok;

    src->header = tr_arena_dup(&src->arena, record);
    src->columns = tr_arena_alloc(&src->arena,
                                  src->csv.fields * sizeof *src->columns);
    ok = src->header.p && src->columns;
    tr_buf_init(&name, 0);
    for (uint32_t i = 0; ok && i < src->csv.fields; i++) {
        tr_buf_clear(&name);
        if (src->no_header)
            tr_buf_addf(&name, "%u", i + 1);
        else
            tr_csv_unquote(tr_csv_field(&src->csv, record.p, i), &name);
        src->columns[i] = tr_arena_dup(&src->arena, tr_buf_str(&name));
        ok = tr_buf_ok(&name) && src->columns[i].p;
    }
    tr_buf_release(&name);
    if (!ok)
        return tr_fail(err, TR_NOMEM, "no memory for the header");
    src->column_count = src->csv.fields;
    src->style.crlf = src->csv.crlf;
    src->style.delimiter = src->delimiter;
    src->has_header = true;
    return choose_columns(src, err);
}

static int compare_header(struct tr_source *src, struct tr_str record,
                          struct tr_err *err)
{
    const char *first = tr_input_name(src, 0);
    struct tr_buf name;
    char what[400];
    int rc = TR_OK;

    tr_buf_init(&name, 0);
    if (src->csv.fields != src->column_count) {
        snprintf(what, sizeof what, "%u column%s, but %s has %u",
                 src->csv.fields, src->csv.fields == 1 ? "" : "s", first,
                 src->column_count);
        rc = tr_faulty_say(src, TR_DATA, 0, false, err, what,
                           "give all inputs the same header and delimiter, "
                           "or label them one by one");
    }
    for (uint32_t i = 0; rc == TR_OK && i < src->column_count; i++) {
        struct tr_str here, there = src->columns[i];

        tr_buf_clear(&name);
        tr_csv_unquote(tr_csv_field(&src->csv, record.p, i), &name);
        here = tr_buf_str(&name);
        if (!tr_buf_ok(&name)) {
            rc = tr_fail(err, TR_NOMEM, "no memory for the header");
        } else if (!tr_str_eq(here, there)) {
            snprintf(what, sizeof what,
                     "column %u is called \"%.*s\", but \"%.*s\" in %s", i + 1,
                     (int)tr_utf8_cut(here, NAME_SHOWN), here.n ? here.p : "",
                     (int)tr_utf8_cut(there, NAME_SHOWN), there.p, first);
            rc = tr_faulty_say(src, TR_DATA, i ? src->csv.ends[i - 1] + 1 : 0,
                               false, err, what,
                               "give all inputs the same header, or label "
                               "them one by one");
        }
    }
    tr_buf_release(&name);
    return rc;
}

/* Excel's first line that names the delimiter: sep=; */
static bool is_excel_note(struct tr_str record)
{
    return record.n == 5 && strncasecmp(record.p, "sep=", 4) == 0;
}

static int excel_note(struct tr_source *src, struct tr_str record,
                      struct tr_err *err)
{
    char what[80];

    snprintf(what, sizeof what, "the line \"%.*s\" is a note for Excel and no "
             "header", (int)record.n, record.p);
    return tr_faulty_say(src, TR_DATA, 0, false, err, what,
                         "remove it (the delimiter is found without it)");
}

/* Its bytes are judged as those of a row where it is one. */
static int header_bytes(struct tr_source *src, struct tr_str record,
                        struct tr_err *err)
{
    struct tr_found *f = &src->found;
    size_t bad_at = tr_utf8_valid(record);

    if (src->csv.nul_at != TR_CSV_NOWHERE) {
        f->why = TR_WHY_BAD_NUL;
        f->bad_at = src->csv.nul_at;
        return tr_faulty_row(src, false, err);
    }
    if (bad_at < record.n) {
        f->why = TR_WHY_BAD_UTF8;
        f->bad_at = bad_at;
        return tr_faulty_row(src, false, err);
    }
    return TR_OK;
}

static int empty_header(struct tr_source *src, struct tr_err *err)
{
    return tr_faulty_say(src, TR_DATA, 0, false, err,
                         src->no_header ? "the first line is empty"
                                        : "the header line is empty",
                         src->no_header
                             ? "remove it"
                             : "begin the file with the names of the columns");
}

static int header_record(struct tr_source *src, struct tr_err *err)
{
    struct tr_str record = tr_str(tr_feed_bytes(src).p, src->found.n);
    int rc;

    if (src->found.why != TR_WHY_NONE)
        return tr_faulty_row(src, false, err);
    rc = src->no_header ? TR_OK : header_bytes(src, record, err);
    if (rc != TR_OK)
        return rc;
    if (is_excel_note(record))
        return excel_note(src, record, err);
    if (!record.n)
        return empty_header(src, err);
    if (src->csv.fields > TR_FIELDS_MAX)
        return tr_faulty_say(src, TR_DATA, 0, false, err,
                             "the header has more than 4096 columns",
                             "keep only the columns that are needed");
    if (!src->has_header)
        rc = keep_header(src, record, err);
    else if (!src->no_header)
        rc = compare_header(src, record, err);
    return rc == TR_OK ? STARTED : rc;
}

static bool looks_like_json(const struct tr_source *src)
{
    struct tr_str start = tr_str_trim(tr_feed_bytes(src));

    return start.n && start.p[0] == '{';
}

static int try_csv(struct tr_source *src, struct tr_err *err)
{
    struct tr_feed *f = &src->feed;
    int rc;

    if (!src->format_asked && looks_like_json(src))
        return tr_faulty_say(src, TR_DATA, 0, false, err,
                             "this looks like JSON Lines, not like a header",
                             "add --format jsonl");
    if (!src->delimiter && detect(src, tr_feed_bytes(src), f->final) == MORE)
        return MORE;
    src->found = (struct tr_found){0};
    tr_csv_begin(&src->csv);
    if (!tr_record_find(src))
        return MORE;
    /* A file that is only a header is told before anything is paid for. */
    if (src->found.next == f->to - f->from) {
        if (!f->final && tr_intake_fd(f->in) < 0)
            return MORE;
    }
    rc = header_record(src, err);
    if (rc != STARTED || src->no_header)
        return rc;
    if (src->found.next == f->to - f->from && f->final)
        return tr_faulty_say(src, TR_DATA, src->found.next, false, err,
                             "there is a header but no row",
                             "check what wrote this file");
    f->from += src->found.next;
    f->line += src->csv.line_feeds;
    return STARTED;
}

/* ---- JSON Lines and plain lines --------------------------------------- */

/* Lines that are no objects are kept as {"raw": ...}, with the companions. */
static int check_raw(struct tr_source *src, struct tr_err *err)
{
    for (int i = 0; src->bad_rows_fail && i < TR_COMPANIONS; i++) {
        if (tr_str_eq_c(src->style.names[i], "raw"))
            return clash(src, src->style.names[i], err);
    }
    return TR_OK;
}

/* The first line tells the line end and, of JSON Lines, the default text. */
static int try_line(struct tr_source *src, struct tr_err *err)
{
    struct tr_str bytes = tr_feed_bytes(src);
    struct tr_json_fault fault;
    struct tr_str line;
    int rc;

    if (src->file || src->has_header)
        return STARTED;
    src->found = (struct tr_found){0};
    src->looked = 0;
    if (!tr_record_find(src))
        return MORE;
    line = tr_str(bytes.p, src->found.n);
    src->style.crlf = src->found.next > src->found.n + 1;
    src->style.delimiter = ',';
    src->has_header = true;
    if (src->format == TR_FMT_LINES) {
        src->header = TR_STR("text");
        src->columns = &src->header;
        src->column_count = 1;
        rc = choose_columns(src, err);
        return rc == TR_OK ? STARTED : rc;
    }
    rc = check_raw(src, err);
    if (rc != TR_OK)
        return rc;
    src->member_count = 0;
    if (!src->text_given && src->found.why == TR_WHY_NONE &&
        tr_json_object(line, src->members, TR_FIELDS_MAX, &src->member_count,
                       &fault) &&
        src->member_count) {
        size_t count = src->member_count;

        rc = tr_record_plain_keys(src, err);
        if (rc != TR_OK)
            return rc;
        src->columns = tr_arena_alloc(&src->arena,
                                      count * sizeof *src->columns);
        if (!src->columns)
            return tr_fail(err, TR_NOMEM, "no memory for the members");
        for (size_t i = 0; i < count; i++) {
            src->columns[i] = tr_arena_dup(&src->arena, src->members[i].key);
            if (!src->columns[i].p)
                return tr_fail(err, TR_NOMEM, "no memory for the members");
        }
        src->column_count = (uint32_t)count;
    }
    /* Names repeat and clash row by row; here only the text is chosen. */
    rc = choose_text(src, err);
    return rc == TR_OK ? STARTED : rc;
}

/* JSON Lines or CSV, where neither --format nor a name said it. */
static int close_format(struct tr_source *src)
{
    struct tr_feed *f = &src->feed;
    struct tr_str bytes = tr_feed_bytes(src);

    if (looks_like_json(src))
        src->format = src->style.format = TR_FMT_JSONL;
    else if (!tr_str_trim(bytes).n && !f->final && bytes.n < TR_SCAN_BYTES)
        return MORE;
    src->format_open = false;
    return STARTED;
}

/* ---- any file --------------------------------------------------------- */

int tr_header_try(struct tr_source *src, struct tr_err *err)
{
    struct tr_feed *f = &src->feed;
    struct tr_str bytes = tr_feed_bytes(src);
    bool bom;
    int rc;

    if (bytes.n < 3 && !f->final)
        return MORE;
    if (!bytes.n)
        return tr_fail(err, TR_DATA,
                       "%s is empty, there is nothing to label; check what "
                       "wrote it",
                       tr_input_name(src, src->file));
    if (bytes.n >= 2 && (memcmp(bytes.p, "\xff\xfe", 2) == 0 ||
                         memcmp(bytes.p, "\xfe\xff", 2) == 0 ||
                         (!bytes.p[0] != !bytes.p[1])))
        return tr_faulty_utf16(src, err);
    bom = bytes.n >= 3 && memcmp(bytes.p, "\xef\xbb\xbf", 3) == 0;
    if (bom) {
        f->from += 3;
        bytes.n -= 3;
    }
    if (!bytes.n) {
        if (!f->final)
            rc = MORE;
        else
            rc = tr_fail(err, TR_DATA,
                         "%s holds only a byte order mark, there is nothing "
                         "to label; check what wrote it",
                         tr_input_name(src, src->file));
    } else if (src->format_open && close_format(src) == MORE) {
        rc = MORE;
    } else if (src->format == TR_FMT_CSV || src->format == TR_FMT_TSV) {
        rc = try_csv(src, err);
    } else {
        rc = try_line(src, err);
    }
    if (rc == MORE && bom)
        f->from -= 3;
    if (rc == STARTED && src->file == 0)
        src->style.bom = bom;
    return rc;
}

/* ---- summary ---------------------------------------------------------- */

int tr_header_summary(struct tr_source *src, struct tr_err *err)
{
    static const char *const words[] = {
        [TR_FMT_AUTO] = "", [TR_FMT_CSV] = "CSV", [TR_FMT_TSV] = "TSV",
        [TR_FMT_JSONL] = "JSON Lines", [TR_FMT_LINES] = "plain lines"};
    struct tr_buf b;
    bool ok;

    tr_buf_init(&b, 0);
    tr_buf_addz(&b, tr_input_name(src, 0));
    if (src->path_count > 1)
        tr_buf_addf(&b, " and %zu more", src->path_count - 1);
    tr_buf_addf(&b, ": %s", words[src->format]);
    if (src->format == TR_FMT_CSV && src->delimiter == '\t')
        tr_buf_addz(&b, " with TAB");
    else if (src->format == TR_FMT_CSV)
        tr_buf_addf(&b, " with '%c'", src->delimiter);
    if (src->format != TR_FMT_LINES) {
        tr_buf_addf(&b, ", text %s%s ", noun(src),
                    src->text_count == 1 ? "" : "s");
        for (uint32_t i = 0; i < src->text_count; i++) {
            struct tr_str name = src->text[i].name;

            tr_buf_addf(&b, "%s\"%.*s\"", i ? ", " : "",
                        (int)tr_utf8_cut(name, NAME_SHOWN), name.p);
        }
    }
    if (src->format == TR_FMT_CSV || src->format == TR_FMT_TSV)
        tr_buf_addf(&b, ", %u column%s", src->column_count,
                    src->column_count == 1 ? "" : "s");
    if (src->no_header && src->format != TR_FMT_JSONL)
        tr_buf_addz(&b, ", no header");
    ok = tr_buf_ok(&b);
    if (ok)
        snprintf(src->summary, sizeof src->summary, "%s", b.p);
    tr_utf8_tame(src->summary);
    tr_buf_release(&b);
    return ok ? TR_OK : tr_fail(err, TR_NOMEM, "no memory for the header");
}
