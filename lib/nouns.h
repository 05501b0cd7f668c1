/* nouns.h - the data of the program: read this first, then run.h.
 *
 *   row      one input record: its bytes, the text to ask about, its verdict
 *   block    consecutive rows and the bytes they live in
 *   verdict  what a row ended in: labels, or a reason why not
 *   item     a text in a pack, a row's or a guest's, under a fresh random id
 *   guest    an item that is no row: its answer is known (plan/guard.h)
 *   pack     items that share one request
 *   attempt  one request of a pack: intent, reservation, outcome
 *   outcome  what came of an attempt: what to do next, and who pays
 *   batch    attempts that leave together and are answered within a day
 *   event    what an operator may want to be told of at once
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_NOUNS_H
#define TR_NOUNS_H

#include "base/digest.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- verdict ---------------------------------------------------------- */

/* Why a row has no label: value, code as it stands in NAME_error, whether the
 * store keeps it (only failures that are the row's own), explanation. */
#define TR_REASONS(X)                                                          \
    X(TR_WHY_NONE, "", 0, "labelled")                                          \
    X(TR_WHY_INVALID, "invalid_answer", 1,                                     \
      "the model gave no valid label in five tries alone")                     \
    X(TR_WHY_BLOCKED, "blocked", 1,                                            \
      "the provider's content filter or the model refused the text")           \
    X(TR_WHY_TOO_LONG, "too_long", 1,                                          \
      "the text does not fit the model's context; --truncate cuts it")         \
    X(TR_WHY_TRUNCATED, "truncated_answer", 1,                                 \
      "the answer was cut off even for this text alone")                       \
    X(TR_WHY_REJECTED, "rejected", 1,                                          \
      "the provider refused this text alone as a bad request")                 \
    X(TR_WHY_NO_ANSWER, "no_answer", 0,                                        \
      "requests for this text alone kept failing while others succeeded")      \
    X(TR_WHY_EMPTY, "empty_text", 0, "there is no text to label")              \
    X(TR_WHY_NOT_ASKED, "not_asked", 0, "not asked yet (--offline)")          \
    X(TR_WHY_BAD_FIELDS, "bad_fields", 0, "wrong number of fields")            \
    X(TR_WHY_BAD_QUOTE, "bad_quote", 0, "a quote is not closed or misplaced")  \
    X(TR_WHY_BAD_UTF8, "bad_utf8", 0, "the text is not valid UTF-8")           \
    X(TR_WHY_BAD_NUL, "bad_nul", 0, "a NUL byte in the record")                \
    X(TR_WHY_BAD_JSON, "bad_json", 0, "the line is not a JSON object")         \
    X(TR_WHY_BAD_MEMBER, "bad_member", 0,                                      \
      "the text member is missing or not a string")                           \
    X(TR_WHY_OVER_LONG, "over_long_record", 0,                                 \
      "the record is longer than the limit")                                   \
    X(TR_WHY_OVER_LIMIT, "over_limit", 0,                                      \
      "this text alone is more than the provider's limit for a minute")

enum tr_why {
#define X(name, code, stored, text) name,
    TR_REASONS(X)
#undef X
    TR_WHY_COUNT
};

/* "invalid_answer" and so on; static. */
static inline const char *tr_why_code(enum tr_why why)
{
    static const char *const codes[] = {
#define X(name, code, stored, text) code,
        TR_REASONS(X)
#undef X
    };
    return codes[why];
}

static inline const char *tr_why_text(enum tr_why why)
{
    static const char *const texts[] = {
#define X(name, code, stored, text) text,
        TR_REASONS(X)
#undef X
    };
    return texts[why];
}

static inline bool tr_why_stored(enum tr_why why)
{
    static const bool stored[] = {
#define X(name, code, keep, text) keep,
        TR_REASONS(X)
#undef X
    };
    return stored[why];
}

/* ---- label and item: what tasks, lanes and the engine share ------------ */

struct tr_label {
    struct tr_str name;        /* unique, non-empty, no '|', no line break */
    struct tr_str description; /* may be empty */
};

struct tr_item {
    struct tr_str text; /* as sent */
    uint32_t id;        /* three digits, distinct within the attempt */
};

#define TR_SET_NOTHING 0xffffffffu /* several labels allowed, none applies */
#define TR_SET_COMBINED (UINT64_C(1) << 32) /* from here on a label set says by
                                               itself what is in it */
