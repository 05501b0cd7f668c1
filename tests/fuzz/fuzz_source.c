/* fuzz_source.c - whole inputs, from bytes to rows to bytes: read in pieces,
 * or compressed, they give the same rows; good rows pass untouched; every
 * output record has its companions and nothing else changed.
 *
 * Input: a byte for the format (csv, tsv, jsonl, lines), one for the options
 * (1 keep bad rows, 2 --text, 4 a label, 8 compressed, 16 small blocks, 32
 * --no-header), then the file.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memfd_create, memmem */
#include "fuzz.h"

#include "base/bounds.h"
#include "rows/csv.h"
#include "rows/source.h"

#include <sys/mman.h>
#include <unistd.h>
#include <yyjson.h>
#include <zlib.h>

enum { KEEP = 1, TEXT = 2, LABEL = 4, PACKED = 8, SMALL = 16, NO_HEADER = 32 };

static int file = -1;
static char path[64];

/* All that came of one reading. */
struct result {
    int code;
    struct tr_buf out, rows; /* output; texts and ids; raw records */
    struct tr_buf raw;
    size_t *ends;            /* of each record in raw */
    bool *kept;              /* it is a bad row */
    size_t count, cap;
    struct tr_err err;
    uint32_t columns;
};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    file = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(file >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return 0;
}

static void put_file(struct tr_str s)
{
    CHECK(ftruncate(file, 0) == 0);
    CHECK(pwrite(file, s.p, s.n, 0) == (ssize_t)s.n);
}

