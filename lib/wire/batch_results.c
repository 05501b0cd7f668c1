/* batch_results.c - the results of a batch, line by line.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/group.h"

#include "base/bounds.h"

#include <stdio.h>
#include <unistd.h>

enum { REREADS = 2 }; /* results that are not whole are fetched again */

/* The next line, without its end, until the next call: 1; 0: there is none;
 * -1: it is too long; -2: our own file cannot be read. */
static int next_line(struct tr_group *g, struct tr_str *line)
{
    for (;;) {
        const char *p = g->buf.p ? g->buf.p + g->buf_at : NULL;
        size_t n = g->buf.n - g->buf_at;
        const char *end = n ? memchr(p, '\n', n) : NULL;
        int64_t left = g->result_bytes - g->result_at;
        size_t want = left > TR_BATCH_CHUNK ? TR_BATCH_CHUNK : (size_t)left;
        ssize_t got;
        char *room;

        if (end || !left) {
            *line = tr_str(p, end ? (size_t)(end - p) : n);
            g->buf_at += line->n + (end != NULL);
            return n > 0;
        }
        if (n > 4 * (size_t)TR_REPLY_BYTES_MAX)
            return -1;
        if (g->buf_at) {
            memmove(g->buf.p, p, n);
            g->buf.n = n;
            g->buf_at = 0;
        }
        room = tr_buf_room(&g->buf, want);
        got = room ? pread(g->results, room, want, g->result_at) : -1;
        if (got <= 0)
            return -2;
        g->buf.n += (size_t)got;
        g->result_at += got;
    }
}

/* As the reply of the attempt that the line is about. */
static void read_line(struct tr_batch_lane *l, const struct tr_group *g,
                      const struct tr_batch_line *line,
                      struct tr_reply *reply)
{
    struct tr_http_result as_if = {
        .net = TR_NET_OK, .sent = true, .status = line->status,
        .body = line->body,
    };

    tr_group_blank(reply, TR_OUT_TRANSIENT, TR_BILL_NONE);
    reply->retry_after_ms = 0; /* in the next batch */
    if (line->untouched) {
        reply->outcome = TR_OUT_UNREACHED;
        snprintf(reply->message, sizeof reply->message,
                 "the batch ended before its turn");
    } else if (!line->done) {
        snprintf(reply->message, sizeof reply->message, "%.290s",
                 line->error.message[0] ? line->error.message
                                        : line->error.code);
        tr_wire_redact(reply->message, sizeof reply->message);
    } else {
        snprintf(reply->request_id, sizeof reply->request_id, "%s",
                 line->request_id);
        reply->status = line->status;
        if (g->refused != tr_lane_refused_fields(l->inner))
            tr_lane_written_before(l->inner);
        tr_lane_decode(l->inner, &as_if, reply);
        if (line->status < 200 || line->status >= 300)
            reply->billing = TR_BILL_NONE; /* only what is done is billed */
    }
}

/* Counts each request once, also those that an earlier run has settled. */
static void note_line(struct tr_group *g, const struct tr_batch_line *line,
                      struct tr_entry *e)
{
    if (!line->untouched && (e ? e->seen != g->fetches : !g->second))
        g->seen++;
    if (e)
        e->seen = g->fetches;
}

static bool any_open(const struct tr_group *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (!g->entries[i].done)
            return true;
    return false;
}

/* Whose batch is it whose results hold this id? NULL: nobody's of ours. */
static struct tr_group *owner_of(struct tr_batch_lane *l, const char *id)
{
    uint64_t attempt;

    for (size_t i = 0; i < l->group_count; i++)
        if (tr_batch_id_read(id, l->groups[i]->batch.mark, &attempt))
            return l->groups[i];
    return NULL;
}

/* The batch that was found for g is another's, who gets its name. g goes on
 * looking. */
static void give_name(struct tr_batch_lane *l, struct tr_group *g)
{
    struct tr_batch_news news = {.stage = TR_STAGE_RUNNING};
    struct tr_group *owner = owner_of(l, g->stranger);
    struct tr_transport *t = tr_group_transport(l);

    snprintf(news.name, sizeof news.name, "%s", g->batch.name);
    tr_group_look_on(l, g);
    if (!owner)
        tr_group_doubt(l); /* or its ids are not what we sent */
    else if (owner->step == TR_GROUP_LOOKING || owner->guessed) {
        if (owner->asked) /* about another one */
            t->drop(t, owner->id);
        owner->id = ++l->next_id; /* it may have come already */
        owner->asked = owner->guessed = owner->found = false;
        tr_group_opened(l, owner, &news);
        return;
    } else if (!owner->batch.name[0]) {
        return; /* it will hear of it */
    }
    tr_group_stranger(l, news.name); /* or made twice, of one that has its own */
}

bool tr_group_hand_line(struct tr_batch_lane *l, struct tr_group *g,
                        struct tr_reply *reply)
{
    struct tr_batch_line line;
    struct tr_str text;
    int more;

    while ((more = next_line(g, &text)) > 0) {
        struct tr_entry *e = NULL;
        uint64_t attempt;

        if (!l->form->line(&line, text, &l->scratch)) {
            g->unread |= text.n > 0;
        } else if (!tr_batch_id_read(line.id, g->batch.mark, &attempt)) {
            g->unread = true;
            if (!g->stranger[0] || owner_of(l, line.id))
                snprintf(g->stranger, sizeof g->stranger, "%s", line.id);
        } else {
            g->any_ours = true;
            g->guessed = false;
            e = tr_group_entry(g, attempt);
            note_line(g, &line, e);
        }
        if (!e || e->done)
            continue; /* nobody asked for it, or it was answered before */
        if (!g->second && line.done && line.status >= 400) {
            g->held_back = true; /* is everything refused, or some of it? */
            continue;
        }
        e->done = true;
        read_line(l, g, &line, reply);
        reply->tag = e->tag;
        return true;
    }
    if (more == -2) { /* the provider has them still */
        tr_group_stop_with(l, "the results of a batch cannot be read back from "
                           "a temporary file; set TMPDIR to another disk, then "
                           "run the same command again");
    } else if (g->guessed && g->stranger[0] && !g->any_ours) {
        give_name(l, g);
    } else if (!any_open(g)) { /* whatever else there is, nobody waits for it */
        tr_group_untouched(g);
    } else if (more < 0) {
        tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                         "the results of the batch cannot be read");
    } else if (g->held_back) {
        g->held_back = false;
        g->second = true;
        tr_group_read(g);
        return tr_group_hand_line(l, g, reply);
    } else if (g->errors_next) {
        g->errors_next = false;
        snprintf(g->next, sizeof g->next, "%s", g->errors);
        tr_group_fetch(l, g);
    } else if ((g->unread || g->seen < g->worked) && g->rereads < REREADS) {
        g->rereads++;
        g->step = TR_GROUP_OPEN;
        tr_group_poll_later(l, g, -1);
    } else if (g->unread || g->seen < g->worked) {
        /* whose line it was nobody knows; it is billed */
        tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                         "a result of the batch cannot be read");
    } else if (g->guessed) {
        tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                         "a batch was found, and no result says whose it is");
    } else {
        tr_group_untouched(g);
    }
    return false;
}
