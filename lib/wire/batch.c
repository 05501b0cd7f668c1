/* batch.c - a lane whose answers come within a day, at a lower price.
 *
 * It wraps a lane over HTTP, whose dialect writes requests and reads answers.
 * Requests are gathered in a file; when it is full or nobody adds to it any
 * more it leaves as one batch (group.h shows its way), is asked about now and
 * then, and its results are handed out line by line.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/group.h"

#include "base/bounds.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define IDLE_NS (1 * TR_S)        /* nobody adds: the batch is whole */
#define AGE_NS (60 * TR_S)        /* it does not wait longer to be filled */

/* ---- gathering requests ------------------------------------------------ */

static int flush(struct tr_group *g, struct tr_err *err)
{
    const char *p = g->buf.p;
    size_t left = g->buf.n;

    if (!tr_buf_ok(&g->buf))
        return tr_fail(err, TR_NOMEM, "out of memory for a batch");
    while (left) {
        ssize_t done = pwrite(g->spool, p, left, g->spool_bytes);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return tr_fail(err, TR_IO, "temporary file of a batch: %s; free "
                           "space or set TMPDIR to a larger disk, then run "
                           "the same command again", strerror(errno));
        p += done;
        left -= (size_t)done;
        g->spool_bytes += done;
    }
    tr_buf_clear(&g->buf);
    return TR_OK;
}

static int close_group(struct tr_batch_lane *l, struct tr_err *err)
{
    struct tr_group *g = l->filling;

    l->filling = NULL;
    g->step = TR_GROUP_CLOSED;
    g->due_at = 0;
    g->batch.requests = (int64_t)g->n;
    tr_group_sort(g);
    tr_buf_addz(&g->buf, l->form->tail);
    return flush(g, err);
}

static int gather(struct tr_batch_lane *l, const struct tr_shot *shot,
                  struct tr_err *err)
{
    int64_t now = tr_clock_mono_ns();
    int64_t bytes = (int64_t)shot->body.n + 300;
    struct tr_group *g = l->filling;
    char id[64];
    int rc = TR_OK;

    if (g && ((int64_t)g->n >= l->requests_max ||
              g->spool_bytes + (int64_t)g->buf.n + bytes > l->bytes_max ||
              (l->tokens_max &&
               g->batch.tokens + shot->tokens > l->tokens_max))) {
        TRY(close_group(l, err));
        g = NULL;
    }
    if (!g) {
        g = tr_group_new(l, err);
        if (!g)
            return err->code;
        TRY(tr_group_file(l, &g->spool, err));
        g->first_at = now;
        g->refused = tr_lane_refused_fields(l->inner);
        l->filling = g;
    }
    tr_batch_id_write(id, g->batch.mark, shot->attempt);
    tr_buf_addz(&g->buf, g->n ? l->form->between : l->form->head);
    l->form->request(&g->buf, id, shot->body);
    if (!tr_buf_ok(&g->buf) || !tr_group_add(g, shot->attempt, shot->tag))
        TRY(tr_fail(err, TR_NOMEM, "out of memory for a batch"));
    if (g->buf.n >= TR_BATCH_CHUNK)
        TRY(flush(g, err));
    g->batch.tokens += shot->tokens;
    g->last_at = now;
out:
    return rc;
}

static int lane_start(struct tr_lane *lane, const struct tr_shot *shot,
                      struct tr_err *err)
{
    struct tr_batch_lane *l = (struct tr_batch_lane *)lane;
    int rc = gather(l, shot, err);

    if (rc != TR_OK) /* what was gathered may lack a part */
        tr_group_stop_with(l, err->text);
    return rc;
}

/* ---- the clock --------------------------------------------------------- */

/* What is due now; true when something was begun. */
static bool act(struct tr_batch_lane *l, struct tr_group *g, int64_t now)
{
    struct tr_err err;

    if (g->asked || l->stopped)
        return false;
    if (g->step == TR_GROUP_FILLING &&
        (now - g->last_at >= IDLE_NS || now - g->first_at >= AGE_NS) &&
        close_group(l, &err) != TR_OK) {
        tr_group_stop_with(l, err.text);
        return false;
    }
    if (now < g->due_at)
        return false;
    switch (g->step) {
    case TR_GROUP_CLOSED:
        if (!tr_group_has_room(l, g))
            return false;
        if (l->form->files)
            tr_group_upload(l, g);
        else
            tr_group_create(l, g);
        return true;
    case TR_GROUP_LOOKING:
        tr_group_look(l, g);
        return true;
    case TR_GROUP_OPEN:
        tr_group_poll(l, g);
        return true;
    default:
        return false;
    }
}

