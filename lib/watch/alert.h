/* alert.h - brings alerts to the operator: webhook and command.
 *
 * Both take what they can and nobody waits for them: each has a bounded queue
 * of its own, one delivery at a time, a time limit, and a few tries. What
 * cannot be delivered is said once and counted.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ALERT_H
#define TR_ALERT_H

#include "base/buf.h"
#include "watch/hook.h"
#include "plan/alarm.h"
#include "wire/webhook.h"

#define TR_ALERT_QUEUE 32u         /* of one channel; a run has about ten */
#define TR_ALERT_LIMIT_MS 10000    /* of one delivery */
#define TR_ALERT_TRIES 3

/* Where alerts go; what has failed and what waits there. */
struct tr_channel {
    char name[220];           /* "alert webhook 127.0.0.1:99" */
    struct {
        enum tr_event_kind kind;
        char *text;           /* JSON, owned */
        size_t n;
    } queue[TR_ALERT_QUEUE];
    uint32_t first, count;
    bool busy;
    int tries;
    int64_t due_at;           /* of the next try */
    bool said;                /* that something was not delivered */
};

struct tr_alert_opts {
    const char *webhook;      /* NULL: none */
    const char *secret_env, *secret_file, *proxy;
    bool allow_http, allow_link_local;
    const char *command;      /* NULL: none */
};

struct tr_alerts {
    struct tr_webhook *webhook;
    struct tr_hook hook;
    struct tr_channel channels[2]; /* webhook, command */
    void (*say)(void *ctx, int level, const char *line);
    void *ctx;
    bool last_tries;          /* nothing is tried again */
    int64_t undelivered;
};

int tr_alerts_open(struct tr_alerts *as, const struct tr_alert_opts *o,
                   void (*say)(void *ctx, int level, const char *line),
                   void *ctx, struct tr_err *err);
static inline bool tr_alerts_wanted(const struct tr_alerts *as)
{
    return as->webhook || as->hook.path;
}
/* Queues one JSON object (copied) for every channel. */
void tr_alerts_add(struct tr_alerts *as, enum tr_event_kind kind,
                   struct tr_str json);
/* Looks after deliveries; never waits. */
void tr_alerts_tick(struct tr_alerts *as, int64_t now_ns);
/* Deliveries that wait or are under way. */
uint32_t tr_alerts_open_count(const struct tr_alerts *as);
void tr_alerts_close(struct tr_alerts *as); /* drops what is not delivered */

#endif
