/* pack.h - which rows share a request: sizes, order, ids, form. Pure.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_PACK_H
#define TR_PLAN_PACK_H

#include "base/buf.h"
#include "nouns.h"

#define TR_PACK_MAX 450 /* three-digit ids: 900 exist, half stay free */

/* Draws distinct ids 100..999 and a random order for n items from seed: the
 * item sent at place i is items[order[i]] under ids[i]. Same seed, same draw
 * on every machine. n <= TR_PACK_MAX. */
void tr_pack_draw(uint64_t seed, uint32_t n, uint16_t *order, uint16_t *ids);

/* Two token numbers, never mixed. The bound is never too low (a token is at
 * least one byte in every byte-level vocabulary; overhead is added once per
 * request and raised when a provider reports more than the bound). The
 * estimate is corrected by the provider's usage. */
/* Sums over replies of what was sent (x) and what was counted (y): their ratio
 * with its interval (quote.h). Halved now and then, so that what was seen
 * last weighs most. */
struct tr_ratio {
    double n, x, y, xx, xy, yy;
};

struct tr_meter {
    double tokens_per_byte; /* running, starts at 0.30 */
    int64_t overhead;       /* tokens per request beyond the bytes, bound */
    int64_t seen;           /* replies learned from */
    double out_per_item;    /* running mean of output tokens per item */
    int64_t reasoning_max;  /* allowance for reasoning in the output cap */
    struct tr_ratio in;     /* bytes sent and tokens in */
    struct tr_ratio out;    /* items and tokens out */
    double cached;          /* of in.y: read from the provider's cache */
    double answered;        /* of out.x: items that got their label */
    /* for the time of a later run: */
    double latency_ms;      /* running mean */
    double rpm, tpm;        /* limits the provider has stated; 0: none */
};
void tr_meter_init(struct tr_meter *m);
int64_t tr_meter_bound(const struct tr_meter *m, size_t bytes);
int64_t tr_meter_estimate(const struct tr_meter *m, size_t bytes);
/* bytes: of system, user and schema; items: in the pack. */
void tr_meter_learn(struct tr_meter *m, size_t bytes, uint32_t items,
                    const struct tr_usage *usage);
/* Of the items of that reply: how many need not be asked again. */
void tr_meter_answered(struct tr_meter *m, uint32_t items);
void tr_meter_took(struct tr_meter *m, int64_t latency_ms);
/* One line to be kept from run to run; read leaves m as it is when the line
 * is not one of these. */
void tr_meter_write(const struct tr_meter *m, struct tr_buf *out);
void tr_meter_read(struct tr_meter *m, struct tr_str line);
/* A length stop that was spent on reasoning: the allowance becomes twice what
 * that request had (at most what the model can put out; 0: unknown), or stays if
 * it is more by now. True when the next one will have more. */
bool tr_meter_more_reasoning(struct tr_meter *m, const struct tr_usage *usage,
                             int64_t had, int64_t context, int64_t max_output);

/* How many of the waiting texts go into the next pack. */
struct tr_pack_policy {
    uint32_t pack;          /* --pack, or 0: auto (16, fewer for long texts) */
    int64_t pack_tokens;    /* auto: aim, estimate of the data part */
    int64_t context;        /* of the model, 0 unknown */
    int64_t max_output;     /* the same */
    int64_t fixed_bytes;    /* system + closing + schema */
    int64_t item_overhead_bytes; /* of `[417, ""]` and its line end */
    int64_t guest_bytes;    /* what comes along in packs of several */
    int64_t tpm;            /* a pack never exceeds one minute, 0 unknown */
};
/* text_bytes[i] and company[i] (0: no limit) of the waiting rows in order;
 * returns how many of the first go together (>= 1 when n >= 1 and the first
 * fits; 0 when the first alone is too long by estimate). A row whose bound
 * exceeds the context while its estimate does not goes alone. company limits
 * the size of the pack a row may join. cap_per_item: output tokens each. */
uint32_t tr_pack_take(const struct tr_pack_policy *p, const struct tr_meter *m,
                      const uint32_t *text_bytes, const uint16_t *company,
                      uint32_t n, int64_t cap_per_item);

/* Output cap of a request with so many bytes in it, whose answer takes `words`
 * tokens: what the meter allows for reasoning comes on top, as far as the model
 * has room for it (context, max_output; 0: unknown). */
int64_t tr_pack_cap(const struct tr_meter *m, int64_t words, size_t bytes,
                    int64_t context, int64_t max_output);

/* Form of the answer, learned per lane: lines until more than 2 % of the
 * items came back invalid over 20 packs, then schema (and back when schema is
 * refused). forced >= 0 fixes it. */
struct tr_form_choice {
    int form;               /* enum tr_form of task/prompt.h */
    int forced;             /* -1: learn */
    bool schema_refused;
    uint32_t packs;
    uint64_t items, bad;
};
void tr_form_init(struct tr_form_choice *f, int forced);
void tr_form_learn(struct tr_form_choice *f, uint32_t items, uint32_t bad);
void tr_form_refused(struct tr_form_choice *f); /* server takes no schema */

#endif
