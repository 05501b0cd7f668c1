/* lane.h - one (origin, key, model): takes a pack, later gives its outcome.
 *
 * The engine (run.c) talks to every model through this table: HTTP lanes
 * (wire/), the local encoder (encode/) and the simulator implement it. A lane
 * never retries, never sleeps and never decides: it starts attempts and
 * reports what came of them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_LANE_H
#define TR_LANE_H

#include "base/buf.h"
#include "base/err.h"
#include "nouns.h"

#define TR_FIT_MORE 1  /* fit(): call again */
#define TR_FIT_OTHER 2 /* fit(): what was kept does not fit; call without it */

/* What lanes that decide are asked about each item, instead of a prompt; the
 * same for a whole run. Borrowed for as long as the lane is used. */
struct tr_question {
    struct tr_str instruction;      /* what to decide, examples included */
    const struct tr_label *labels;
    uint32_t label_count;
    int32_t none;                   /* the label for none of these, or -1 */
    bool multiple;                  /* any number of labels per text */
};

/* What the engine wants said in one request; slices valid during the call. */
struct tr_call {
    struct tr_str system;    /* stable part: task, labels, answer form */
    struct tr_str user;      /* data and closing instruction */
    struct tr_str schema;    /* JSON Schema of the answer, or empty */
    int64_t cap_tokens;      /* output cap, reasoning included */
    bool cache;              /* the stable part is worth a mark for the
                                provider's prompt cache, where one is needed */
    struct tr_str cache_key; /* for providers that route by one, or empty */
    /* Lanes that decide get these instead of words. */
    const struct tr_question *question;
    const struct tr_item *items; /* in the order sent */
    size_t item_count;
};

/* One attempt, ready to leave. body and texts live until its reply (in batches
 * until start() returns). */
struct tr_shot {
    uint64_t tag;               /* comes back in the reply; never 0 */
    uint64_t attempt;           /* its number in the store, for batches */
    int64_t tokens;             /* estimate, for batches */
    int64_t deadline_ms;        /* total time allowed, from start */
    struct tr_str body;         /* HTTP lanes: the request body */
    const struct tr_str *texts; /* local lanes: one per item */
    size_t text_count;
};

/* Local lanes answer with label indices instead of text. */
struct tr_score {
    uint32_t label;      /* index into the task's labels */
    uint16_t confidence; /* 0..10000 or TR_NO_CONFIDENCE */
    uint16_t cut;        /* 1: the text was longer than the model reads */
};

/* Lanes that decide say how sure they are of an item they answered. */
struct tr_sure {
    uint32_t id;
    uint16_t confidence; /* 0..10000 */
};

struct tr_reply {
    uint64_t tag;                  /* 0: about no attempt, the lane stops: it is
                                      refused, LOST when nobody answers it, or
                                      UNREACHED for want of disk or memory
                                      here */
    enum tr_outcome outcome;
    enum tr_billing billing;
    int status;                    /* HTTP status, 0: none */
    struct tr_str text;            /* answer; lane's memory, until next() */
    const struct tr_score *scores; /* local lanes: per text, in order */
    const struct tr_sure *sure;    /* lanes that decide; memory as of text */
    size_t sure_count;
    struct tr_usage usage;
    struct tr_limits limits;
    int64_t retry_after_ms;        /* server's wish, -1: none */
    bool unsent;                   /* its batch was refused as a whole */
    bool ours;                     /* nobody was asked: this machine lacked
                                      something, as message says */
    bool slow_down;                /* told to go back to an earlier rate */
    int64_t latency_ms;
    char served[96];               /* model that really answered, or "" */
    char request_id[80];
    char message[300];             /* provider's words, redacted, one line */
};

/* Makes a lane's batches durable; who opens the lane gives it. The store's
 * tr_store_batch_*(), seen from a lane. */
struct tr_batch_keep {
    void *ctx;
    /* Before the provider may hear of it; sets batch->id. */
    int (*creating)(void *ctx, struct tr_batch *batch,
                    const uint64_t *attempts, size_t n, struct tr_err *err);
    /* Before the first question about it. Name "": the one that was guessed is
     * gone, and the batch is looked for again. */
    int (*opened)(void *ctx, const struct tr_batch *batch, struct tr_err *err);
};

