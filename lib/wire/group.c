/* group.c - a batch on its way: its requests and files, and how it fails.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/group.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void tr_group_blank(struct tr_reply *r, enum tr_outcome outcome,
                    enum tr_billing billing)
{
    *r = (struct tr_reply){
        .outcome = outcome,
        .billing = billing,
        .usage = {-1, -1, -1, -1, -1},
        .limits = TR_LIMITS_UNSAID,
        .retry_after_ms = -1,
    };
}

int tr_group_file(struct tr_batch_lane *l, int *fd, struct tr_err *err)
{
    char path[4096];

    snprintf(path, sizeof path, "%s/.trommel-batch-XXXXXX", l->folder);
    *fd = mkstemp(path); /* mode 0600, and nobody else ever finds it */
    if (*fd < 0)
        return tr_fail(err, TR_IO, "%s: no temporary file for a batch (%s); "
                       "make the folder writable or set TMPDIR, then run the "
                       "same command again", l->folder, strerror(errno));
    fcntl(*fd, F_SETFD, FD_CLOEXEC);
    unlink(path);
    return TR_OK;
}

/* ---- a batch and its requests ------------------------------------------ */

struct tr_group *tr_group_new(struct tr_batch_lane *l, struct tr_err *err)
{
    bool room = tr_grow((void **)&l->groups, &l->group_cap, l->group_count + 1,
                        sizeof *l->groups);
    struct tr_group *g = room ? tr_alloc(sizeof *g) : NULL;
    uint64_t mark;

    if (!g) {
        tr_fail(err, TR_NOMEM, "out of memory for a batch");
        return NULL;
    }
    g->spool = g->results = -1;
    g->id = ++l->next_id;
    g->known_at = tr_clock_mono_ns();
    tr_buf_init(&g->buf, 0);
    tr_buf_init(&g->body, 0);
    snprintf(g->batch.lane, sizeof g->batch.lane, "%s@%s", l->lane.model,
             l->lane.host);
    tr_random_fill(&mark, sizeof mark);
    snprintf(g->batch.mark, sizeof g->batch.mark, "%016" PRIx64, mark);
    l->groups[l->group_count++] = g;
    return g;
}

void tr_group_stranger(struct tr_batch_lane *l, const char *name)
{
    snprintf(l->strangers[l->stranger_count++ % TR_BATCH_STRANGERS],
             sizeof l->strangers[0], "%s", name);
}

void tr_group_doubt(struct tr_batch_lane *l)
{
    for (size_t i = 0; i < l->group_count; i++) {
        struct tr_group *g = l->groups[i];

        g->maybe |= g->step == TR_GROUP_CREATING ||
                    g->step == TR_GROUP_LOOKING || g->guessed;
    }
}

void tr_group_free(struct tr_batch_lane *l, struct tr_group *g)
{
    size_t i = 0;

    while (l->groups[i] != g)
        i++;
    if (l->form->guesses && g->batch.name[0] && !g->guessed)
        tr_group_stranger(l, g->batch.name); /* it is nobody else's */
    else if (g->guessed)
        tr_group_doubt(l); /* whose it was was never said */
    l->groups[i] = l->groups[--l->group_count];
    if (l->filling == g)
        l->filling = NULL;
    if (g->spool >= 0)
        close(g->spool);
    if (g->results >= 0)
        close(g->results);
    tr_buf_release(&g->buf);
    tr_buf_release(&g->body);
    tr_free(g->entries);
    tr_free(g);
}

static int by_attempt(const void *a, const void *b)
{
    uint64_t x = ((const struct tr_entry *)a)->attempt;
    uint64_t y = ((const struct tr_entry *)b)->attempt;

    return x < y ? -1 : x > y;
}

struct tr_entry *tr_group_entry(struct tr_group *g, uint64_t attempt)
{
    struct tr_entry key = {.attempt = attempt};

    return g->n ? bsearch(&key, g->entries, g->n, sizeof key, by_attempt)
                : NULL;
}

bool tr_group_add(struct tr_group *g, uint64_t attempt, uint64_t tag)
{
    if (!tr_grow((void **)&g->entries, &g->cap, g->n + 1, sizeof *g->entries))
        return false;
    g->entries[g->n++] = (struct tr_entry){attempt, tag, false, 0};
    return true;
}

