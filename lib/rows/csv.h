/* csv.h - where a CSV record ends and its fields lie; no input, no output.
 *
 * RFC 4180: fields may be quoted, quoted fields may hold delimiters, line
 * breaks and doubled quotes; lines end with LF or CRLF, the last one with
 * nothing if it likes. Stricter than many readers: a quote in the middle of
 * an unquoted field, text after a closing quote and a carriage return alone
 * are errors. Only with TAB as delimiter a quote inside an unquoted field is
 * an ordinary character, as most writers of TSV mean it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_CSV_H
#define TR_ROWS_CSV_H

#include "base/buf.h"
#include "base/str.h"

#include <stdint.h>

enum tr_csv_result {
    TR_CSV_MORE,     /* the record goes on after these bytes */
    TR_CSV_RECORD,   /* complete; structure is sound */
    TR_CSV_UNCLOSED, /* the bytes are final and a quote is open */
    TR_CSV_STRAY,    /* a quote inside an unquoted field */
    TR_CSV_AFTER,    /* something after a closing quote */
    TR_CSV_BARE_CR   /* a carriage return without line feed */
};

#define TR_CSV_NOWHERE SIZE_MAX

/* A record and how far the scan of it has come. Offsets count from the first
 * byte of the record. Set ends and ends_cap, then tr_csv_begin(). */
struct tr_csv_record {
    uint32_t *ends;      /* end of field i; the caller's memory */
    uint32_t ends_cap;   /* further fields are only counted */
    uint32_t fields;
    size_t n;            /* without the line end */
    size_t next;         /* where the next record begins */
    size_t field_at;     /* begin of the field in work; of the bad field */
    size_t bad_at;       /* the offending byte; UNCLOSED: the open quote */
    size_t nul_at;       /* first NUL byte, or TR_CSV_NOWHERE */
    uint32_t line_feeds; /* before next, its own line end included */
    bool high;           /* holds a byte above 0x7f */
    bool open;           /* inside quotes */
    bool crlf;           /* ended by CR LF */
    size_t at;           /* scanned so far */
    size_t closed_at;    /* after the closing quote of this field, or 0 */
};

void tr_csv_begin(struct tr_csv_record *rec);

/* Scans on. bytes begins at the first byte of the record and must hold at
 * least what earlier calls for this record saw; final: nothing follows. Not
 * for empty final bytes: there is no record then. */
enum tr_csv_result tr_csv_scan(struct tr_csv_record *rec, struct tr_str bytes,
                               bool final, char delimiter);

/* Field i as it stands in the record, quotes included. */
struct tr_str tr_csv_field(const struct tr_csv_record *rec, const char *bytes,
                           uint32_t i);

/* What field means: sets *value to a slice of field and returns true, or,
 * when doubled quotes stand in the way, returns false. */
bool tr_csv_plain(struct tr_str field, struct tr_str *value);
/* Appends what field means. */
void tr_csv_unquote(struct tr_str field, struct tr_buf *out);
/* Appends value as a field, quoted where it must be. */
void tr_csv_quote(struct tr_str value, char delimiter, struct tr_buf *out);

#endif
