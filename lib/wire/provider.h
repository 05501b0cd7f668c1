/* provider.h - providers, models and dialects: data, and one table.
 *
 * A provider is a row of data/providers.yaml (dialect, origin, which
 * environment variable holds the key, field names); a model is a row of
 * data/models.yaml (prices, context). Users lay their own rows over both. A
 * dialect is one file here and one row in tr_dialects[].
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_WIRE_PROVIDER_H
#define TR_WIRE_PROVIDER_H

#include "lane.h"
#include "wire/transport.h"

/* How a server wants things said; starts from the provider's row, changed by
 * what a 400 teaches, kept with the lane. */
struct tr_quirks {
    bool old_cap;        /* max_tokens instead of max_completion_tokens */
    bool no_schema;      /* no json_schema response_format */
    int effort;          /* index into the dialect's effort ladder; -1: do not
                            send the field */
    bool no_stream_field, no_store_field; /* dialect's use */
};

struct tr_dialect {
    const char *name;                        /* "openai" */
    const char *path;                        /* "/chat/completions" */
    int (*encode)(const char *model, const struct tr_quirks *q,
                  const struct tr_call *call, struct tr_buf *body,
                  struct tr_err *err);
    /* Response to reply: answer text, finish, usage, error shape. Sets
     * outcome, billing, message. scratch owns reply->text. May change q and
     * then returns outcome ADAPT. */
    void (*decode)(struct tr_quirks *q, const struct tr_http_result *result,
                   struct tr_buf *scratch, struct tr_reply *reply);
};
extern const struct tr_dialect *const tr_dialects[]; /* NULL-terminated */

/* ---- pieces every dialect uses (provider.c) --------------------------- */

/* The error inside a body, whatever its shape (providers.md §6.2): the first
 * message found, type and code as text; redacted, one line. */
struct tr_wire_error {
    char message[300], type[64], code[64], param[64];
};
void tr_wire_error_read(struct tr_wire_error *e, struct tr_str body);
/* Status first, text last (providers.md §6.1): outcome and billing of a
 * result that is not a usable 2xx answer. */
void tr_wire_classify(const struct tr_http_result *result,
                      const struct tr_wire_error *e, struct tr_reply *reply);
/* Limits and Retry-After in all their forms. now_wall_s for HTTP dates. */
void tr_wire_limits(struct tr_str headers, int64_t now_wall_s,
                    struct tr_limits *limits, int64_t *retry_after_ms);
/* "6m0s", "120ms", "1h12m0s", "3.5" (seconds), RFC 3339: milliseconds clamped
 * to [0, 24 h], or -1. */
int64_t tr_wire_duration_ms(struct tr_str s, int64_t now_wall_s);
/* Replaces keys (sk-..., Bearer ..., key=...) and control bytes, cuts at
 * size, one line. */
void tr_wire_redact(char *text, size_t size);

/* ---- the HTTP lane ---------------------------------------------------- */

struct tr_lane_opts {
    const char *model;      /* "openai/gpt-6-luna" */
    const char *base_url;   /* --base-url, or NULL */
    const char *key_env;    /* --key-env, or NULL */
    const char *key_file;   /* --key-file, mode 0600, or NULL */
    const char *effort;     /* --effort, or NULL: lowest the model takes */
    const char *config_dir; /* $XDG_CONFIG_HOME/trommel, or NULL */
    struct tr_str providers_yaml; /* of the task file, or empty */
    bool allow_http;
    /* Looks a name up in the environment; tests replace it. NULL: getenv */
    const char *(*env)(const char *name);
};
/* Finds provider and model, key and origin; errors name the variable, the
 * nearest provider name, or the option to set. Opens no connection. */
int tr_http_lane_open(struct tr_lane **out, const struct tr_lane_opts *o,
                      struct tr_err *err);
/* The same over a given transport: tests and the simulator. */
int tr_lane_over(struct tr_lane **out, const struct tr_dialect *dialect,
                 const char *model, const struct tr_model_facts *facts,
                 struct tr_transport *transport, struct tr_err *err);

/* Facts of a model ("openai/gpt-6-luna"); false when unknown (prices -1). */
bool tr_model_find(const struct tr_lane_opts *o, const char *model,
                   struct tr_model_facts *facts, char *as_of, size_t as_of_n);

#endif