#define TR_SETS_END (UINT64_C(1) << 56)     /* and from here on there is none */
#define TR_NO_CONFIDENCE 0xffffu
#define TR_NO_ORIGIN 0xffffu

/* What a row ended in. Plain data, 24 bytes, copied freely. */
struct tr_verdict {
    uint64_t set;        /* label set (task/task.h), when why is NONE */
    uint16_t why;        /* enum tr_why */
    uint16_t origin;     /* who said it: index into the store's origins */
    uint16_t confidence; /* 0..10000, or TR_NO_CONFIDENCE */
    uint16_t pack_size;  /* items in the request that answered; 0 unknown */
    uint16_t position;   /* place in that request, from 0 */
    uint16_t spare;
    uint16_t unused[2];  /* no gap: equal ones are equal byte by byte */
};

/* ---- row and block ---------------------------------------------------- */

/*   READ ─┬─ known in the store ─────────────────────────────┐
 *         ├─ equal to an earlier row: TWIN (with that row) ──┤
 *         └─ WAITING ⇄ PACKED ─→ ANSWERED ───────────────────┴→ SETTLED
 *
 * ANSWERED: the verdict is known, its commit is not. SETTLED: durable (or
 * needs no store). Only SETTLED rows are written. engine/moves.c has the moves
 * of rows that are asked. */
enum tr_row_state {
    TR_ROW_READ,
    TR_ROW_WAITING,
    TR_ROW_TWIN,
    TR_ROW_PACKED,
    TR_ROW_ANSWERED,
    TR_ROW_SETTLED
};

struct tr_row {
    uint32_t raw_at, raw_n;   /* record as read, no line end; in block bytes */
    uint32_t text_at, text_n; /* text to ask about; may lie inside raw */
    uint32_t id_at, id_n;     /* a pushed row's name; an example's label;
                                 n 0: none */
    uint64_t line;            /* line of the file where it begins, from 1 */
    uint8_t state;            /* enum tr_row_state */
    uint8_t alone_tries;      /* failed attempts in which it was alone */
    uint16_t company;         /* largest pack it may be in; 0: no limit yet */
    uint8_t lane;             /* first lane of the run it may be asked by; when
                                 ANSWERED, the one that said so */
    bool went_on : 1;         /* it ended badly at a lane before */
    bool refused : 1;         /* alone, by the lane it may be asked by first */
    bool apart : 1;           /* its looks are suspect: never in company */
    bool watched : 1;         /* of a pack that failed or was incomplete: among
                                 others with canaries, if there are any */
    bool wary : 1;            /* of a pack that was doubted: never among others
                                 without canaries; verdict holds what was said
                                 (set) and which doubt it was (spare) */
    struct tr_block *block;   /* its owner; set by the window */
    uint64_t party;           /* --apart: only rows of one party share a
                                 request; 0: nothing keeps them apart */
    struct tr_key key;        /* set when READ is left */
    struct tr_verdict verdict;
    struct tr_row *twin;      /* next row with the same key, or NULL */
    struct tr_row *next;      /* queue link while WAITING or as completed */
    int64_t since;            /* when it was put into the re-ask queue, ns */
};

/* Owner: engine/window.c. The bytes and rows of one block die together. */
struct tr_block {
    uint64_t first;       /* ordinal of rows[0], from 0 */
    uint32_t sequence;    /* number of the block, from 0 */
    uint32_t row_count;
    uint32_t row_cap;
    uint32_t open;        /* rows not yet SETTLED */
    uint32_t written;     /* rows already written (in order: the first ones) */
    char *bytes;          /* raw records and unescaped texts */
    size_t bytes_n, bytes_cap;
    struct tr_row *rows;
    struct tr_block *next;
    int64_t spilled_at;   /* offset in the spill file, or -1: in memory */
    uint32_t file;        /* index of the input file */
    size_t weight;        /* memory the window has counted for it */
};

static inline struct tr_str tr_row_text(const struct tr_block *b,
                                        const struct tr_row *row)
{
    return tr_str(b->bytes + row->text_at, row->text_n);
}

static inline struct tr_str tr_row_raw(const struct tr_block *b,
                                       const struct tr_row *row)
{
    return tr_str(b->bytes + row->raw_at, row->raw_n);
}

/* ---- outcome ---------------------------------------------------------- */