void tr_group_sort(struct tr_group *g)
{
    qsort(g->entries, g->n, sizeof *g->entries, by_attempt);
}

/* ---- failing ----------------------------------------------------------- */

void tr_group_fail(struct tr_group *g, const struct tr_reply *reply)
{
    g->fail = *reply;
    tr_utf8_tame(g->fail.message); /* a cut may have halved a character */
    g->step = TR_GROUP_FAILING;
    g->at = 0;
}

void tr_group_fail_as(struct tr_group *g, enum tr_outcome outcome,
                      enum tr_billing billing, const char *message)
{
    struct tr_reply r;

    tr_group_blank(&r, outcome, billing);
    snprintf(r.message, sizeof r.message, "%s", message);
    tr_group_fail(g, &r);
}

void tr_group_untouched(struct tr_group *g)
{
    tr_group_fail_as(g, TR_OUT_UNREACHED, TR_BILL_NONE,
                     "the batch ended before these requests had their turn");
    g->fail.retry_after_ms = 0;
}

bool tr_group_hand_failure(struct tr_group *g, struct tr_reply *reply)
{
    while (g->at < g->n) {
        struct tr_entry *e = &g->entries[g->at++];

        if (e->done)
            continue;
        e->done = true;
        *reply = g->fail;
        reply->tag = e->tag;
        return true;
    }
    return false;
}

void tr_group_stop(struct tr_batch_lane *l, const struct tr_reply *reply)
{
    if (l->stopped)
        return;
    l->stopped = l->has_stop = true;
    l->stop = *reply;
    tr_utf8_tame(l->stop.message);
    l->stop.tag = 0;
}

void tr_group_stop_with(struct tr_batch_lane *l, const char *message)
{
    struct tr_reply r;

    tr_group_blank(&r, TR_OUT_UNREACHED, TR_BILL_NONE);
    snprintf(r.message, sizeof r.message, "%s", message);
    tr_group_stop(l, &r);
}

/* ---- room -------------------------------------------------------------- */

enum {
    ROOM_MIN = 1000,  /* tokens: a limit below that is none */
    ROOM_SHIFT = 6    /* a 64th more; then twice as much more, each time */
};

static bool is_enqueued(const struct tr_group *g)
{
    return g->step >= TR_GROUP_UPLOADING && g->step <= TR_GROUP_POLLING;
}

/* known: whether the tokens of all of them are. */
static int64_t tokens_enqueued(const struct tr_batch_lane *l, bool *known)
{
    int64_t sum = 0;

    *known = true;
    for (size_t i = 0; i < l->group_count; i++)
        if (is_enqueued(l->groups[i])) {
            sum += l->groups[i]->batch.tokens;
            *known &= l->groups[i]->batch.tokens > 0;
        }
    return sum;
}

void tr_group_learn_full(struct tr_batch_lane *l)
{
    bool known;
    int64_t most = (tokens_enqueued(l, &known) - 1) / 5 * 4;

    if (!known)
        return; /* who filled it? */
    if (most < ROOM_MIN)
        most = ROOM_MIN;
    if (!l->tokens_max || most < l->tokens_max)
        l->tokens_max = most;
    l->room_shift = ROOM_SHIFT;
}

/* The queue is the account's: what filled it may have been somebody else's.
 * Little steps first, since a batch that fails costs its time. */
void tr_group_learn_room(struct tr_batch_lane *l, const struct tr_group *g)
{
    if (!l->tokens_max || g->batch.tokens < l->tokens_max / 2)
        return; /* it says nothing about more */
    l->tokens_max += l->tokens_max >> l->room_shift;
    if (l->tokens_most && l->tokens_max > l->tokens_most)
        l->tokens_max = l->tokens_most;
    if (l->room_shift > 0)
        l->room_shift--;
}

bool tr_group_has_room(const struct tr_batch_lane *l, const struct tr_group *g)
{
    bool known;
    int64_t sum = tokens_enqueued(l, &known);

    return !l->tokens_max || !sum || sum + g->batch.tokens <= l->tokens_max;
}