static int64_t wake_of(const struct tr_group *g)
{
    int64_t idle = g->last_at + IDLE_NS, age = g->first_at + AGE_NS;

    if (g->asked)
        return INT64_MAX;
    if (g->step == TR_GROUP_FILLING)
        return idle < age ? idle : age;
    if (g->step == TR_GROUP_READING || g->step == TR_GROUP_FAILING)
        return 0;
    return g->step == TR_GROUP_LOOKING || g->step == TR_GROUP_OPEN
               ? g->due_at : INT64_MAX;
}

/* ---- the lane ---------------------------------------------------------- */

static int lane_encode(struct tr_lane *lane, const struct tr_call *call,
                       struct tr_buf *body, struct tr_err *err)
{
    struct tr_lane *inner = ((struct tr_batch_lane *)lane)->inner;

    return inner->vt->encode(inner, call, body, err);
}

static void take_results(struct tr_batch_lane *l)
{
    struct tr_transport *t = tr_group_transport(l);
    struct tr_http_result r;

    while (t->next(t, &r))
        for (size_t i = 0; i < l->group_count; i++)
            if (l->groups[i]->id == r.tag) {
                tr_group_on_result(l, l->groups[i], &r);
                break;
            }
}

static int next_reply(struct tr_batch_lane *l, struct tr_reply *reply)
{
    int64_t now;

    take_results(l);
    /* What is here first, whatever stops us: it may be gone next time. */
    for (size_t i = 0; i < l->group_count; i++)
        if (l->groups[i]->step == TR_GROUP_READING &&
            tr_group_hand_line(l, l->groups[i], reply))
            return 1;
    if (l->has_stop) {
        l->has_stop = false;
        *reply = l->stop;
        return 1;
    }
    for (size_t i = 0; i < l->group_count && !l->stopped; ) {
        struct tr_group *g = l->groups[i];

        if (g->step == TR_GROUP_FAILING) {
            if (tr_group_hand_failure(g, reply))
                return 1;
            tr_group_free(l, g);
            continue;
        }
        i++;
    }
    now = tr_clock_mono_ns();
    for (size_t i = 0; i < l->group_count; i++)
        act(l, l->groups[i], now);
    return 0;
}

static int lane_next(struct tr_lane *lane, struct tr_reply *reply)
{
    struct tr_batch_lane *l = (struct tr_batch_lane *)lane;
    int came = next_reply(l, reply);

    lane->no_schema = l->inner->no_schema; /* as its replies showed */
    if (came)
        tr_lane_hide_key(l->inner, reply);
    return came;
}

/* How long nothing is due, at most timeout_ms. */
static int sleep_ms(const struct tr_batch_lane *l, int timeout_ms)
{
    int64_t now = tr_clock_mono_ns(), wake = now + timeout_ms * TR_MS;

    for (size_t i = 0; i < l->group_count; i++)
        if (wake_of(l->groups[i]) < wake)
            wake = wake_of(l->groups[i]);
    return wake <= now ? 0 : (int)((wake - now + TR_MS - 1) / TR_MS);
}

static void lane_wait(struct tr_lane *lane, int timeout_ms, int extra_fd)
{
    struct tr_batch_lane *l = (struct tr_batch_lane *)lane;

    tr_group_transport(l)->wait(tr_group_transport(l), sleep_ms(l, timeout_ms),
                                extra_fd);
}

static int lane_watch(struct tr_lane *lane, int *timeout_ms)
{
    struct tr_batch_lane *l = (struct tr_batch_lane *)lane;

    *timeout_ms = sleep_ms(l, *timeout_ms);
    return tr_group_transport(l)->watch(tr_group_transport(l), timeout_ms);
}

static void lane_wakeup(struct tr_lane *lane)
{
    struct tr_lane *inner = ((struct tr_batch_lane *)lane)->inner;

    inner->vt->wakeup(inner);
}

static void lane_cancel(struct tr_lane *lane)
{
    struct tr_batch_lane *l = (struct tr_batch_lane *)lane;

    tr_group_transport(l)->cancel(tr_group_transport(l));
    while (l->group_count)
        tr_group_free(l, l->groups[l->group_count - 1]);
    l->has_stop = false;
}

static bool has_left(const struct tr_group *g)
{
    if (g->step == TR_GROUP_FAILING)
        return g->fail.billing != TR_BILL_NONE;
    return g->step >= TR_GROUP_CREATING;
}

static bool lane_waits(struct tr_lane *lane, uint64_t tag)
{
    struct tr_batch_lane *l = (struct tr_batch_lane *)lane;

    for (size_t i = 0; i < l->group_count; i++) {
        const struct tr_group *g = l->groups[i];

        for (size_t k = 0; k < g->n && !has_left(g); k++)
            if (g->entries[k].tag == tag)
                return true;
    }
    return false;
}

