/* source.c - next row from files or standard input, any format.
 *
 * A feed holds the part of a file that is in memory. The record at its begin
 * is found (where does it end) and judged (is it sound) by record.c, and put
 * into the block.
 * All offsets count from the begin of the record, so that reading more bytes
 * never invalidates them.
 *
 * SPDX-License-Identifier: MIT */
#include "rows/source.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "rows/ending.h"
#include "rows/reading.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define READ_BYTES ((size_t)128 << 10)

enum { FILL_SOME = 1, FILL_WAIT = 2 };

/* ---- bytes ------------------------------------------------------------ */

static void close_feed(struct tr_feed *f)
{
    tr_intake_close(f->in);
    tr_free(f->bytes);
    *f = (struct tr_feed){0};
}

/* More bytes behind those in memory. SOME also when the end was reached. */
static int fill(struct tr_source *src, bool block, struct tr_err *err)
{
    struct tr_feed *f = &src->feed;
    size_t want = src->read_bytes, got;
    int rc;

    if (f->from && f->cap - f->to < want) {
        memmove(f->bytes, f->bytes + f->from, f->to - f->from);
        f->to -= f->from;
        f->from = 0;
    }
    if (f->cap - f->to < want) {
        size_t cap = f->cap * 2 > f->to + want ? f->cap * 2 : f->to + want;
        char *p = tr_resize(f->bytes, cap);

        if (!p)
            return tr_fail(err, TR_NOMEM, "no memory to read %s",
                           tr_input_name(src, src->file));
        f->bytes = p;
        f->cap = cap;
    }
    rc = tr_intake_read(f->in, f->bytes + f->to, want, block, &got, err);
    if (rc == TR_INTAKE_WAIT)
        return FILL_WAIT;
    if (rc < 0)
        return rc;
    f->to += got;
    f->final = rc == TR_INTAKE_END;
    return FILL_SOME;
}

static void forget_record(struct tr_source *src)
{
    src->found = (struct tr_found){0};
    src->looked = 0;
    tr_csv_begin(&src->csv);
}

static uint64_t line_feeds(struct tr_str s)
{
    uint64_t count = 0;

    while (s.n) {
        const char *lf = memchr(s.p, '\n', s.n);
        size_t skip = lf ? (size_t)(lf - s.p) + 1 : s.n;

        count += lf != NULL;
        s = tr_str(s.p + skip, s.n - skip);
    }
    return count;
}

static void consume(struct tr_source *src)
{
    struct tr_feed *f = &src->feed;
    struct tr_found *found = &src->found;
    bool csv = src->format == TR_FMT_CSV || src->format == TR_FMT_TSV;

    /* The scanner has counted the lines of a record it found sound. */
    if (csv && found->next == src->csv.next)
        f->line += src->csv.line_feeds;
    else
        f->line += line_feeds(tr_str(f->bytes + f->from, found->next));
    f->from += found->next;
    f->skipping = found->cut;
    f->blanks_count &= !found->n;
    forget_record(src);
}

/* Drops the tail of an over-long record. True: it is behind us. */
static bool skip_tail(struct tr_feed *f)
{
    const char *lf = f->to > f->from
                         ? memchr(f->bytes + f->from, '\n', f->to - f->from)
                         : NULL;

    if (lf) {
        f->from = (size_t)(lf - f->bytes) + 1;
        f->line++;
        f->skipping = false;
        return true;
    }
    f->from = f->to;
    f->skipping = !f->final;
    return f->final;
}

/* ---- files ------------------------------------------------------------ */

static bool is_standard(const struct tr_source *src, uint32_t file)
{
    return strcmp(src->paths[file], "-") == 0;
}

static int open_file(struct tr_source *src, uint32_t file, struct tr_err *err)
{
    close_feed(&src->feed);
    src->file = file;
    src->feed.line = 1;
    forget_record(src);
    return tr_intake_open(&src->feed.in, src->paths[file], src->read_bytes,
                          err);
}

/* A header is looked for from its beginning each time, so not after each small
 * piece that a pipe brings: a line must have ended, and there be a sixty-fourth
 * more than at the last try (thousands of lines may be empty); or there be as
 * much as a doubt needs; and of one that goes on for longer (a quote that is
 * never closed) a quarter more. */