static void put_packed(struct tr_str s)
{
    z_stream z = {0};
    size_t cap = s.n + s.n / 100 + 200;
    unsigned char *to = malloc(cap);

    CHECK(to && deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8,
                             Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (unsigned char *)(size_t)(const void *)s.p;
    z.avail_in = (unsigned)s.n;
    z.next_out = to;
    z.avail_out = (unsigned)cap;
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    put_file(tr_str((const char *)to, z.total_out));
    deflateEnd(&z);
    free(to);
}

static void add_rows(struct result *r, const struct tr_source *src,
                     const struct tr_block *block)
{
    static const struct tr_str labels[] = {{"a,\"b\"", 5}};

    for (uint32_t i = 0; i < block->row_count; i++) {
        const struct tr_row *row = &block->rows[i];
        enum tr_why why = (enum tr_why)row->verdict.why;
        struct tr_str raw = tr_row_raw(block, row);
        struct tr_companions c = {
            .labels = labels, .label_count = why == TR_WHY_NONE,
            .by = TR_STR("m"), .confidence = 9731, .why = why};

        CHECK((row->state == TR_ROW_SETTLED) == (why != TR_WHY_NONE));
        CHECK(why < TR_WHY_COUNT && row->line >= 1);
        CHECK(row->text_at + (size_t)row->text_n <= block->bytes_n);
        if (why == TR_WHY_NONE)
            CHECK(fuzz_utf8_valid(tr_row_text(block, row)) == row->text_n);
        tr_source_render(src, block, row, &c, &r->out);
        tr_buf_addf(&r->rows, "%llu %d ", (unsigned long long)row->line, why);
        tr_buf_adds(&r->rows, tr_row_text(block, row));
        tr_buf_addc(&r->rows, '\0');
        tr_buf_add(&r->rows, block->bytes + row->id_at, row->id_n);
        tr_buf_addc(&r->rows, '\0');
        tr_buf_adds(&r->raw, raw);
        if (r->count == r->cap) {
            r->cap = r->cap ? 2 * r->cap : 64;
            r->ends = realloc(r->ends, r->cap * sizeof *r->ends);
            r->kept = realloc(r->kept, r->cap * sizeof *r->kept);
            CHECK(r->ends && r->kept);
        }
        r->ends[r->count] = r->raw.n;
        r->kept[r->count++] = why != TR_WHY_NONE && why != TR_WHY_EMPTY;
    }
}

static void read_all(struct result *r, const struct tr_source_opts *o,
                     bool small)
{
    struct tr_block *block =
        tr_block_new(small ? 2 : TR_BLOCK_ROWS, small ? 64 : TR_BLOCK_BYTES);
    struct tr_source *src;
    int rc;

    *r = (struct result){0};
    CHECK(block);
    r->code = rc = tr_source_open(&src, o, &r->err);
    if (rc == TR_OK) {
        CHECK(fuzz_is_plain(tr_source_summary(src)));
        tr_source_head(src, &r->out);
        while ((rc = tr_source_next(src, block, &r->err)) > 0) {
            CHECK(rc == TR_SOURCE_ROW || rc == TR_SOURCE_FULL);
            if (rc == TR_SOURCE_ROW)
                continue;
            CHECK(block->row_count);
            add_rows(r, src, block);
            tr_block_free(block);
            block = tr_block_new(small ? 2 : TR_BLOCK_ROWS,
                                 small ? 64 : TR_BLOCK_BYTES);
            CHECK(block);
        }
        add_rows(r, src, block);
        r->code = rc;
    }
    CHECK(r->code == TR_OK || r->code == r->err.code);
    tr_source_close(src);
    tr_block_free(block);
}

static void release(struct result *r)
{
    tr_buf_release(&r->out);
    tr_buf_release(&r->rows);
    tr_buf_release(&r->raw);
    free(r->ends);
    free(r->kept);
}

/* packed: what damaged data gives before it is refused depends on who looks,
 * and a file of a foreign kind is only known where it is not packed. */
static void same(const struct result *a, const struct result *b, bool words,
                 bool packed)
{
    if (packed && a->code != TR_OK)
        return;
    CHECK(a->code == b->code);
    CHECK(tr_str_eq(tr_buf_str(&a->out), tr_buf_str(&b->out)));
    CHECK(tr_str_eq(tr_buf_str(&a->rows), tr_buf_str(&b->rows)));
    if (words && a->code != TR_OK)
        CHECK(strcmp(a->err.text, b->err.text) == 0);
}

/* "PATH, line 7, column 3: ..." points into the file. */
static void check_place(const struct result *r, struct tr_str text)
{
    const char *line = strstr(r->err.text, ", line ");
    const char *column = line ? strstr(line, ", column ") : NULL;
    size_t lines = 1;

    CHECK(fuzz_is_plain(r->err.text));
    if (strncmp(r->err.text, path, strlen(path)) != 0 || !column)
        return;
    for (size_t i = 0; i < text.n; i++)
        lines += text.p[i] == '\n';
    CHECK(strtoul(line + 7, NULL, 10) >= 1);
    CHECK(strtoul(line + 7, NULL, 10) <= lines);
    CHECK(strtoul(column + 9, NULL, 10) >= 1);
    CHECK(strtoul(column + 9, NULL, 10) <= text.n + 1);
}

/* Good records are pieces of the file, in its order. */
static void check_untouched(const struct result *r, struct tr_str text)
{
    size_t at = 0, from = 0;

    for (size_t i = 0; i < r->count; i++) {
        size_t n = r->ends[i] - from;
        const char *found;

        if (!r->kept[i] && n) {
            found = memmem(text.p + at, text.n - at, r->raw.p + from, n);
            CHECK(found);
            at = (size_t)(found - text.p) + n;
        }
        from = r->ends[i];
    }
}

/* The output is sound: as many records as rows and heads, each with as many
 * fields as the first. */
static void check_delimited(const struct result *r, char delimiter,
                            size_t heads)
{
    static uint32_t ends[TR_FIELDS_MAX + 8];
    struct tr_str left = tr_buf_str(&r->out);
    struct tr_csv_record rec = {.ends = ends, .ends_cap = TR_FIELDS_MAX + 8};
    uint32_t columns = 0;
    size_t records = 0;

    if (left.n >= 3 && memcmp(left.p, "\xef\xbb\xbf", 3) == 0)
        left = tr_str(left.p + 3, left.n - 3);
    for (; left.n; records++) {
        tr_csv_begin(&rec);
        CHECK(tr_csv_scan(&rec, left, true, delimiter) == TR_CSV_RECORD);
        CHECK(records == 0 || rec.fields == columns);
        columns = rec.fields;
        left = tr_str(left.p + rec.next, left.n - rec.next);
    }
    CHECK(records == r->count + heads && (columns >= 5 || !records));
}

static void check_objects(const struct result *r)
{
    struct tr_str left = tr_buf_str(&r->out);
    size_t records = 0;

    /* A byte order mark passes, as it should. */
    if (left.n >= 3 && memcmp(left.p, "\xef\xbb\xbf", 3) == 0)
        left = tr_str(left.p + 3, left.n - 3);
    for (; left.n; records++) {
        const char *end = memchr(left.p, '\n', left.n);
        size_t n = end ? (size_t)(end - left.p) : 0;
        struct tr_str line = tr_str(left.p, n);

        CHECK(end);
        left = tr_str(end + 1, left.n - n - 1);
        /* Kept as it is: bytes that no parser takes, and half surrogates. */
        if (r->kept[records] || memmem(line.p, n, "\\u", 2))
            continue;
        yyjson_doc *doc =
            yyjson_read_opts((char *)(size_t)(const void *)line.p, n,
                             YYJSON_READ_NUMBER_AS_RAW, NULL, NULL);
        yyjson_val *root = yyjson_doc_get_root(doc);

        CHECK(yyjson_is_obj(root));
        CHECK(yyjson_equals_str(yyjson_obj_get(root, "label_by"), "m"));
        CHECK(yyjson_obj_get(root, "label") &&
              yyjson_obj_get(root, "label_error") &&
              yyjson_obj_get(root, "label_confidence"));
        yyjson_doc_free(doc);
    }
    CHECK(records == r->count);
}

/* Then the rows are those of another text. */
static bool is_packed(struct tr_str s)
{
    return s.n >= 2 && (memcmp(s.p, "\x1f\x8b", 2) == 0 ||
                        (s.n >= 4 && memcmp(s.p, "\x28\xb5\x2f\xfd", 4) == 0));
}

/* The end of the header is ours: "label,label_by,label_confidence,...". Another
 * column may have one of these names in its own. */
static char delimiter_of(const struct result *r)
{
    static const char ours[] = "label_by?label_confidence?";
    const char *p = r->out.p, *end = p ? p + r->out.n : p;

    while (p && (p = memmem(p, (size_t)(end - p), ours, 8))) {
        if (p > r->out.p && (size_t)(end - p) >= sizeof ours - 1 &&
            p[8] == p[-1] && p[25] == p[-1] &&
            memcmp(p + 9, ours + 9, 16) == 0)
            return p[-1];
        p++;
    }
    return ',';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const enum tr_format formats[] = {TR_FMT_CSV, TR_FMT_TSV,
                                             TR_FMT_JSONL, TR_FMT_LINES};
    struct fuzz_in in = fuzz_begin(data, n);
    enum tr_format format = formats[fuzz_byte(&in) & 3];
    unsigned flags = fuzz_byte(&in);
    struct tr_str text = fuzz_rest(&in);
    const char *const paths[] = {path};
    struct tr_source_opts o = {
        .paths = paths, .path_count = 1, .format = format,
        .text = flags & TEXT ? flags & NO_HEADER ? "1,2" : "text,b" : NULL,
        .label = flags & LABEL ? flags & NO_HEADER ? "2" : "id" : NULL,
        .no_header = flags & NO_HEADER,
        /* Without a header there is nothing to find it by. */
        .delimiter = flags & NO_HEADER && format == TR_FMT_CSV ? ',' : 0,
        .bad_rows_fail = flags & KEEP};
    struct result whole, pieces;

    put_file(text);
    read_all(&whole, &o, false);
    if (!is_packed(text)) {
        check_place(&whole, text);
        check_untouched(&whole, text);
    }
    if (format == TR_FMT_JSONL)
        check_objects(&whole);
    else if (whole.out.n)
        check_delimited(&whole, format == TR_FMT_TSV ? '\t'
                                : o.delimiter ? o.delimiter
                                              : delimiter_of(&whole),
                        !(flags & NO_HEADER));

    o.read_bytes = 1 + fuzz_draw(&in, 80);
    if (is_packed(text))
        flags &= ~(unsigned)PACKED;
    if (flags & PACKED)
        put_packed(text);
    read_all(&pieces, &o, flags & SMALL);
    same(&whole, &pieces, !(flags & PACKED),
         flags & PACKED || is_packed(text));
    release(&whole);
    release(&pieces);
    return 0;
}
