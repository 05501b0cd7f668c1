/* alert.c - brings alerts to the operator: webhook and command.
 * SPDX-License-Identifier: MIT */
#include "watch/alert.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

enum { WEBHOOK, COMMAND, CHANNELS };

/* ---- open, close ------------------------------------------------------ */

int tr_alerts_open(struct tr_alerts *as, const struct tr_alert_opts *o,
                   void (*say)(void *ctx, int level, const char *line),
                   void *ctx, struct tr_err *err)
{
    int rc = TR_OK;

    *as = (struct tr_alerts){.say = say, .ctx = ctx};
    if ((o->secret_env || o->secret_file) && !o->webhook)
        TRY(tr_fail(err, TR_USAGE, "--alert-secret-%s signs what "
                    "--alert-webhook URL sends, and there is none",
                    o->secret_env ? "env" : "file"));
    if (o->webhook) {
        TRY(tr_webhook_open(&as->webhook,
                            &(struct tr_webhook_opts){
                                .url = o->webhook,
                                .secret_env = o->secret_env,
                                .secret_file = o->secret_file,
                                .proxy = o->proxy,
                                .allow_http = o->allow_http,
                                .allow_link_local = o->allow_link_local},
                            err));
        snprintf(as->channels[WEBHOOK].name, sizeof as->channels[0].name,
                 "alert webhook %s", tr_webhook_host(as->webhook));
    }
    if (o->command) {
        TRY(tr_hook_open(&as->hook, o->command, err));
        snprintf(as->channels[COMMAND].name, sizeof as->channels[0].name,
                 "alert command %.150s", as->hook.path);
    }
out:
    return rc;
}

static void drop_first(struct tr_channel *ch)
{
    tr_free(ch->queue[ch->first].text);
    ch->queue[ch->first].text = NULL;
    ch->first = (ch->first + 1) % TR_ALERT_QUEUE;
    ch->count--;
    ch->tries = 0;
    ch->due_at = 0;
}

void tr_alerts_close(struct tr_alerts *as)
{
    tr_webhook_close(as->webhook);
    as->webhook = NULL;
    tr_hook_close(&as->hook);
    for (int i = 0; i < CHANNELS; i++) {
        while (as->channels[i].count)
            drop_first(&as->channels[i]);
        as->channels[i].busy = false; /* ticks go on, and find nothing */
    }
}

/* ---- the queue -------------------------------------------------------- */

static bool exists(const struct tr_alerts *as, int i)
{
    return i == WEBHOOK ? as->webhook != NULL : as->hook.path != NULL;
}

static void lost(struct tr_alerts *as, struct tr_channel *ch, const char *why)
{
    char line[600];

    as->undelivered++;
    if (ch->said)
        return;
    ch->said = true;
    snprintf(line, sizeof line, "%s: an alert was not delivered: %s (said "
             "once; the run goes on)", ch->name, why);
    as->say(as->ctx, 1, line);
}

void tr_alerts_add(struct tr_alerts *as, enum tr_event_kind kind,
                   struct tr_str json)
{
    for (int i = 0; i < CHANNELS; i++) {
        struct tr_channel *ch = &as->channels[i];
        uint32_t at = (ch->first + ch->count) % TR_ALERT_QUEUE;

        if (!exists(as, i))
            continue;
        if (ch->count == TR_ALERT_QUEUE) {
            lost(as, ch, "too many wait already");
            continue;
        }
        ch->queue[at].text = tr_dup(json.p, json.n);
        if (!ch->queue[at].text) {
            lost(as, ch, "out of memory");
            continue;
        }
        ch->queue[at].kind = kind;
        ch->queue[at].n = json.n;
        ch->count++;
    }
}

uint32_t tr_alerts_open_count(const struct tr_alerts *as)
{
    return as->channels[WEBHOOK].count + as->channels[COMMAND].count;
}

/* ---- delivery --------------------------------------------------------- */

enum came { CAME_BUSY, CAME_DELIVERED, CAME_FAILED, CAME_REFUSED };

static enum came begin(struct tr_alerts *as, int i, int64_t now, char *why,
                       size_t why_n)
{
    struct tr_channel *ch = &as->channels[i];
    struct tr_str json = tr_str(ch->queue[ch->first].text,
                                ch->queue[ch->first].n);
    struct tr_err err;
    int rc = i == WEBHOOK
                 ? tr_webhook_post(as->webhook, json, TR_ALERT_LIMIT_MS, &err)
                 : tr_hook_start(&as->hook,
                                 tr_event_word(ch->queue[ch->first].kind), json,
                                 now, TR_ALERT_LIMIT_MS * TR_MS, &err);

    ch->tries++;
    ch->busy = rc == TR_OK;
    if (rc == TR_OK)
        return CAME_BUSY;
    snprintf(why, why_n, "%.250s", err.text);
    return CAME_FAILED;
}

static enum came look(struct tr_alerts *as, int i, int64_t now, char *why,
                      size_t why_n)
{
    /* A command is not run twice for one alert: it may have done its work. */
    static const enum came of_webhook[] = {
        [TR_WEBHOOK_BUSY] = CAME_BUSY,
        [TR_WEBHOOK_TAKEN] = CAME_DELIVERED,
        [TR_WEBHOOK_FAILED] = CAME_FAILED,
        [TR_WEBHOOK_REFUSED] = CAME_REFUSED,
    };
    static const enum came of_command[] = {
        [TR_HOOK_BUSY] = CAME_BUSY,
        [TR_HOOK_OK] = CAME_DELIVERED,
        [TR_HOOK_FAILED] = CAME_REFUSED,
    };

    return i == WEBHOOK
               ? of_webhook[tr_webhook_poll(as->webhook, why, why_n)]
               : of_command[tr_hook_poll(&as->hook, now, why, why_n)];
}

static void tick(struct tr_alerts *as, int i, int64_t now)
{
    struct tr_channel *ch = &as->channels[i];
    char why[300] = "";
    enum came came = ch->busy ? look(as, i, now, why, sizeof why)
                              : begin(as, i, now, why, sizeof why);

    if (came == CAME_BUSY)
        return;
    ch->busy = false;
    if (came == CAME_FAILED && ch->tries < TR_ALERT_TRIES &&
        !as->last_tries) {
        ch->due_at = now + TR_S * ((int64_t)1 << ch->tries);
        return;
    }
    if (came != CAME_DELIVERED)
        lost(as, ch, why);
    drop_first(ch);
}

void tr_alerts_tick(struct tr_alerts *as, int64_t now)
{
    for (int i = 0; i < CHANNELS; i++) {
        struct tr_channel *ch = &as->channels[i];

        if (ch->busy || (ch->count && (now >= ch->due_at || as->last_tries)))
            tick(as, i, now);
    }
}