static bool is_worth_a_try(const struct tr_feed *f)
{
    size_t n = f->to - f->from, more = n - f->tried;
    const char *new;

    if (f->final || f->tried < 3 || n >= TR_SCAN_BYTES ||
        (f->tried < TR_DOUBT_BYTES && n >= TR_DOUBT_BYTES))
        return true;
    new = f->bytes + f->from + f->tried;
    return n < TR_DOUBT_BYTES
               ? more >= f->tried / 64 &&
                     (memchr(new, '\n', more) || memchr(new, '\r', more))
               : more >= f->tried / 4;
}

/* Byte order mark and header. 1: done; TR_SOURCE_WAIT only without block. */
static int start_file(struct tr_source *src, bool block, struct tr_err *err)
{
    for (;;) {
        struct tr_feed *f = &src->feed;
        int rc = 0;

        if (is_worth_a_try(f)) {
            rc = tr_header_try(src, err);
            f->tried = f->to - f->from;
        }
        if (rc == 1) {
            f->started = true;
            forget_record(src);
        }
        if (rc)
            return rc;
        rc = fill(src, block, err);
        if (rc == FILL_WAIT)
            return TR_SOURCE_WAIT;
        if (rc < 0)
            return rc;
    }
}

/* Files behind the first are looked at before the first row is read: a wrong
 * header must not show after hours. */
static int check_file(struct tr_source *src, uint32_t file, struct tr_err *err)
{
    struct tr_feed kept = src->feed;
    int rc;

    src->feed = (struct tr_feed){0};
    rc = open_file(src, file, err);
    if (rc == TR_OK)
        rc = start_file(src, true, err);
    close_feed(&src->feed);
    src->feed = kept;
    src->file = 0;
    forget_record(src);
    return rc < 0 ? rc : TR_OK;
}

static enum tr_format csv_if_open(enum tr_format format)
{
    return format == TR_FMT_AUTO ? TR_FMT_CSV : format;
}

/* What can be told from the names alone. */
static int look_at_paths(struct tr_source *src, struct tr_err *err)
{
    size_t standard = 0;

    src->rereadable = true;
    for (uint32_t i = 0; i < src->path_count; i++) {
        struct stat st;

        if (is_standard(src, i)) {
            if (standard++)
                return tr_fail(err, TR_USAGE,
                               "standard input is named twice; name it once");
            src->rereadable = false;
            src->bytes_total = -1;
            continue;
        }
        if (stat(src->paths[i], &st) < 0)
            return tr_fail(err, TR_NOINPUT,
                           "%s cannot be opened: %s; check the name and its "
                           "permissions",
                           src->paths[i], strerror(errno));
        if (S_ISDIR(st.st_mode))
            return tr_fail(err, TR_NOINPUT,
                           "%s is a folder; name the files in it",
                           src->paths[i]);
        if (!S_ISREG(st.st_mode)) {
            src->rereadable = false;
            src->bytes_total = -1;
        } else if (src->bytes_total >= 0) {
            src->bytes_total += st.st_size;
        }
        if (!src->format_asked && !is_standard(src, 0) &&
            csv_if_open(tr_ending_format(src->paths[i])) != src->format)
            return tr_fail(err, TR_USAGE,
                           "%s and %s differ in format by their names; label "
                           "them one by one, or say --format",
                           src->paths[0], src->paths[i]);
    }
    return TR_OK;
}