struct tr_lane;

struct tr_lane_vt {
    /* Writes the request body for call. NULL for local lanes. */
    int (*encode)(struct tr_lane *lane, const struct tr_call *call,
                  struct tr_buf *body, struct tr_err *err);
    /* Begins an attempt; returns at once. */
    int (*start)(struct tr_lane *lane, const struct tr_shot *shot,
                 struct tr_err *err);
    /* Takes one finished attempt: 1 when reply was filled, 0 when none. */
    int (*next)(struct tr_lane *lane, struct tr_reply *reply);
    /* Sleeps until an attempt finishes, extra_fd (or -1) is readable, wakeup
     * is called, or timeout_ms passed. NULL in the simulator. */
    void (*wait)(struct tr_lane *lane, int timeout_ms, int extra_fd);
    /* For who waits on several lanes: a descriptor that can be read when
     * wait() would have something to do, or -1; *timeout_ms is lowered to how
     * long it can do without a call. */
    int (*watch)(struct tr_lane *lane, int *timeout_ms);
    /* Makes wait() return; may be called from any thread. */
    void (*wakeup)(struct tr_lane *lane);
    /* Drops all attempts in flight: their replies never come. */
    void (*cancel)(struct tr_lane *lane);
    /* What the lane learned (field names the server wants, effort...) as one
     * line of text, to be kept in the store and handed back next time. */
    void (*learned)(struct tr_lane *lane, struct tr_buf *out);
    void (*teach)(struct tr_lane *lane, struct tr_str text);
    /* Local lanes: fit to a sample of texts before the first attempt; fitted
     * is what the store kept of an earlier fit (empty: none), out receives
     * what to keep. Sets lane->model's final name. Returns TR_OK when done,
     * TR_FIT_MORE after about 200 ms of work with more to do: call again,
     * TR_FIT_OTHER when fitted is of another model. The first call without
     * fitted copies the texts, later ones look at none. NULL for others. */
    int (*fit)(struct tr_lane *lane, const struct tr_str *texts, size_t n,
               struct tr_str fitted, struct tr_buf *out, struct tr_err *err);
    /* Lanes in batches, NULL for others. Takes over a batch of an earlier run:
     * replies for its attempts will come under these tags. */
    int (*adopt)(struct tr_lane *lane, const struct tr_batch *batch,
                 const uint64_t *attempts, const uint64_t *tags, size_t n,
                 struct tr_err *err);
    /* True while an attempt waits for its batch and has not left. */
    bool (*waits)(struct tr_lane *lane, uint64_t tag);
    void (*close)(struct tr_lane *lane);
};

struct tr_lane {
    const struct tr_lane_vt *vt;
    char model[160];             /* "openai/gpt-6-luna", as in NAME_by */
    char effort[16];             /* reasoning effort asked for, part of key */
    char host[160];              /* for messages: where requests go */
    bool stands_in;              /* a server on this machine under the name of
                                    a provider elsewhere, part of key */
    char account[33];            /* hex digest of address, key and model: who
                                    shares them shares limits; "": nobody */
    bool has_key;
    struct tr_model_facts facts;
    bool wants_sample;           /* call fit() before the first start() */
    char fits[33];               /* hex digest of a local model's file, part
                                    of key; its fit is kept under it */
    bool is_local;               /* no prompt, no tokens, no money */
    bool in_batches;             /* answers come within a day; what has left
                                    goes on without us; has its own pace */
    int batch_pct;               /* their price in percent; 0: not known */
    bool decides;                /* takes struct tr_question, not a prompt */
    uint32_t pack_auto;          /* texts per request unless the user says
                                    how many; 0: as many as are useful */
    uint32_t questions_max, options_max; /* where it decides: per request, per
                                            question; 0: no limit */
    int concurrency_max;         /* the lane's own ceiling; 0: none */
    int64_t rpm, tpm;            /* ceilings of the provider row; 0: none */
    bool has_cache_keys;         /* takes tr_call.cache_key */
    bool no_schema;              /* refuses strict JSON, as its replies showed */
    char shutdown[12];           /* day on which the model is stopped, or "" */
};

#endif
