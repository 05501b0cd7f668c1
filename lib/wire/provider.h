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

#include <sys/types.h>

/* Reasoning efforts, lowest first; a set of them is a bit mask. */
#define TR_EFFORTS(X)                                                          \
    X(none) X(minimal) X(low) X(medium) X(high) X(xhigh) X(max)
enum tr_effort {
#define X(name) TR_EFFORT_##name,
    TR_EFFORTS(X)
#undef X
    TR_EFFORT_COUNT
};
const char *tr_effort_name(int effort);   /* "low"; "" when out of range */
int tr_effort_find(struct tr_str name);   /* -1: no such effort */

/* In which words a server takes the effort. */
#define TR_EFFORT_STYLES(X)                                                    \
    X(omit)     /* not at all */                                               \
    X(field)    /* the dialect's own: "reasoning_effort":"none" */             \
    X(kwargs)   /* "chat_template_kwargs":{"enable_thinking":false} */         \
    X(object)   /* "reasoning":{"enabled":false} */                            \
    X(thinking) /* "thinking":{"type":"disabled"} */                           \
    X(budget)   /* "thinkingConfig":{"thinkingBudget":0} */
enum tr_effort_style {
#define X(name) TR_STYLE_##name,
    TR_EFFORT_STYLES(X)
#undef X
    TR_STYLE_COUNT
};

/* The request fields a server may refuse. */
enum tr_refusable {
    TR_FIELD_NEW_CAP = 1, /* max_completion_tokens */
    TR_FIELD_OLD_CAP = 2, /* max_tokens */
    TR_FIELD_SCHEMA = 4,  /* response_format */
    TR_FIELD_EFFORT = 8,  /* reasoning_effort and its relatives */
    TR_FIELD_TEMPERATURE = 16,
    TR_FIELD_CACHE = 32,  /* cache_control */
    TR_FIELD_OFF = 64     /* that reasoning is switched off altogether */
};
/* Which words of a refusal name which field; word NULL ends a table. */
struct tr_field_word {
    const char *word;
    unsigned field;
};

/* How a server wants things said; starts from the provider's row, changed by
 * what a 400 teaches, kept with the lane. */
struct tr_quirks {
    bool old_cap;        /* max_tokens instead of max_completion_tokens */
    bool no_schema;      /* no json_schema response_format */
    bool no_cache;       /* no marks for the provider's prompt cache */
    bool cache_keys;     /* OpenAI: prompt_cache_key */
    bool cache_marks;    /* its later models: prompt_cache_options, and a mark
                            where what is to be kept ends */
    bool zero_temperature; /* send "temperature":0 */
    bool require_parameters; /* OpenRouter: no provider that drops a field */
    bool effort_fixed;   /* the user chose it: never adapted */
    int effort;          /* enum tr_effort; -1: do not send the field */
    int effort_style;    /* enum tr_effort_style */
    unsigned efforts;    /* levels the model may take */
    unsigned refused;    /* enum tr_refusable: fields a 400 named */
    unsigned stale;      /* refusals since the last success that taught
                            nothing new: requests written earlier */
};

/* What a server wants said, whatever is asked; a provider's row may differ
 * from its dialect. */
struct tr_dialect {
    const char *name;       /* "openai" */
    const char *path;       /* behind the base address; {model} stands for
                               the model's name */
    const char *key_header; /* "x-api-key"; after "authorization" comes
                               "Bearer" */
    const char *headers[2]; /* sent with every request; NULL ends */
    /* Dialects that take questions with labels instead of a prompt. */
    bool decides;
    uint32_t questions_max, options_max; /* of one request, of one question */
    int (*encode)(const char *model, const struct tr_quirks *q,
                  const struct tr_call *call, struct tr_buf *body,
                  struct tr_err *err);
    /* Response to reply: answer text, finish, usage, error shape. Sets
     * outcome, billing, message; reply->limits and retry_after_ms hold what
     * the headers said. scratch owns reply->text. May change q and then
     * returns outcome ADAPT: encode again, send once more. asked: the
     * question of the last call, NULL where there was none. */
    void (*decode)(struct tr_quirks *q, const struct tr_question *asked,
                   const struct tr_http_result *result,
                   struct tr_buf *scratch, struct tr_reply *reply);
};
extern const struct tr_dialect *const tr_dialects[]; /* NULL-terminated */
extern const struct tr_dialect tr_openai, tr_responses, tr_anthropic,
    tr_gemini, tr_decisions, tr_systemone;

