/* jsonl.h - the members of a JSON object on one line, as they are spelled.
 *
 * A strict reader of RFC 8259 that never recurses, allocates nothing and
 * keeps the bytes: values are slices of the line. Depth TR_JSON_DEPTH_MAX.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_JSONL_H
#define TR_ROWS_JSONL_H

#include "base/buf.h"
#include "base/str.h"

struct tr_json_member {
    struct tr_str key;   /* between the quotes, escapes as spelled */
    struct tr_str value; /* the whole token; its first byte tells its kind */
};

/* Why a line is not an object of members; static words for a sentence. */
struct tr_json_fault {
    size_t at;        /* byte in the line */
    const char *what; /* "a ',' or '}' is expected", ... */
};

/* Fills members (at most cap) and *count. False: fault says why. */
bool tr_json_object(struct tr_str line, struct tr_json_member *members,
                    size_t cap, size_t *count, struct tr_json_fault *fault);

/* Appends what the string between quotes means, as UTF-8. False: a surrogate
 * without its other half. */
bool tr_json_unescape(struct tr_str body, struct tr_buf *out);

/* The text between the quotes of a string token. */
static inline struct tr_str tr_json_body(struct tr_str token)
{
    return tr_str(token.p + 1, token.n - 2);
}

#endif