static int lane_adopt(struct tr_lane *lane, const struct tr_batch *batch,
                      const uint64_t *attempts, const uint64_t *tags, size_t n,
                      struct tr_err *err)
{
    struct tr_batch_lane *l = (struct tr_batch_lane *)lane;
    struct tr_group *g = tr_group_new(l, err);

    if (!g)
        return err->code;
    g->batch = *batch;
    for (size_t i = 0; i < n; i++)
        if (!tr_group_add(g, attempts[i], tags[i]))
            return tr_fail(err, TR_NOMEM, "out of memory for a batch");
    g->step = batch->state == TR_BATCH_OPEN ? TR_GROUP_OPEN : TR_GROUP_LOOKING;
    g->guessed = g->step == TR_GROUP_OPEN && l->form->guesses;
    return TR_OK;
}

static void lane_learned(struct tr_lane *lane, struct tr_buf *out)
{
    struct tr_lane *inner = ((struct tr_batch_lane *)lane)->inner;

    inner->vt->learned(inner, out);
}

static void lane_teach(struct tr_lane *lane, struct tr_str text)
{
    struct tr_lane *inner = ((struct tr_batch_lane *)lane)->inner;

    inner->vt->teach(inner, text);
    lane->no_schema = inner->no_schema;
}

static void lane_close(struct tr_lane *lane)
{
    struct tr_batch_lane *l = (struct tr_batch_lane *)lane;

    if (!l)
        return;
    lane_cancel(lane);
    l->inner->vt->close(l->inner);
    tr_buf_release(&l->scratch);
    tr_free(l->groups);
    tr_free(l);
}

static const struct tr_lane_vt lane_vt = {
    .encode = lane_encode,
    .start = lane_start,
    .next = lane_next,
    .wait = lane_wait,
    .watch = lane_watch,
    .wakeup = lane_wakeup,
    .cancel = lane_cancel,
    .learned = lane_learned,
    .teach = lane_teach,
    .adopt = lane_adopt,
    .waits = lane_waits,
    .close = lane_close,
};

static int64_t share_of(int64_t price, int pct)
{
    return price < 0 ? price : (price * pct + 99) / 100;
}

static int find_base(struct tr_batch_lane *l,
                     const struct tr_batch_lane_opts *o, struct tr_err *err)
{
    size_t n = strlen(o->url), end = strlen(o->form->lane_path);

    if (n <= end || n - end >= sizeof l->base ||
        strcmp(o->url + n - end, o->form->lane_path) != 0)
        return tr_fail(err, TR_CONFIG, "--batch: %s does not end in %s, so the "
                       "address of its batches is not known; leave --batch "
                       "out", o->url, o->form->lane_path);
    snprintf(l->base, sizeof l->base, "%.*s", (int)(n - end), o->url);
    return TR_OK;
}

int tr_batch_lane_over(struct tr_lane **out, struct tr_lane *inner,
                       const struct tr_batch_lane_opts *o, struct tr_err *err)
{
    struct tr_batch_lane *l = tr_alloc(sizeof *l);
    const char *folder = o->user->folder ? o->user->folder : getenv("TMPDIR");
    struct tr_model_facts *f;
    int pct = o->price_pct ? o->price_pct : 100; /* never too low */
    int rc = TR_OK;

    *out = NULL;
    if (!l) {
        inner->vt->close(inner);
        return tr_fail(err, TR_NOMEM, "out of memory");
    }
    l->inner = inner;
    l->lane = *inner;
    l->vt = lane_vt;
    l->lane.vt = &l->vt;
    l->lane.in_batches = true;
    l->lane.batch_pct = o->price_pct;
    f = &l->lane.facts;
    f->price_in = share_of(f->price_in, pct);
    f->price_out = share_of(f->price_out, pct);
    /* Not everywhere does a cache make a batch cheaper still. */
    if (f->price_cached > f->price_in)
        f->price_cached = f->price_in;
    f->price_cache_write = share_of(f->price_cache_write, pct);
    l->form = o->form;
    l->keep = *o->user->keep;
    l->requests_max = o->requests_max;
    l->bytes_max = o->bytes_max;
    l->tokens_max = l->tokens_most = o->user->tokens_max;
    l->poll_ms = o->user->poll_ms > 0 ? o->user->poll_ms : 1;
    tr_buf_init(&l->scratch, 2 * (size_t)TR_REPLY_BYTES_MAX);
    snprintf(l->folder, sizeof l->folder, "%s",
             folder && *folder ? folder : "/tmp");
    TRY(find_base(l, o, err));
    *out = &l->lane;
    l = NULL;
out:
    lane_close(l ? &l->lane : NULL);
    return rc;
}