/* ---- pieces every dialect uses (reply.c, limits.c) -------------------- */

/* The error inside a body, whatever its shape (docs/internals/wire.md): the
 * first message found, type and code as text; redacted, one line. */
struct tr_wire_error {
    char message[300], type[64], code[64], param[64];
    char detail[96];   /* Google: the limit (a day's before others) or reason;
                          OpenRouter: the same or the type, of its provider */
    int64_t detail_ms; /* the wait its details name, 0: none */
    int64_t words_ms;  /* that of the whole message, 0 or less: none */
};
void tr_wire_error_read(struct tr_wire_error *e, struct tr_str body);
/* Status first, text last (docs/internals/wire.md): outcome, billing and
 * message of a result that is not a usable 2xx answer. EXHAUSTED: money or
 * quota is gone when reply->retry_after_ms is -1, a day's limit otherwise. */
void tr_wire_classify(const struct tr_http_result *result,
                      const struct tr_wire_error *e, struct tr_reply *reply);
/* Learns from a 400 or 422 that names a field that was sent: changes q and
 * sets outcome ADAPT (learn.c). */
void tr_wire_adapt(struct tr_quirks *q, const struct tr_field_word *words,
                   const struct tr_wire_error *e, struct tr_reply *reply);
/* OpenAI's members about its prompt cache (openai.c). */
void tr_wire_cache(const struct tr_quirks *q, const struct tr_call *call,
                   struct tr_buf *body);
/* Is the system part to be marked as what the provider keeps? */
static inline bool tr_wire_marks(const struct tr_quirks *q,
                                 const struct tr_call *call)
{
    return call->cache && q->cache_marks && !q->no_cache;
}
/* It, so marked: an array of one block of that type. */
void tr_wire_marked(const struct tr_call *call, const char *type,
                    struct tr_buf *body);
/* Limits and Retry-After in all their forms. now_wall_s for HTTP dates, when
 * the headers do not carry the server's own date. */
void tr_wire_limits(struct tr_str headers, int64_t now_wall_s,
                    struct tr_limits *limits, int64_t *retry_after_ms);
/* The value of a header in result->headers; p NULL when it is not there. */
struct tr_str tr_wire_header(struct tr_str headers, const char *name);
/* "... Please try again in 84ms.": 84, or -1. */
int64_t tr_wire_try_again_ms(struct tr_str message);
/* "6m0s", "120ms", "1h12m0s", "3.5" (seconds), RFC 3339, epoch seconds or
 * milliseconds: milliseconds from now clamped to [0, 24 h], or -1. */
int64_t tr_wire_duration_ms(struct tr_str s, int64_t now_wall_s);
/* An HTTP date or RFC 3339 as Unix seconds, or -1. */
int64_t tr_wire_date_s(struct tr_str s);
/* Replaces keys (sk-..., Bearer ..., key=...) and control bytes, cuts at
 * size, one line. */
void tr_wire_redact(char *text, size_t size);
/* Where the name of a variable or a file belongs: may it be shown, or is it
 * rather the key itself? A variable has few digits and letters of one case; a
 * file's name has no long run that only a generator writes. */
bool tr_wire_is_variable(const char *name);
bool tr_wire_is_key(const char *path);

/* ---- what a lane is opened with --------------------------------------- */

/* Requests in batches instead of one by one. */
struct tr_batch_opts {
    const struct tr_batch_keep *keep;
    const char *folder;     /* of temporary files; NULL: as TMPDIR says */
    int64_t tokens_max;     /* enqueued at the provider; 0: learn */
    int64_t poll_ms;        /* between the first questions */
};