enum tr_billing {
    TR_BILL_NONE,   /* certainly nothing charged: not sent, 3xx, 4xx, 501,
                       503, 529 */
    TR_BILL_USAGE,  /* 2xx: what usage says, or the bound without usage */
    TR_BILL_UNKNOWN /* 1xx, other 5xx, cut, time-out after sending: bound */
};

/* What came of an attempt. One table in plan/retry.c says what each means.
 * name, word for logs */
#define TR_OUTCOMES(X)                                                         \
    X(TR_OUT_OK, "ok")                     /* an answer to check */            \
    X(TR_OUT_CUT_SHORT, "truncated")       /* finish reason length */          \
    X(TR_OUT_REFUSED, "blocked")           /* filter or refusal */             \
    X(TR_OUT_GARBLED, "garbled")           /* 2xx but not the protocol */      \
    X(TR_OUT_THROTTLED, "throttled")       /* 429, 498, 503, 529: slow down */ \
    X(TR_OUT_TOO_BIG, "too_big")           /* context or request size */       \
    X(TR_OUT_EXHAUSTED, "exhausted")       /* quota or day used up */          \
    X(TR_OUT_FATAL, "fatal")               /* key, model, permission */        \
    X(TR_OUT_BAD_REQUEST, "bad_request")   /* 400/422 of another kind */       \
    X(TR_OUT_ADAPT, "adapt")               /* lane learned; send once more */  \
    X(TR_OUT_TRANSIENT, "transient")       /* 5xx, other 4xx */                \
    X(TR_OUT_UNREACHED, "unreached")       /* provably not sent */             \
    X(TR_OUT_LOST, "lost")                 /* sent, no reply: unknown */

enum tr_outcome {
#define X(name, word) name,
    TR_OUTCOMES(X)
#undef X
    TR_OUT_COUNT
};

static inline const char *tr_outcome_word(enum tr_outcome o)
{
    static const char *const words[] = {
#define X(name, word) word,
        TR_OUTCOMES(X)
#undef X
    };
    return words[o];
}

/* ---- batch ------------------------------------------------------------ */

/*   CREATING ──► OPEN ──► gone, when its last attempt has an outcome
 *            ◄── where a guessed name was not its own
 *
 * CREATING: the provider may or may not have heard of it; it is looked for by
 * its mark. OPEN: the provider's name of it is durable, so that whoever comes
 * next asks about it and never makes it again. */
enum tr_batch_state { TR_BATCH_CREATING = 1, TR_BATCH_OPEN = 2 };

struct tr_batch {
    int64_t id;         /* the store's number; 0: not stored yet */
    enum tr_batch_state state;
    int64_t created_at; /* Unix s: when we began to make it */
    int64_t requests;   /* attempts in it that have no outcome yet */
    int64_t bound_nano; /* they cost at most; -1: no prices */
    int64_t tokens;     /* of all that it was made with, in the provider's
                           queue; 0: not known */
    char lane[340];     /* "openai/gpt-6-luna@api.openai.com" */
    char mark[24];      /* ours: begins every custom_id, stands in metadata */
    char name[120];     /* the provider's; "" while CREATING */
    char file[120];     /* the provider's name of its input file, or "" */
};

/* Sums over batches; money whose price is not known makes -1 of all. */
static inline void tr_batch_add(int64_t *requests, int64_t *nano,
                                const struct tr_batch *batch)
{
    *requests += batch->requests;
    if (*nano < 0 || batch->bound_nano < 0)
        *nano = -1;
    else if (batch->bound_nano > INT64_MAX - *nano)
        *nano = INT64_MAX;
    else
        *nano += batch->bound_nano;
}

/* ---- event ------------------------------------------------------------ */

/* What an operator may want to be told of at once: name, word, severity. The
 * engine raises those of a lane; plan/alarm.c derives the others. */
#define TR_EVENTS(X)                                                           \
    X(TR_EVENT_BUDGET, "budget", "warning")      /* a share of it is spent */  \
    X(TR_EVENT_QUOTA, "quota_exhausted", "critical")                           \
    X(TR_EVENT_LANE_DOWN, "lane_down", "critical")                             \
    X(TR_EVENT_LANE_UP, "lane_up", "info")       /* after one of the two */    \
    X(TR_EVENT_STALL, "stall", "critical")       /* rows wait, none settles */ \
    X(TR_EVENT_ERRORS, "error_rate", "warning")  /* of requests */             \
    X(TR_EVENT_FAILED_ROWS, "failed_rows", "warning")                          \
    X(TR_EVENT_SPEND, "spend_rate", "warning")                                 \
    X(TR_EVENT_FINISHED, "run_finished", "info") /* whatever the end */       \
    X(TR_EVENT_MODEL, "model_changed", "warning") /* another one answers */