static bool is_regular(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int open_all(struct tr_source *src, struct tr_err *err)
{
    int rc;

    TRY(look_at_paths(src, err));
    TRY(open_file(src, 0, err));
    rc = start_file(src, true, err);
    if (rc < 0)
        goto out;
    TRY(tr_header_summary(src, err));
    for (uint32_t i = 1; i < src->path_count; i++) {
        if (!is_standard(src, i) && is_regular(src->paths[i]))
            TRY(check_file(src, i, err));
    }
out:
    return rc;
}

/* ---- opening ---------------------------------------------------------- */

static int check_opts(const struct tr_source_opts *o, struct tr_err *err)
{
    if (!o->path_count)
        return tr_fail(err, TR_USAGE,
                       "no input; name a file, or - for standard input");
    if (o->as && !*o->as)
        return tr_fail(err, TR_USAGE, "--as needs a name");
    if (o->delimiter &&
        (o->delimiter == '"' || o->delimiter == '\n' || o->delimiter == '\r' ||
         (unsigned char)o->delimiter > 0x7e ||
         ((unsigned char)o->delimiter < 0x20 && o->delimiter != '\t')))
        return tr_fail(err, TR_USAGE,
                       "--delimiter takes one ASCII character that is not a "
                       "quote or a line break");
    return TR_OK;
}

/* A copy of z in the arena; tr_str of it has a final NUL. */
static struct tr_str keep(struct tr_source *src, const char *z)
{
    return tr_arena_dup(&src->arena, tr_str_c(z));
}

static bool keep_said(struct tr_source *src, struct tr_said *said,
                      const char *option)
{
    char remedy[200];

    snprintf(remedy, sizeof remedy, "correct the line, or name another member "
             "with %s", option);
    said->option = keep(src, option).p;
    said->remedy = keep(src, remedy).p;
    return said->option && said->remedy;
}

static bool copy_opts(struct tr_source *src, const struct tr_source_opts *o)
{
    bool ok;

    src->path_count = o->path_count;
    src->paths = tr_arena_alloc(&src->arena,
                                o->path_count * sizeof *src->paths);
    ok = src->paths != NULL;
    for (size_t i = 0; ok && i < o->path_count; i++) {
        src->paths[i] = keep(src, o->paths[i]).p;
        ok = src->paths[i] != NULL;
    }
    src->format_asked = o->format != TR_FMT_AUTO;
    src->bad_rows_fail = o->bad_rows_fail;
    src->no_header = o->no_header;
    src->style.guard = o->csv_guard;
    src->left = o->head > 0 ? o->head : -1;
    src->read_bytes = o->read_bytes ? o->read_bytes : READ_BYTES;
    src->text_given = o->text && *o->text;
    src->text_wish = keep(src, src->text_given ? o->text : "");
    src->mark[TR_MARK_LABEL].name = keep(src, o->label ? o->label : "");
    src->mark[TR_MARK_PARTY].name = keep(src, o->apart ? o->apart : "");
    src->none_bad = o->none_bad;
    ok = ok &&
         keep_said(src, &src->said_text,
                   o->say_text ? o->say_text : "--text") &&
         keep_said(src, &src->said_mark[TR_MARK_LABEL],
                   o->say_label ? o->say_label : "a label") &&
         keep_said(src, &src->said_mark[TR_MARK_PARTY], "--apart");
    src->csv.ends_cap = TR_FIELDS_MAX;
    src->csv.ends = tr_array(TR_FIELDS_MAX, sizeof *src->csv.ends);
    return ok && src->text_wish.p && src->mark[TR_MARK_LABEL].name.p &&
           src->mark[TR_MARK_PARTY].name.p && src->csv.ends &&
           tr_style_name(&src->style, &src->arena,
                         tr_str_c(o->as ? o->as : "label"));
}

int tr_source_open(struct tr_source **out, const struct tr_source_opts *o,
                   struct tr_err *err)
{
    struct tr_source *src = NULL;
    int rc;

    *out = NULL;
    TRY(check_opts(o, err));
    src = tr_alloc(sizeof *src);
    if (!src || !copy_opts(src, o)) {
        rc = tr_fail(err, TR_NOMEM, "no memory to read the input");
        goto out;
    }
    src->format = src->format_asked     ? o->format
                  : is_standard(src, 0) ? TR_FMT_AUTO
                                        : tr_ending_format(src->paths[0]);
    src->format_open = src->format == TR_FMT_AUTO && !o->delimiter;
    src->format = csv_if_open(src->format);
    src->style.format = src->format;
    if (o->delimiter &&
        (src->format == TR_FMT_JSONL || src->format == TR_FMT_LINES)) {
        rc = tr_fail(err, TR_USAGE, "--delimiter is for CSV and TSV: leave it "
                     "out, or add --format csv");
        goto out;
    }
    src->delimiter = o->delimiter                  ? o->delimiter
                     : src->format == TR_FMT_TSV   ? '\t'
                     : src->format == TR_FMT_LINES ? ','
                                                   : '\0';
    if (src->format == TR_FMT_JSONL || src->format_open) {
        src->members = tr_array(TR_FIELDS_MAX, sizeof *src->members);
        if (!src->members) {
            rc = tr_fail(err, TR_NOMEM, "no memory to read the input");
            goto out;
        }
    }
    rc = open_all(src, err);
out:
    if (rc != TR_OK)
        tr_source_close(src);
    else
        *out = src;
    return rc;
}

void tr_source_close(struct tr_source *src)
{
    if (!src)
        return;
    close_feed(&src->feed);
    tr_free(src->csv.ends);
    tr_free(src->members);
    tr_free(src->text);
    tr_buf_release(&src->scratch);
    tr_buf_release(&src->mark_buf);
    tr_arena_release(&src->keys);
    tr_arena_release(&src->arena);
    tr_free(src);
}

/* ---- into the block --------------------------------------------------- */

/* Adds part, or finds it inside raw. False: it does not fit. */
static bool add_part(struct tr_block *block, struct tr_str raw, uint32_t raw_at,
                     struct tr_str part, uint32_t *at, uint32_t *n)
{
    *n = (uint32_t)part.n;
    if (part.p >= raw.p && part.p + part.n <= raw.p + raw.n)
        *at = raw_at + (uint32_t)(part.p - raw.p);
    else
        *at = tr_block_add(block, part, block->row_count == 0);
    return *at != UINT32_MAX;
}

static int add_row(struct tr_source *src, struct tr_block *block,
                   struct tr_str raw, struct tr_str text, struct tr_str id,
                   uint64_t party, struct tr_err *err)
{
    size_t before = block->bytes_n;
    bool first = block->row_count == 0;
    enum tr_why why = src->found.why;
    struct tr_row row = {.line = src->feed.line, .party = party};

    row.verdict.confidence = TR_NO_CONFIDENCE;
    row.verdict.origin = TR_NO_ORIGIN;
    row.raw_n = (uint32_t)raw.n;
    row.raw_at = tr_block_add(block, raw, first);
    if (row.raw_at == UINT32_MAX ||
        !add_part(block, raw, row.raw_at, text, &row.text_at, &row.text_n) ||
        !add_part(block, raw, row.raw_at, id, &row.id_at, &row.id_n)) {
        block->bytes_n = before;
        if (first)
            return tr_fail(err, TR_NOMEM, "no memory for line %llu of %s",
                           (unsigned long long)src->feed.line,
                           tr_input_name(src, src->file));
        return TR_SOURCE_FULL;
    }
    if (why == TR_WHY_NONE && !tr_str_trim(text).n)
        why = TR_WHY_EMPTY;
    if (why != TR_WHY_NONE) {
        row.state = TR_ROW_SETTLED;
        row.verdict.why = (uint16_t)why;
    }
    if (first) {
        block->file = src->file;
        block->first = src->ordinal;
    }
    block->rows[block->row_count++] = row;
    return TR_SOURCE_ROW;
}

/* Judges the record that was found and adds it. */
static int put(struct tr_source *src, struct tr_block *block,
               struct tr_err *err)
{
    struct tr_str record = tr_str(tr_feed_bytes(src).p, src->found.n);
    struct tr_str raw = record, text = {NULL, 0}, id = {NULL, 0};
    uint64_t party = 0;
    int rc = TR_OK;

    if (src->found.why == TR_WHY_NONE)
        rc = tr_record_judge(src, record, err);
    if (rc == TR_OK && src->found.why == TR_WHY_NONE)
        tr_record_text(src, record, &text);
    if (rc == TR_OK && src->found.why == TR_WHY_NONE)
        party = tr_record_party(src, record);
    if (rc == TR_OK && src->found.why == TR_WHY_NONE)
        id = tr_record_mark(src, record, TR_MARK_LABEL,
                            "half of a \\u surrogate pair in the label");
    if (rc == TR_OK && src->found.why != TR_WHY_NONE) {
        bool as_is = false;

        if (!src->bad_rows_fail) {
            rc = tr_faulty_row(src, !src->none_bad, err);
        } else {
            text = id = tr_str(NULL, 0);
            tr_buf_clear(&src->scratch);
            tr_faulty_keep(src, &src->scratch, &as_is);
            if (!as_is)
                raw = tr_buf_str(&src->scratch);
        }
    }
    if (rc == TR_OK && (src->scratch.failed || src->mark_buf.failed))
        rc = tr_fail(err, TR_NOMEM, "no memory for a row of %s",
                     tr_input_name(src, src->file));
    if (rc == TR_OK)
        rc = add_row(src, block, raw, text, id, party, err);
    tr_arena_release(&src->keys);
    return rc;
}

/* ---- next ------------------------------------------------------------- */

/* Behind the last record of a file. 1: the next file is open. */
static int next_file(struct tr_source *src, struct tr_err *err)
{
    int rc;

    if (!src->feed.rows)
        return tr_fail(err, TR_DATA,
                       "%s has a header but no row; check what wrote it",
                       tr_input_name(src, src->file));
    src->bytes_before += tr_intake_taken(src->feed.in);
    close_feed(&src->feed);
    if (src->file + 1 == src->path_count) {
        src->ended = true;
        return TR_SOURCE_END;
    }
    rc = open_file(src, src->file + 1, err);
    return rc < 0 ? rc : 1;
}

/* Behind the rows of a file whose last lines are blank. */
static void skip_rest(struct tr_feed *f)
{
    f->line += line_feeds(tr_str(f->bytes + f->from, f->to - f->from));
    f->from = f->to;
}

/* Looks for the end of the record at hand. False: more bytes are needed. */
static bool look(struct tr_source *src)
{
    switch (tr_record_rest(src)) {
    case TR_REST_MORE:
        return false;
    case TR_REST_BLANK:
        skip_rest(&src->feed);
        return true;
    default:
        return tr_record_find(src);
    }
}

/* Gets a record found. 1: done; END, WAIT or < 0: as tr_source_next(). */
static int find(struct tr_source *src, struct tr_err *err)
{
    struct tr_feed *f = &src->feed;

    while (!src->ended && !src->found.done) {
        bool need_bytes = false;
        int rc = 1;

        if (!f->started)
            rc = start_file(src, false, err);
        else if (f->skipping)
            need_bytes = !skip_tail(f);
        else if (f->from == f->to && f->final)
            rc = next_file(src, err);
        else if (f->from == f->to || !look(src))
            need_bytes = true;
        if (need_bytes)
            rc = fill(src, false, err);
        if (rc != 1)
            return rc;
    }
    return src->ended ? TR_SOURCE_END : 1;
}

int tr_source_next(struct tr_source *src, struct tr_block *block,
                   struct tr_err *err)
{
    int rc;

    _Static_assert(FILL_SOME == 1 && (int)FILL_WAIT == (int)TR_SOURCE_WAIT,
                   "find() hands them on");
    if (!src->left)
        return TR_SOURCE_END;
    rc = find(src, err);
    if (rc != 1)
        return rc;
    if (block->row_count == block->row_cap ||
        (block->row_count && block->file != src->file))
        return TR_SOURCE_FULL;
    rc = put(src, block, err);
    if (rc == TR_SOURCE_ROW) {
        consume(src);
        src->feed.rows++;
        src->ordinal++;
        src->left -= src->left > 0;
    }
    return rc;
}

/* ---- what is known ---------------------------------------------------- */

int tr_source_fd(const struct tr_source *src)
{
    return src->feed.in ? tr_intake_fd(src->feed.in) : -1;
}

int tr_source_check_output(const struct tr_source *src, const char *path,
                           struct tr_err *err)
{
    return tr_ending_check(path, src->format, src->delimiter, err);
}

int64_t tr_source_bytes_read(const struct tr_source *src)
{
    const struct tr_feed *f = &src->feed;
    int64_t taken = f->in ? tr_intake_taken(f->in) : 0;

    /* What is in memory is not yet taken by anyone. */
    if (f->in && !tr_intake_packed(f->in))
        taken -= (int64_t)(f->to - f->from);
    return src->bytes_before + (taken > 0 ? taken : 0);
}

int64_t tr_source_bytes_total(const struct tr_source *src)
{
    return src->bytes_total;
}

bool tr_source_is_cut(const struct tr_source *src)
{
    return src->left == 0;
}

bool tr_source_rereadable(const struct tr_source *src)
{
    return src->rereadable;
}

const char *tr_source_summary(const struct tr_source *src)
{
    return src->summary;
}

void tr_source_head(const struct tr_source *src, struct tr_buf *out)
{
    tr_render_head(&src->style, src->no_header ? NULL : &src->header, out);
}

void tr_source_render(const struct tr_source *src, const struct tr_block *block,
                      const struct tr_row *row, const struct tr_companions *c,
                      struct tr_buf *out)
{
    tr_render_record(&src->style, tr_row_raw(block, row), c, out);
}