struct tr_lane_opts {
    const char *model;      /* "openai/gpt-6-luna" */
    const char *base_url;   /* --base-url, or NULL */
    const char *key_env;    /* --key-env, or NULL */
    const char *key_file;   /* --key-file, mode 0600, or NULL */
    const char *effort;     /* --effort, or NULL: lowest the model takes */
    const char *proxy;      /* --proxy: NULL none, "env", or an address */
    const char *config_dir; /* $XDG_CONFIG_HOME/trommel, or NULL */
    struct tr_str providers_yaml; /* of the task file, or empty; ... */
    const char *task_path;        /* ... and its name, for sentences */
    /* A task file may come from somebody else: whether it said them. */
    bool task_says_url, task_says_key; /* base_url, key_env */
    bool key_is_meant;      /* key_file, else key_env, was said for this run:
                               on the command line */
    bool allow_http;
    bool allow_link_local;  /* --allow-link-local */
    bool keyless;           /* nothing will be sent: a missing key is fine */
    const struct tr_batch_opts *batch; /* NULL: one by one */
    int64_t today_s;        /* whose prices hold; 0: the wall clock says */
    /* Looks a name up in the environment; tests replace it. NULL: getenv */
    const char *(*env)(const char *name);
};

/* ---- providers and models (catalog.c, layer.c) ------------------------- */

#define TR_ROW_HEADERS_MAX 4

/* A row of providers.yaml; strings live as long as the tr_catalog. */
struct tr_provider {
    const char *name, *dialect, *base_url, *base_url_env;
    const char *key_env, *key_file; /* NULL: none */
    bool by_task;         /* a task file said its address */
    bool key_optional;    /* asked without a key when the variable is unset */
    bool is_free;         /* runs on the user's own machine */
    int effort_default;   /* for a model without a row; -1: do not send */
    struct tr_quirks quirks;
    int64_t rpm, tpm;     /* 0: none */
    int concurrency;
    const char *batch;    /* form of its batches, or NULL: none */
    int64_t batch_requests, batch_mb; /* of one batch, at most */
    const char *path, *key_header; /* NULL: the dialect's */
    const char *headers[TR_ROW_HEADERS_MAX + 1]; /* more: "name: value", or
                             "name: $NAME" of a variable; NULL ends */
    const char *models;   /* the provider whose models.yaml rows count here,
                             NULL: its own */
    int pack;             /* texts per request, 0: the dialect's */
    int questions, options; /* where it decides; 0: the dialect's */
};

/* A row of models.yaml. */
struct tr_model {
    const char *name;     /* "openai/gpt-6-luna" */
    struct tr_model_facts facts;
    bool is_free;         /* of facts, the prices: none is said, and its
                             provider's models are free */
    bool has_efforts;     /* efforts is known; it may be empty */
    unsigned efforts;     /* mask of enum tr_effort */
    int effort_style;     /* enum tr_effort_style; -1: the provider's */
    bool cache_marks;     /* see tr_quirks */
    int batch_pct;        /* price of a batch in percent, 0: no batch */
    const char *shutdown; /* "2026-12-11", or NULL */
    const char *then_from; /* first day of other prices, or NULL */
    const char *as_of;
};

/* Both tables with the user's rows laid over, for `trommel models`. */
struct tr_catalog;
int tr_catalog_open(struct tr_catalog **out, const struct tr_lane_opts *o,
                    struct tr_err *err);
void tr_catalog_close(struct tr_catalog *c);
size_t tr_catalog_providers(const struct tr_catalog *c,
                            const struct tr_provider **rows);
size_t tr_catalog_models(const struct tr_catalog *c,
                         const struct tr_model **rows);
/* NULL: there is no such row. The second looks under "provider/model" without
 * the date of a version too, then under the provider that p's row refers to;
 * p may be NULL. */
const struct tr_provider *tr_catalog_provider(const struct tr_catalog *c,
                                              struct tr_str name);
const struct tr_model *tr_catalog_facts(const struct tr_catalog *c,
                                        const struct tr_provider *p,
                                        const char *model);
