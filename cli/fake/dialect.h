/* dialect.h - the dialects from the provider's side: which path speaks which,
 * a request read, an answer or an error written.
 *
 * dialect.c reads, speech.c writes; a dialect is one row of the table in
 * dialect.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_DIALECT_H
#define TR_FAKE_DIALECT_H

#include "base/buf.h"
#include "fake/cache.h"
#include "fake/bill.h"
#include "fake/gullible.h"

#include <stdbool.h>
#include <stdint.h>

struct fake_dialect;

/* One line [417, "text"] of the user message, or one text alone. */
struct fake_item {
    int64_t id;
    uint64_t hash; /* of its text */
};

/* One question of a decision endpoint, about one item. */
struct fake_question {
    int64_t id;         /* of the item */
    char name[96];      /* as it is given back */
    bool is_choice;     /* else yes or no, about one label */
    uint64_t label;     /* hash of that label */
};

/* A request as the provider understands it. Buffers are kept for the next
 * request read into the same struct. */
struct fake_request {
    const struct fake_dialect *dialect;
    struct fake_item *items;   /* owned */
    size_t item_count, item_cap;
    struct fake_question *questions; /* owned */
    size_t question_count, question_cap;
    struct tr_buf scratch;     /* where item lines are parsed */
    char model[96];
    char effort[16];           /* or empty */
    int64_t cap_tokens;        /* -1: none asked for */
    int64_t prompt_tokens;     /* our count: bytes / 4 and 3 per message */
    struct fake_prefix prefix; /* the prompt, for the cache */
    int64_t marked_tokens;     /* of those, before a cache mark */
    uint64_t marked_hash;      /* of what stands there */
    bool has_cache;            /* prompt_cache_options */
    bool is_explicit;          /* nothing is kept but what is marked */
    bool has_max_tokens, has_max_completion_tokens, has_effort, has_schema;
    bool is_nested;            /* the schema wants labels in an own array */
    bool is_stream;
    bool is_poisoned, is_stuck; /* an item held the text looked for */
    struct gullible orders;    /* that stand in the texts */
};

/* Texts looked for in items; NULL or empty: none. */
struct fake_needles {
    const char *poison, *stuck;
    bool orders;               /* what texts order */
};

/* How limits show in the headers of a reply. */
enum fake_limit_style { FAKE_LIMITS_OPENAI, FAKE_LIMITS_ANTHROPIC,
                        FAKE_LIMITS_REMAINING, FAKE_LIMITS_NONE };

struct fake_error {
    enum fake_end end;
    int status;
    const char *type, *param, *code, *message; /* may be NULL */
};

struct fake_completion {
    uint64_t number;
    int64_t created_s;
    const char *finish;       /* "stop", "length", "content_filter" */
    struct tr_str content;
    bool is_refusal;          /* content is why the model refuses */
    int64_t cached_tokens, cache_write_tokens; /* of the prompt's */
    bool says_writes;         /* cache_write_tokens is reported */
    int64_t prompt_tokens, completion_tokens, reasoning_tokens;
    const struct fake_said *said; /* decisions: what is answered */
    size_t said_n;
};

struct yyjson_val;

struct fake_dialect {
    const char *path;         /* * stands for the model's name */
    const char *key_header;   /* after "authorization" comes "Bearer" */
    const char *must_header;  /* without it 400; NULL: none */
    const char *id_header;    /* with the number of the request */
    enum fake_limit_style limits;
    bool charges_cap;         /* limits count the cap, if it is larger */
    bool decides;             /* answers questions, not in words */
    const char *effort_name, *schema_name; /* in refusals */
    /* NULL, or what is wrong. */
    const char *(*read)(struct fake_request *r, struct yyjson_val *root,
                        const struct fake_needles *needles);
    void (*complete)(struct tr_buf *out, const struct fake_request *r,
                     const struct fake_completion *c);
    void (*refuse)(struct tr_buf *out, const struct fake_error *e,
                   int64_t retry_ns);
    const struct fake_error *errors; /* what differs from OpenAI's; status 0
                                        ends; NULL: nothing */
};

/* The dialect spoken at a path and the model named in it (or ""); NULL: none
 * is. */
const struct fake_dialect *fake_dialect_at(const char *path, char *model,
                                           size_t size);
/* The paths, joined by ", ". */
void fake_dialect_paths(struct tr_buf *out);

/* body has 4 bytes of room behind n, which are overwritten, as is the rest.
 * model: named in the path, or "". NULL, or what is wrong with it: static
 * words. */
const char *fake_request_read(struct fake_request *r,
                              const struct fake_dialect *dialect,
                              const char *model, char *body, size_t n,
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

int64_t fake_tokens(size_t bytes);

/* ---- speech.c --------------------------------------------------------- */

extern const struct fake_error fake_anthropic_errors[], fake_gemini_errors[],
    fake_azure_errors[], fake_systemone_errors[];

void fake_complete_openai(struct tr_buf *out, const struct fake_request *r,
                          const struct fake_completion *c);
void fake_complete_anthropic(struct tr_buf *out, const struct fake_request *r,
                             const struct fake_completion *c);
void fake_complete_responses(struct tr_buf *out, const struct fake_request *r,
                             const struct fake_completion *c);
void fake_complete_gemini(struct tr_buf *out, const struct fake_request *r,
                          const struct fake_completion *c);
void fake_complete_decisions(struct tr_buf *out, const struct fake_request *r,
                             const struct fake_completion *c);
void fake_complete_systemone(struct tr_buf *out, const struct fake_request *r,
                             const struct fake_completion *c);
void fake_refuse_systemone(struct tr_buf *out, const struct fake_error *e,
                           int64_t retry_ns);
void fake_refuse_openai(struct tr_buf *out, const struct fake_error *e,
                        int64_t retry_ns);
void fake_refuse_anthropic(struct tr_buf *out, const struct fake_error *e,
                           int64_t retry_ns);
void fake_refuse_gemini(struct tr_buf *out, const struct fake_error *e,
                        int64_t retry_ns);

#endif