enum tr_event_kind {
#define X(name, word, severity) name,
    TR_EVENTS(X)
#undef X
    TR_EVENT_COUNT
};

static inline const char *tr_event_word(enum tr_event_kind kind)
{
    static const char *const words[] = {
#define X(name, word, severity) word,
        TR_EVENTS(X)
#undef X
    };
    return words[kind];
}

static inline const char *tr_event_severity(enum tr_event_kind kind)
{
    static const char *const severities[] = {
#define X(name, word, severity) severity,
        TR_EVENTS(X)
#undef X
    };
    return severities[kind];
}

struct tr_event {
    enum tr_event_kind kind;
    const char *lane; /* its model; "" for the run as a whole; during the call */
    int64_t wait_s;   /* QUOTA: until it is back; -1: nobody knows */
};

/* ---- counts and prices ------------------------------------------------ */

/* Tokens of one attempt as the provider counted them; -1: not reported. */
struct tr_usage {
    int64_t in, out;        /* totals; out includes reasoning */
    int64_t cached;         /* part of in read from the provider's cache */
    int64_t cache_write;    /* part of in written to the cache */
    int64_t reasoning;      /* part of out spent on reasoning */
};

/* One rate limit as a reply's headers state it; -1: not stated. */
struct tr_limit {
    int64_t limit;      /* size of the window or bucket */
    int64_t remaining;
    int64_t reset_ms;   /* until full again, or until the window ends */
    int64_t window_ms;  /* what it is counted over, where that is stated; 0 */
};

/* tokens: input and output together; input, output: where they are limited
 * apart (Anthropic). */
struct tr_limits {
    struct tr_limit requests, tokens, input, output;
};
/* Zeros would mean that nothing is left. */
#define TR_LIMIT_UNSAID {-1, -1, -1, 0}
#define TR_LIMITS_UNSAID                                                       \
    {TR_LIMIT_UNSAID, TR_LIMIT_UNSAID, TR_LIMIT_UNSAID, TR_LIMIT_UNSAID}

/* What a model costs and takes. Prices are pico-dollars per token (1 USD per
 * million tokens = 1,000,000); -1: unknown. */
struct tr_model_facts {
    int64_t price_in, price_out, price_cached, price_cache_write;
    int64_t context;    /* tokens in and out; 0 unknown */
    int64_t max_output; /* tokens; 0 unknown */
    /* More input than this, and the whole request costs long_in_pct percent
     * of price_in (cached too) and long_out_pct of price_out; 0: never. */
    int64_t long_from, long_in_pct, long_out_pct;
    int64_t cache_min;  /* tokens from which a prompt's beginning is kept by
                           the provider; 0: not said */
};

/* ---- lease ------------------------------------------------------------ */

/* What providers limit, for arrays of two. */
enum { TR_LIMIT_REQUESTS, TR_LIMIT_TOKENS, TR_LIMIT_KINDS };

/* What one process tells the others of this machine that use the same key,
 * several times a second (share/share.h). Times are those of the monotonic
 * clock, 0: never. A lease that is not renewed ends by itself. */
struct tr_lease {
    uint64_t id;                  /* of the process's lane, drawn; 0: none */
    int64_t beat_at;              /* when it was said */
    double want[TR_LIMIT_KINDS];  /* part of the key's rate it can use, 0..1 */
    double part[TR_LIMIT_KINDS];  /* part it holds: all leases together 1 */
    double rate[TR_LIMIT_KINDS];  /* units/s it takes the whole key to allow;
                                     0: unknown */
    double sent[TR_LIMIT_KINDS];  /* units sent and not refused so far */
    int64_t rate_at;              /* when replies last spoke about the rate */
    int64_t refused_at;           /* last refusal, ... */
    int64_t refused_sent_at;      /* ... when that request had left, ... */
    int64_t hold_until;           /* ... and how long the server asked to wait */
};
/* Of rate and sent: whoever says more is not believed. */
#define TR_LEASE_UNITS_MAX 1e15

#endif