/* What a model costs and takes, m NULL: unknown. is_free: what has no price
 * costs nothing where it is asked. */
struct tr_model_facts tr_catalog_cost(const struct tr_model *m, bool is_free);
/* The built-in provider whose key the variable holds, when the address is
 * somebody else's; NULL: the key may go there. */
const struct tr_provider *tr_catalog_robbed(const struct tr_catalog *c,
                                            const char *key_env,
                                            const char *base_url,
                                            const char *base_url_env);

/* Is it the variable of a built-in provider that is paid? NULL: no. */
bool tr_catalog_is_paid(const struct tr_catalog *c, const char *key_env);

/* Facts of a model ("openai/gpt-6-luna"); false when unknown (prices -1). */
bool tr_model_find(const struct tr_lane_opts *o, const char *model,
                   struct tr_model_facts *facts, char *as_of, size_t as_of_n);

#define TR_SHUTDOWN_NEAR 60 /* days: time to think of another model */
/* Days from now until the day of "2026-12-11", negative when it is past;
 * INT_MAX when date is no such date. */
int tr_days_until(const char *date, int64_t now_s);

/* The nearest so far; start with best NULL. */
struct tr_wire_near {
    const char *name, *best;
    size_t best_n;
};
void tr_wire_near_try(struct tr_wire_near *near, const char *candidate);
/* Up to size bytes, until the file ends; < 0: errno says why not. */
ssize_t tr_wire_read_all(int fd, char *p, size_t size);

/* ---- one of them, and how to reach it (target.c) ---------------------- */

/* Where a lane's requests go and with which key: the rules of
 * docs/providers.md, without opening anything. */
struct tr_target {
    const struct tr_provider *provider; /* lives as long as the catalog */
    const struct tr_model *facts;       /* NULL: unknown */
    bool is_free;                       /* and then costs nothing */
    const struct tr_dialect *dialect;
    char model[160];   /* as the server calls it: "gpt-6-luna" */
    char url[600];     /* whole address of the endpoint */
    char host[160];
    char key[512];     /* "": none. Wipe after use */
    char headers[TR_ROW_HEADERS_MAX + 1][820]; /* the row's with their values,
                                                  as secret; "" ends */
    bool stands_in;    /* a server on this machine, for one that is elsewhere */
    const char *key_header;
    struct tr_quirks quirks;
};
int tr_target_find(struct tr_target *t, const struct tr_catalog *c,
                   const struct tr_lane_opts *o, struct tr_err *err);

/* target->key from a file of mode 0600 that is ours, and nothing else. */
int tr_target_key_file(struct tr_target *t, const char *path,
                       struct tr_err *err);
/* Of an address, what stands between scheme and port or path. */
struct tr_str tr_wire_host_of(const char *url);
/* 127.0.0.1, localhost, [::1]: by their letters only. */
bool tr_wire_is_loopback(struct tr_str host);

/* ---- lanes (lane.c) --------------------------------------------------- */

/* Finds provider and model, key and origin; errors name the variable, the
 * nearest provider name, or the option to set. Opens no connection. */
int tr_http_lane_open(struct tr_lane **out, const struct tr_lane_opts *o,
                      struct tr_err *err);
/* The same over a given transport, which the lane closes: tests and the
 * simulator. On failure the transport remains the caller's. */
int tr_lane_over(struct tr_lane **out, const struct tr_dialect *dialect,
                 const char *model, const struct tr_model_facts *facts,
                 struct tr_transport *transport, struct tr_err *err);
/* How that lane's server wants things said; plain defaults otherwise. */
void tr_lane_quirks(struct tr_lane *lane, const struct tr_quirks *quirks);

/* ---- advisories (advisories.c) ---------------------------------------- */

/* Adds one line about what is known of a libcurl of that version, nothing
 * when nothing is; *grave: from severity high on. proxy: requests go over
 * one. data: the rows, empty: those that come along. */
int tr_wire_advisories(struct tr_str data, const char *version, bool proxy,
                       struct tr_buf *out, bool *grave, struct tr_err *err);

#endif
