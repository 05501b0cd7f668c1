/* reading.h - the source's own state, and the files that work on it.
 *
 * source.c calls header.c for the begin of a file, and record.c for what
 * follows; header.c finds its record with record.c; all of them call faulty.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_READING_H
#define TR_ROWS_READING_H

#include "base/arena.h"
#include "base/bounds.h"
#include "rows/csv.h"
#include "rows/intake.h"
#include "rows/jsonl.h"
#include "rows/render.h"
#include "rows/source.h"

/* A record is looked for in this many bytes: the longest one and CR LF. */
#define TR_SCAN_BYTES ((size_t)TR_RECORD_BYTES_MAX + 2)

/* So much of a file is looked at when its delimiter is in doubt. */
#define TR_DOUBT_BYTES ((size_t)64 << 10)

/* One input file and the part of it in memory. */
struct tr_feed {
    struct tr_intake *in;
    char *bytes;
    size_t cap, from, to; /* the record in work begins at from */
    size_t tried;         /* bytes behind from that were no whole header yet */
    bool final;           /* nothing follows bytes[to] */
    bool started;         /* byte order mark and header are behind us */
    bool skipping;        /* in the tail of an over-long record */
    bool blanks_count;    /* a record follows the blank lines in work */
    uint64_t line;        /* of bytes[from], from 1 */
    uint64_t rows;
};

/* The record at feed.from, once found. */
struct tr_found {
    bool done;
    bool object;       /* JSONL: an object with members as they should be */
    bool cut;          /* over-long: the line's rest is to be skipped */
    size_t n, next;    /* without its line end; where the next one begins */
    enum tr_why why;
    size_t bad_at;     /* byte of the record the sentence points at */
    const char *what, *remedy; /* clauses of the sentence, static or the
                                   source's */
    uint32_t good;     /* CSV: sound fields before the bad one */
    size_t good_n;     /* and their bytes, with the last delimiter */
};

/* A column that is looked at: its place in the header, or in the object. */
struct tr_column {
    struct tr_str name;
    uint32_t at;
};

/* Columns besides the text: the right label of an example, and what keeps a row
 * from the company of others. */
enum tr_mark { TR_MARK_LABEL, TR_MARK_PARTY, TR_MARKS };

/* What names a column ("--text"), and the remedy that says so of a member. */
struct tr_said {
    const char *option, *remedy;
};

struct tr_source {
    /* What was asked for. */
    const char **paths;
    size_t path_count;
    enum tr_format format;
    bool format_asked, bad_rows_fail;
    bool no_header;   /* asked for; nothing to JSON Lines */
    bool format_open; /* nobody said CSV: the first byte may say JSON Lines */
    char delimiter; /* 0: not yet detected */
    struct tr_str text_wish;
    bool text_given;
    struct tr_said said_text, said_mark[TR_MARKS];
    bool none_bad;
    int64_t left; /* rows still wanted; < 0: all */
    size_t read_bytes;

    /* Where the reading stands. */
    struct tr_feed feed;
    uint32_t file;
    int64_t bytes_before; /* of files behind us */
    int64_t bytes_total;
    bool rereadable, ended;
    uint64_t ordinal;
    struct tr_csv_record csv;
    size_t looked; /* searched so far: lines for their end, CSV for the end
                      of blank lines */
    struct tr_found found;
    char said[200];        /* what found.what may point to */
    struct tr_json_member *members;
    size_t member_count;

    /* What the first file said. */
    struct tr_arena arena; /* names, paths, header */
    struct tr_str header;  /* its bytes, without the line end */
    bool has_header;
    struct tr_str *columns;
    uint32_t column_count;
    struct tr_column *text;
    uint32_t text_count;
    struct tr_column mark[TR_MARKS]; /* name.n 0: none is asked for */
    struct tr_style style;
    char summary[512];

    /* Work space. */
    struct tr_buf scratch;   /* text that is not a slice of its record */
    struct tr_buf mark_buf;  /* a mark that is none */
    struct tr_arena keys;    /* member names with escapes, of one row */
};

/* ---- header.c --------------------------------------------------------- */

/* Looks at the begin of a file. 1: started, feed.from is the first record;
 * 0: more bytes are needed; < 0: tr_code. */
int tr_header_try(struct tr_source *src, struct tr_err *err);
int tr_header_summary(struct tr_source *src, struct tr_err *err);

/* ---- faulty.c --------------------------------------------------------- */

/* "tickets.csv, line 7, column 3: WHAT; REMEDY[, or keep ...]." */
int tr_faulty_say(const struct tr_source *src, int code, size_t at,
                  bool keepable, struct tr_err *err, const char *what,
                  const char *remedy);
/* Fills what and remedy of found from what CSV scanning came to. */
void tr_faulty_csv(struct tr_found *found, enum tr_csv_result result,
                   bool at_limit);
/* The sentence about src->found, whose why is set. */
int tr_faulty_row(struct tr_source *src, bool keepable, struct tr_err *err);
/* The bad record as a record of the output: as it is when *as_is, else what
 * is appended to out. */
void tr_faulty_keep(struct tr_source *src, struct tr_buf *out, bool *as_is);
int tr_faulty_utf16(const struct tr_source *src, struct tr_err *err);

/* ---- record.c --------------------------------------------------------- */

/* Scans for the end of the record at feed.from; false: more bytes needed. */
bool tr_record_find(struct tr_source *src);
/* Are only blank lines left, where those are no rows? */
enum tr_rest {
    TR_REST_ROWS, TR_REST_MORE /* bytes are needed */, TR_REST_BLANK
};
enum tr_rest tr_record_rest(struct tr_source *src);
/* Is it sound? found.why says why not. < 0: no memory. */
int tr_record_judge(struct tr_source *src, struct tr_str record,
                    struct tr_err *err);
/* Names of members as they mean: those with escapes are written out. They hold
 * until the next row. */
int tr_record_plain_keys(struct tr_source *src, struct tr_err *err);
/* The text to label: *text is a slice of the record, or of src->scratch. */
void tr_record_text(struct tr_source *src, struct tr_str record,
                    struct tr_str *text);
/* A slice of the record, or of src->mark_buf; empty where none is asked for.
 * half: the sentence about half of a surrogate pair in it. */
struct tr_str tr_record_mark(struct tr_source *src, struct tr_str record,
                             enum tr_mark which, const char *half);
/* Whose row it is (--apart). Never 0 where rows are kept apart. */
uint64_t tr_record_party(struct tr_source *src, struct tr_str record);

/* What sentences call an input. */
static inline const char *tr_input_name(const struct tr_source *src,
                                        uint32_t file)
{
    const char *path = src->paths[file];

    return strcmp(path, "-") == 0 ? "standard input" : path;
}

static inline struct tr_str tr_feed_bytes(const struct tr_source *src)
{
    const struct tr_feed *f = &src->feed;

    return tr_str(f->bytes ? f->bytes + f->from : NULL, f->to - f->from);
}

#endif
