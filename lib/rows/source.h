/* source.h - next row from files or standard input, any format.
 *
 * Streaming, bounded, not blocking on pipes: a slow standard input never
 * stalls the requests in flight. Nothing is repaired or dropped, save blank
 * lines before the end where they cannot be rows: a bad record is an error
 * that names file, line and column and says what to do, or (with
 * bad_rows_fail) a row whose verdict.why is set.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_SOURCE_H
#define TR_ROWS_SOURCE_H

#include "base/buf.h"
#include "base/err.h"
#include "nouns.h"

enum tr_format { TR_FMT_AUTO, TR_FMT_CSV, TR_FMT_TSV, TR_FMT_JSONL, TR_FMT_LINES };

struct tr_source_opts {
    const char *const *paths; /* "-" is standard input */
    size_t path_count;
    enum tr_format format;    /* AUTO: by the first file's name; where
                                 that says nothing, JSON Lines if the first
                                 byte that is not blank is {, else CSV */
    char delimiter;           /* 0: detected among , ; TAB | */
    const char *text;         /* column(s), comma-separated; NULL: default */
    const char *label;        /* column that fills tr_row.id: the right labels
                                 of examples; NULL: none */
    const char *apart;        /* column that fills tr_row.party; NULL: none */
    const char *as;           /* name of the label column, "label" */
    bool bad_rows_fail;       /* --on-bad-row fail */
    bool csv_guard;           /* --csv-guard; nothing to JSON Lines */
    bool no_header;           /* the first line of CSV or TSV is a row: columns
                                 are called 1, 2, ..., and the output of no
                                 format has a header */
    int64_t head;             /* first N rows only; <= 0: all */
    const char *say_text;     /* what sets `text`, for remedies; NULL: --text */
    const char *say_label;    /* the same of `label` */
    bool none_bad;            /* no remedy is to keep bad rows */
    size_t read_bytes;        /* bytes of one read; 0: a good size (tests) */
};

struct tr_source;

/* Opens the inputs and reads the header of the first; on a pipe it waits for
 * that, and a signal the program catches ends the wait (TR_STOPPED). On
 * success *out is set. The strings in o need not outlive the call. */
int tr_source_open(struct tr_source **out, const struct tr_source_opts *o,
                   struct tr_err *err);

enum { TR_SOURCE_END = 0, TR_SOURCE_ROW = 1, TR_SOURCE_WAIT = 2, TR_SOURCE_FULL = 3 };

/* Appends the next row to block (bytes, row struct; state READ, or SETTLED
 * with verdict.why set for a bad row under bad_rows_fail or an empty text).
 *   ROW   one row added, block->row_count grew by one
 *   FULL  the row does not fit into block (row_cap or bytes_cap reached and
 *         the block is not empty): call again with a fresh block
 *   WAIT  the pipe has no bytes now; poll tr_source_fd()
 *   END   no more rows
 *   < 0   tr_code with err filled
 * A block that is empty grows its bytes for one over-large record, up to
 * TR_RECORD_BYTES_MAX. All rows of a block come from one file (block->file). */
int tr_source_next(struct tr_source *src, struct tr_block *block,
                   struct tr_err *err);

int tr_source_fd(const struct tr_source *src); /* to poll, or -1 */
/* Refuses a name for the output that promises another format than it will
 * have. NULL is fine. */
int tr_source_check_output(const struct tr_source *src, const char *path,
                           struct tr_err *err);
/* Bytes of input taken so far and in all (-1: unknown, pipe). Compressed
 * files count their compressed bytes. */
int64_t tr_source_bytes_read(const struct tr_source *src);
int64_t tr_source_bytes_total(const struct tr_source *src);
/* It ended because the head was reached, whatever stands behind it. */
bool tr_source_is_cut(const struct tr_source *src);
/* Every input is a regular file, so that it can be read a second time. */
bool tr_source_rereadable(const struct tr_source *src);
/* One plain sentence about what was detected ("tickets.csv: CSV with ';',
 * text column \"body\", 5 columns"). */
const char *tr_source_summary(const struct tr_source *src);

/* The head of the output: header line with the companion columns (and the
 * BOM and line end of the input) for CSV and TSV, nothing for JSONL. Lines
 * input is written as CSV with header text,NAME,NAME_by,... */
void tr_source_head(const struct tr_source *src, struct tr_buf *out);

/* One output record: raw passes byte for byte, the companions are appended
 * (CSV, TSV) or inserted before the final brace (JSONL). label_count 0 with
 * why NONE is "none of the labels". multiple: labels are joined by '|' in
 * CSV and TSV and become an array in JSONL. */
struct tr_companions {
    const struct tr_str *labels;
    size_t label_count;
    bool multiple;
    struct tr_str by;       /* "" when nobody said anything */
    uint16_t confidence;    /* 0..10000 or TR_NO_CONFIDENCE */
    enum tr_why why;
};
void tr_source_render(const struct tr_source *src, const struct tr_block *block,
                      const struct tr_row *row, const struct tr_companions *c,
                      struct tr_buf *out);

void tr_source_close(struct tr_source *src); /* accepts NULL */

/* A block with its own memory; NULL when memory is out. */
struct tr_block *tr_block_new(uint32_t row_cap, size_t bytes_cap);
void tr_block_free(struct tr_block *block); /* accepts NULL */
/* Copies bytes into the block and returns their offset, or UINT32_MAX when
 * they do not fit and may not grow. */
uint32_t tr_block_add(struct tr_block *block, struct tr_str bytes, bool grow);
/* Adds a row that is nothing but its text. NULL: as above, or there is no room
 * for another row. */
struct tr_row *tr_block_add_row(struct tr_block *block, struct tr_str text,
                                bool grow);

#endif
