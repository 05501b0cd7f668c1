/* json.h - yyjson inside this folder: its memory is ours, and bounded.
 *
 * Included after <yyjson.h>, by .c files only. A body of 8 MiB of "[[[[" must
 * not become 128 MiB of tree.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_JSON_H
#define TR_WIRE_JSON_H

#include "base/mem.h"

#define TR_JSON_TREE_BYTES ((size_t)24 << 20)

static inline void *tr_json_get(void *ctx, size_t n)
{
    (void)ctx;
    return n > TR_JSON_TREE_BYTES ? NULL : tr_resize(NULL, n);
}

static inline void *tr_json_grow(void *ctx, void *p, size_t old, size_t n)
{
    (void)ctx;
    (void)old;
    return n > TR_JSON_TREE_BYTES ? NULL : tr_resize(p, n);
}

static inline void tr_json_put(void *ctx, void *p)
{
    (void)ctx;
    tr_free(p);
}

static inline yyjson_doc *tr_json_read(struct tr_str s)
{
    const yyjson_alc alc = {tr_json_get, tr_json_grow, tr_json_put, NULL};

    /* Without YYJSON_READ_INSITU the text is not changed. */
    return yyjson_read_opts((char *)(size_t)(const void *)s.p, s.n, 0, &alc,
                            NULL);
}

/* tr_wire_error_read() of a value that is already parsed (reply.c). */
struct tr_wire_error;
void tr_wire_error_value(struct tr_wire_error *e, yyjson_val *v);

/* ---- pieces of a body every dialect reads alike (body.c) --------------- */

/* A count of tokens, -1 when absent or absurd. */
int64_t tr_json_count(yyjson_val *object, const char *name);
/* A string or object that is not empty. */
bool tr_json_is_something(yyjson_val *v);
/* A string, redacted and cut at size; "" for anything else. */
void tr_json_copy(char *to, size_t size, yyjson_val *v);
/* Parts that are larger than their whole become unknown. */
void tr_usage_check(struct tr_usage *u);

/* Responses, decisions: input_tokens, output_tokens and their details. */
void tr_usage_of_responses(struct tr_usage *u, yyjson_val *usage);

/* Why an answer ended, in a dialect's words; word NULL ends a table. A server
 * that knows only other words ended in its own way: OK. */
struct tr_finish {
    const char *word;
    enum tr_outcome outcome;
};
enum tr_outcome tr_finish_outcome(const struct tr_finish *known,
                                  yyjson_val *v);

/* Empties text, usage and scratch; true for a whole 2xx, which the dialect
 * reads. Anything else goes to tr_reply_error(). */
bool tr_reply_begin(const struct tr_http_result *r, struct tr_buf *scratch,
                    struct tr_reply *reply);
void tr_reply_error(const struct tr_http_result *r, struct tr_wire_error *e,
                    struct tr_reply *reply);
/* The body without blank lines and comment lines before the JSON: DeepSeek
 * and OpenRouter keep the connection alive with them. */
struct tr_str tr_reply_body(struct tr_str body);
/* A 2xx that was charged, whatever came of it. */
void tr_reply_set(struct tr_reply *reply, enum tr_outcome outcome,
                  const char *message);
/* The same with scratch as the text, and the words for the outcome. The usage
 * is read by then: all of it is reasoning where nothing else came. */
void tr_reply_say(struct tr_reply *reply, const struct tr_buf *scratch,
                  enum tr_outcome outcome, bool has_reasoning);
/* An error in a 200: as if its code were the status. It may have cost what
 * a 200 costs, though. */
void tr_reply_error_in_200(const struct tr_http_result *r, yyjson_val *holder,
                           struct tr_reply *reply);
/* A 2xx that is not what ("a chat completion"). */
void tr_reply_garbled(struct tr_str body, const char *what,
                      struct tr_reply *reply);

/* Where a dialect keeps what every answer in words has. */
struct tr_body_form {
    const char *what;              /* "a chat completion", for people */
    const char *model, *id, *usage; /* members of the root */
    void (*read_usage)(struct tr_usage *u, yyjson_val *usage);
    /* The rest; false: this is no such thing. */
    bool (*read)(yyjson_val *root, const struct tr_http_result *r,
                 struct tr_buf *scratch, struct tr_reply *reply);
};
/* A whole reply: true when it was a 2xx, and is read. Anything else goes to
 * tr_reply_error(). */
bool tr_reply_read(const struct tr_body_form *form, struct tr_quirks *q,
                   const struct tr_http_result *r, struct tr_buf *scratch,
                   struct tr_reply *reply);
/* The end of every encode(): did all of it find room? */
int tr_body_encoded(const struct tr_buf *b, struct tr_err *err);

/* ---- questions and answers of dialects that decide (questions.c) ------- */

/* A walk over all questions of a call: begin with zeros. */
struct tr_asked {
    const struct tr_item *item;
    const struct tr_label *label; /* yes or no about it; NULL: a choice */
    char name[32];                /* "417", "417_3" */
    size_t at;                    /* of the item, and of its next label */
    uint32_t next;
};
/* A request: the texts under the name input, then all questions between the two
 * brackets, each written by add(). */
int tr_questions_encode(const char *model, const struct tr_call *call,
                        const char *input, const char *brackets,
                        void (*add)(struct tr_buf *b,
                                    const struct tr_call *call,
                                    const struct tr_asked *a),
                        struct tr_buf *b, struct tr_err *err);
/* The instructions of one question, as a JSON string. */
void tr_questions_words(struct tr_buf *b, const struct tr_call *call,
                        const struct tr_asked *a);

struct tr_answers {
    const struct tr_question *asked;
    struct tr_buf found;
    size_t refusals;
};
/* One answer: value of a choice, or none and the probability of yes. */
void tr_answers_add(struct tr_answers *all, struct tr_str name,
                    yyjson_val *value, yyjson_val *probability);
/* A whole reply; read() adds every member of "answers", which is of type. */
void tr_reply_decide(const struct tr_question *asked,
                     const struct tr_http_result *r, struct tr_buf *scratch,
                     struct tr_reply *reply, yyjson_type type,
                     void (*read)(struct tr_answers *all,
                                  yyjson_val *answers));

#endif
