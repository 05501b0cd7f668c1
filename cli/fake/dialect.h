/* dialect.h - OpenAI Chat Completions from the provider's side: a request
 * read, an answer or an error written.
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_DIALECT_H
#define TR_FAKE_DIALECT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* One line [417, "text"] of the user message. */
struct fake_item {
    int64_t id;
    uint64_t hash; /* of its text */
};

/* A request as the provider understands it. Buffers are kept for the next
 * request read into the same struct. */
struct fake_request {
    struct fake_item *items;   /* owned */
    size_t item_count, item_cap;
    struct tr_buf scratch;     /* where item lines are parsed */
    char model[96];
    char effort[16];           /* or empty */
    int64_t cap_tokens;        /* -1: none asked for */
    int64_t prompt_tokens;     /* our count: bytes / 4 and 3 per message */
    bool has_max_tokens, has_max_completion_tokens, has_effort, has_schema;
    bool is_nested;            /* the schema wants labels in an own array */
    bool is_stream;
    bool is_poisoned, is_stuck; /* an item held the text looked for */
};

/* Texts looked for in items; NULL or empty: none. */
struct fake_needles {
    const char *poison, *stuck;
};

/* body has 4 bytes of room behind n, which are overwritten, as is the rest.
 * NULL, or what is wrong with it: static words. */
const char *fake_request_read(struct fake_request *r, char *body, size_t n,
                              const struct fake_needles *needles);
void fake_request_release(struct fake_request *r);

/* One answered item, as the model would say it. */
struct fake_said {
    int64_t id;
    struct tr_str label; /* "a", "a|b", or empty for none */
    size_t end;          /* set by fake_say(): bytes of out that hold it all */
};

/* Lines "417 refund", or {"a": [[417, "refund"]]} when the request has a
 * schema. */
void fake_say(struct tr_buf *out, const struct fake_request *r,
              struct fake_said *said, size_t n);

struct fake_completion {
    uint64_t number;
    int64_t created_s;
    const char *finish;       /* "stop", "length", "content_filter" */
    struct tr_str content;
    bool is_refusal;          /* content is why the model refuses */
    int64_t prompt_tokens, completion_tokens, reasoning_tokens;
};
void fake_write_completion(struct tr_buf *out, const struct fake_request *r,
                           const struct fake_completion *c);
/* param and code may be NULL. */
void fake_write_error(struct tr_buf *out, const char *message,
                      const char *type, const char *param, const char *code);

int64_t fake_tokens(size_t bytes);

#endif
