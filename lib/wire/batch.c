/* batch.c - a lane whose answers come within a day, at a lower price.
 *
 * It wraps a lane over HTTP, whose dialect writes requests and reads answers.
 * Requests are gathered in a file; when it is full or nobody adds to it any
 * more it leaves as one batch, is asked about now and then, and its results
 * are handed out line by line.
 *
 *   FILLING -> CLOSED -> UPLOADING -> CREATING -> OPEN <-> POLLING
 *                                        |  ^                |
 *                                        v  |                v
 *                                      LOOKING      FETCHING -> READING
 *                                                       ^          |
 *                                     (errors after the output) ---+-> gone
 *   anywhere -> FAILING -> gone: every attempt gets the same outcome
 *
 * Before CREATING the batch and its attempts are durable, and before OPEN is
 * left for the first question the provider's name of it is.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/batch.h"

#include "base/bounds.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CHUNK = 256 << 10,  /* written and read at a time */
    PAGES = 10,         /* of a list that are looked through */
    EMPTY_POLLS = 5,    /* ended, but its results are not there yet */
    REREADS = 2,        /* results that are not whole are fetched again */
    STRANGERS = 256     /* batches found that were not ours */
};
#define IDLE_NS (1 * TR_S)        /* nobody adds: the batch is whole */
#define AGE_NS (60 * TR_S)        /* it does not wait longer to be filled */
#define WINDOW_S (24 * 3600)      /* the provider's promise */
#define MARGIN_S (2 * 3600)       /* after that it is cancelled */
#define GIVE_UP_NS (3600 * TR_S)  /* and this much later it is lost */
#define UNHEARD_NS (WINDOW_S * TR_S) /* or when nobody hears of that */
#define RESULT_BYTES_MAX ((int64_t)4 << 30)
#define ASK_MS 60000              /* time of a small request */
#define FILE_MS (30 * 60000)      /* time of a large one */

struct entry {
    uint64_t attempt, tag;
    bool done;
    unsigned seen; /* in this fetch of the results */
};

enum step { FILLING, CLOSED, UPLOADING, CREATING, LOOKING, OPEN, POLLING,
            CANCELLING, FETCHING, READING, FAILING };

struct group {
    struct tr_batch batch;
    uint64_t id;             /* of its requests; never repeats */
    enum step step;
    bool asked;              /* a request is under way */
    bool maybe;              /* LOOKING: something like it was seen */
    bool guessed;            /* its name may be another's: no result came yet */
    int64_t known_at;        /* made or picked up, ns */
    int64_t made_at;         /* when we began to make it, ns; 0: an earlier run */
    int64_t cancel_from, cancelled_at; /* ns: wanted, heard of; 0: not */
    bool cancel_next;        /* the last time brought nothing */
    bool ended;              /* it has: its results are awaited, however long */
    bool errors_next;        /* FETCHING, READING: the error file comes next */
    struct entry *entries;   /* by attempt; owned */
    size_t n, cap, at;       /* at: next one to fail */
    unsigned refused;          /* fields, when it was begun */
    unsigned wrong;            /* batches found that were not it */
    int64_t tokens;
    int64_t first_at, last_at; /* FILLING: ns */
    int64_t due_at;            /* next thing to do, ns */
    unsigned polls, looks, pages, empty, rereads;
    int spool, results;        /* files without a name, -1: none */
    int64_t spool_bytes, result_bytes, result_at;
    struct tr_buf buf;         /* of the spool, then of the results */
    size_t buf_at;             /* used of it, READING */
    bool unread;               /* a line of the results made no sense, or was
                                  not of this batch */
    unsigned fetches;
    int64_t worked, seen;      /* requests: as the provider counts them; with
                                  a line in this fetch */
    bool any_ours;             /* a line in this fetch is of this batch */
    bool held_back, second;    /* refusals wait until all answers are read */
    char stranger[80];         /* an id in it that is not */
    struct tr_buf body;        /* of the request under way */
    char errors[300], next[300];
    struct tr_reply fail;      /* FAILING: what everyone gets */
};

struct batch_lane {
    struct tr_lane lane; /* first: the two are cast to each other */
    struct tr_lane_vt vt;
    struct tr_lane *inner;
    const struct tr_batch_form *form;
    struct tr_batch_keep keep;
    char base[600];           /* address up to "/batches" */
    char folder[3800];
    int64_t requests_max, bytes_max, tokens_max; /* of a batch; of all */
    int64_t poll_ms;
    struct group **groups;    /* owned */
    size_t group_count, group_cap;
    struct group *filling;    /* among them, or NULL */
    char strangers[STRANGERS][120]; /* names of batches that are nobody's */
    unsigned stranger_count;        /* so far; the last ones are kept */
    uint64_t next_id;
    bool stopped;             /* refused for good: said once, then silent */
    struct tr_reply stop;
    bool has_stop;
    struct tr_buf scratch;    /* of a line's body */
};

static struct tr_transport *transport_of(struct batch_lane *l)
{
    return tr_lane_transport(l->inner);
}

static double unit(void)
{
    uint32_t r;

    tr_random_fill(&r, sizeof r);
    return r / 4294967296.0;
}

static void blank(struct tr_reply *r, enum tr_outcome outcome,
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

/* ---- files ------------------------------------------------------------ */

static int open_file(struct batch_lane *l, int *fd, struct tr_err *err)
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

static int flush(struct group *g, struct tr_err *err)
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

/* ---- groups ----------------------------------------------------------- */

static struct group *new_group(struct batch_lane *l, struct tr_err *err)
{
    bool room = tr_grow((void **)&l->groups, &l->group_cap, l->group_count + 1,
                        sizeof *l->groups);
    struct group *g = room ? tr_alloc(sizeof *g) : NULL;
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

/* A batch of that name is none of those that are looked for. */
static void note_stranger(struct batch_lane *l, const char *name)
{
    snprintf(l->strangers[l->stranger_count++ % STRANGERS],
             sizeof l->strangers[0], "%s", name);
}

static void free_group(struct batch_lane *l, struct group *g)
{
    size_t i = 0;

    while (l->groups[i] != g)
        i++;
    if (l->form->guesses && g->batch.name[0] && !g->guessed)
        note_stranger(l, g->batch.name); /* it is nobody else's */
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
    uint64_t x = ((const struct entry *)a)->attempt;
    uint64_t y = ((const struct entry *)b)->attempt;

    return x < y ? -1 : x > y;
}

static struct entry *entry_of(struct group *g, uint64_t attempt)
{
    struct entry key = {.attempt = attempt};

    return g->n ? bsearch(&key, g->entries, g->n, sizeof key, by_attempt)
                : NULL;
}

static bool add_entry(struct group *g, uint64_t attempt, uint64_t tag)
{
    if (!tr_grow((void **)&g->entries, &g->cap, g->n + 1, sizeof *g->entries))
        return false;
    g->entries[g->n++] = (struct entry){attempt, tag, false, 0};
    return true;
}

static bool has_left(const struct group *g)
{
    if (g->step == FAILING)
        return g->fail.billing != TR_BILL_NONE;
    return g->step >= CREATING;
}

/* ---- gathering requests ----------------------------------------------- */

static int close_group(struct batch_lane *l, struct tr_err *err)
{
    struct group *g = l->filling;

    l->filling = NULL;
    g->step = CLOSED;
    g->due_at = 0;
    g->batch.requests = (int64_t)g->n;
    qsort(g->entries, g->n, sizeof *g->entries, by_attempt);
    tr_buf_addz(&g->buf, l->form->tail);
    return flush(g, err);
}

static int lane_start(struct tr_lane *lane, const struct tr_shot *shot,
                      struct tr_err *err)
{
    struct batch_lane *l = (struct batch_lane *)lane;
    int64_t now = tr_clock_mono_ns();
    int64_t bytes = (int64_t)shot->body.n + 300;
    struct group *g = l->filling;
    char id[64];
    int rc = TR_OK;

    if (g && ((int64_t)g->n >= l->requests_max ||
              g->spool_bytes + (int64_t)g->buf.n + bytes > l->bytes_max ||
              (l->tokens_max && g->tokens + shot->tokens > l->tokens_max))) {
        TRY(close_group(l, err));
        g = NULL;
    }
    if (!g) {
        g = new_group(l, err);
        if (!g)
            return err->code;
        TRY(open_file(l, &g->spool, err));
        g->first_at = now;
        g->refused = tr_lane_refused_fields(l->inner);
        l->filling = g;
    }
    tr_batch_id_write(id, g->batch.mark, shot->attempt);
    tr_buf_addz(&g->buf, g->n ? l->form->between : l->form->head);
    l->form->request(&g->buf, id, shot->body);
    if (!tr_buf_ok(&g->buf) || !add_entry(g, shot->attempt, shot->tag))
        TRY(tr_fail(err, TR_NOMEM, "out of memory for a batch"));
    if (g->buf.n >= CHUNK)
        TRY(flush(g, err));
    g->tokens += shot->tokens;
    g->last_at = now;
out:
    return rc;
}

/* ---- failing ---------------------------------------------------------- */

/* All that have no answer get this one. */
static void fail_group(struct group *g, const struct tr_reply *reply)
{
    g->fail = *reply;
    tr_utf8_tame(g->fail.message); /* a cut may have halved a character */
    g->step = FAILING;
    g->at = 0;
}

static void fail_as(struct group *g, enum tr_outcome outcome,
                    enum tr_billing billing, const char *message)
{
    struct tr_reply r;

    blank(&r, outcome, billing);
    snprintf(r.message, sizeof r.message, "%s", message);
    fail_group(g, &r);
}

/* The lane cannot go on. What is at the provider stays there. */
static void stop_lane(struct batch_lane *l, const struct tr_reply *reply)
{
    if (l->stopped)
        return;
    l->stopped = l->has_stop = true;
    l->stop = *reply;
    tr_utf8_tame(l->stop.message);
    l->stop.tag = 0;
}

/* For want of something of our own. */
static void stop_with(struct batch_lane *l, const char *message)
{
    struct tr_reply r;

    blank(&r, TR_OUT_UNREACHED, TR_BILL_NONE);
    snprintf(r.message, sizeof r.message, "%s", message);
    stop_lane(l, &r);
}

static void classify(const struct tr_http_result *r, struct tr_reply *reply)
{
    struct tr_wire_error e;
    struct tr_limits limits;

    blank(reply, TR_OUT_GARBLED, TR_BILL_NONE);
    reply->status = r->status;
    tr_wire_limits(r->headers, tr_clock_wall_s(), &limits,
                   &reply->retry_after_ms);
    tr_wire_error_read(&e, r->body);
    tr_wire_classify(r, &e, reply);
}

static bool is_success(const struct tr_http_result *r)
{
    return r->net == TR_NET_OK && r->status >= 200 && r->status < 300;
}

/* Refused for good, or only for now? */
static bool is_final(enum tr_outcome outcome)
{
    return outcome == TR_OUT_FATAL || outcome == TR_OUT_EXHAUSTED ||
           outcome == TR_OUT_BAD_REQUEST || outcome == TR_OUT_ADAPT ||
           outcome == TR_OUT_TOO_BIG || outcome == TR_OUT_REFUSED;
}

/* Nothing was made: the attempts go back, and nobody is charged. What is said
 * is about the batch, not about a row of it. */
static void refuse_group(struct batch_lane *l, struct group *g,
                         struct tr_reply *reply)
{
    reply->billing = TR_BILL_NONE;
    reply->unsent = true;
    if (reply->outcome == TR_OUT_TOO_BIG && g->n > 1) {
        l->bytes_max = g->spool_bytes / 2;
        reply->outcome = TR_OUT_UNREACHED;
    } else if (is_final(reply->outcome) && reply->outcome != TR_OUT_EXHAUSTED)
        reply->outcome = TR_OUT_FATAL;
    else if (!is_final(reply->outcome) && reply->outcome != TR_OUT_THROTTLED)
        reply->outcome = TR_OUT_UNREACHED;
    fail_group(g, reply);
}

/* ---- asking ----------------------------------------------------------- */

static void again_in(struct group *g, int64_t ms)
{
    g->due_at = tr_clock_mono_ns() + ms * TR_MS;
}

static void poll_later(struct batch_lane *l, struct group *g,
                       int64_t floor_ms)
{
    again_in(g, tr_batch_poll_ms(g->polls++, l->poll_ms, floor_ms, unit()));
}

static void ask(struct batch_lane *l, struct group *g,
                const struct tr_http_ask *a, int64_t deadline_ms)
{
    struct tr_transport *t = transport_of(l);
    struct tr_err err;

    if (t->ask(t, g->id, a, deadline_ms, &err) == TR_OK) {
        g->asked = true;
        return;
    }
    stop_with(l, err.text);
}

static void get(struct batch_lane *l, struct group *g, const char *url)
{
    ask(l, g, &(struct tr_http_ask){.url = url}, ASK_MS);
}

static void upload(struct batch_lane *l, struct group *g)
{
    static const char *const fields[] = {"purpose", "batch", NULL};
    char url[800], name[64];

    g->step = UPLOADING;
    snprintf(url, sizeof url, "%s%s", l->base, l->form->files);
    snprintf(name, sizeof name, "trommel-%s.jsonl", g->batch.mark);
    ask(l, g, &(struct tr_http_ask){
        .url = url, .post = true, .fields = fields, .file_fd = g->spool,
        .file_bytes = g->spool_bytes, .file_name = name}, FILE_MS);
}

static int keep_creating(struct batch_lane *l, struct group *g,
                         struct tr_err *err)
{
    uint64_t *attempts = tr_array(g->n, sizeof *attempts);
    int rc;

    if (!attempts)
        return tr_fail(err, TR_NOMEM, "out of memory for a batch");
    for (size_t i = 0; i < g->n; i++)
        attempts[i] = g->entries[i].attempt;
    g->batch.created_at = tr_clock_wall_s();
    g->made_at = g->known_at = tr_clock_mono_ns();
    rc = l->keep.creating(l->keep.ctx, &g->batch, attempts, g->n, err);
    tr_free(attempts);
    return rc;
}

/* From here on the provider may have it. */
static void create(struct batch_lane *l, struct group *g)
{
    struct tr_http_ask a = {.post = true};
    char url[800];
    struct tr_err err;

    if (keep_creating(l, g, &err) != TR_OK) {
        stop_with(l, err.text);
        return;
    }
    g->step = CREATING;
    snprintf(url, sizeof url, "%s%s", l->base, l->form->batches);
    a.url = url;
    tr_buf_clear(&g->body);
    if (l->form->create) {
        l->form->create(&g->body, g->batch.file, g->batch.mark);
        if (!tr_buf_ok(&g->body)) {
            stop_with(l, "out of memory for a batch");
            return;
        }
        a.body = tr_buf_str(&g->body);
    } else {
        a.file_fd = g->spool;
        a.file_bytes = g->spool_bytes;
    }
    ask(l, g, &a, l->form->create ? ASK_MS : FILE_MS);
}

static void look(struct batch_lane *l, struct group *g)
{
    char url[1000];

    snprintf(url, sizeof url, "%s%s?limit=100%s%s%s%s", l->base,
             l->form->batches, g->next[0] ? "&" : "",
             g->next[0] ? l->form->after : "", g->next[0] ? "=" : "",
             g->next);
    get(l, g, url);
}

/* Since it was made, or since we know of it when our clock was set back. */
static int64_t age_s(const struct group *g)
{
    int64_t wall = tr_clock_wall_s() - g->batch.created_at;
    int64_t known = (tr_clock_mono_ns() - g->known_at) / TR_S;

    return wall > known ? wall : known;
}

/* It was to be cancelled, and whoever was told so has had his time; with
 * nobody to say how it is doing, more of it. */
static bool is_overdue(const struct group *g, bool heard)
{
    int64_t now = tr_clock_mono_ns();

    return g->cancel_from && !g->ended &&
           (now > g->cancel_from + UNHEARD_NS ||
            (heard && g->cancelled_at && now > g->cancelled_at + GIVE_UP_NS));
}

static void poll_group(struct batch_lane *l, struct group *g)
{
    char url[1000];

    /* A clock that was set forward cancels too early, which loses time, never
     * an answer. */
    if (age_s(g) > WINDOW_S + MARGIN_S && !g->cancel_from) {
        g->cancel_from = tr_clock_mono_ns();
        g->cancel_next = true;
    }
    if (g->cancel_next && !g->ended) {
        g->step = CANCELLING;
        g->cancel_next = false;
        g->polls = 0;
        snprintf(url, sizeof url, "%s%s/%s/cancel", l->base, l->form->batches,
                 g->batch.name);
        ask(l, g, &(struct tr_http_ask){.url = url, .post = true}, ASK_MS);
        return;
    }
    g->step = POLLING;
    snprintf(url, sizeof url, "%s%s/%s", l->base, l->form->batches,
             g->batch.name);
    get(l, g, url);
}

static void fetch(struct batch_lane *l, struct group *g)
{
    const char *what = g->next;
    struct tr_err err;
    char url[1000];

    g->step = FETCHING;
    if (g->results < 0 && open_file(l, &g->results, &err) != TR_OK) {
        stop_with(l, err.text);
        return;
    }
    if (ftruncate(g->results, 0) != 0)
        g->result_bytes = 0; /* what was there is written over */
    if (l->form->content)
        snprintf(url, sizeof url, "%s%s/%s%s", l->base, l->form->files, what,
                 l->form->content);
    else
        snprintf(url, sizeof url, "%s", what);
    ask(l, g, &(struct tr_http_ask){
        .url = url, .save = true, .save_fd = g->results,
        .save_bytes_max = RESULT_BYTES_MAX}, FILE_MS);
}

/* ---- what comes back -------------------------------------------------- */

static void on_uploaded(struct batch_lane *l, struct group *g,
                        const struct tr_http_result *r)
{
    struct tr_reply reply;

    if (is_success(r) && tr_batch_file_read(g->batch.file,
                                            sizeof g->batch.file, r->body)) {
        create(l, g);
        return;
    }
    classify(r, &reply);
    refuse_group(l, g, &reply);
}

static void opened(struct batch_lane *l, struct group *g,
                   const struct tr_batch_news *news)
{
    struct tr_err err;

    snprintf(g->batch.name, sizeof g->batch.name, "%s", news->name);
    g->batch.state = TR_BATCH_OPEN;
    if (l->keep.opened(l->keep.ctx, &g->batch, &err) != TR_OK) {
        stop_with(l, err.text);
        return;
    }
    if (g->spool >= 0)
        close(g->spool);
    g->spool = -1;
    tr_buf_release(&g->body);
    g->step = OPEN;
    g->polls = g->empty = g->rereads = 0; /* it may have had another's name */
    g->cancel_from = g->cancelled_at = 0;
    g->ended = false;
    poll_later(l, g, -1);
}

/* Somebody may have the name that g is looking for. */
static bool is_guessing(const struct batch_lane *l, const struct group *g)
{
    for (size_t i = 0; i < l->group_count; i++)
        if (l->groups[i] != g && l->groups[i]->guessed)
            return true;
    return false;
}

static void start_looking(struct batch_lane *l, struct group *g)
{
    int64_t ms = tr_batch_look_ms(g->looks++, l->poll_ms);

    g->step = LOOKING;
    g->next[0] = '\0';
    g->pages = 0;
    if (ms < 0 && is_guessing(l, g))
        poll_later(l, g, -1);
    else if (ms < 0 && g->maybe)
        fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                "whether the batch was made cannot be found out: one of the "
                "same size is there, and the clocks differ");
    else if (ms < 0)
        fail_as(g, TR_OUT_UNREACHED, TR_BILL_NONE,
                "the provider does not know the batch that was to be made");
    else
        again_in(g, ms);
}

static void on_created(struct batch_lane *l, struct group *g,
                       const struct tr_http_result *r)
{
    struct tr_batch_news news;
    struct tr_reply reply;

    if (is_success(r) && l->form->read(&news, r->body)) {
        opened(l, g, &news);
        return;
    }
    classify(r, &reply);
    if (!r->sent || (r->status >= 400 && r->status < 500 &&
                     r->status != 408 && r->status != 409))
        refuse_group(l, g, &reply);
    else
        start_looking(l, g); /* it may have been made */
}

/* A question that got no answer is asked again, as long as somebody may
 * answer; false: it was refused for good. */
static bool ask_again(struct batch_lane *l, struct group *g,
                      const struct tr_http_result *r)
{
    struct tr_reply reply;
    size_t n;

    classify(r, &reply);
    if (r->status != 404 && !is_final(reply.outcome)) {
        poll_later(l, g, reply.retry_after_ms);
        return true;
    }
    if (r->status == 404) {
        n = strlen(reply.message);
        n = n < 100 ? n : 100;
        snprintf(reply.message + n, sizeof reply.message - n,
                 "; if batch %.60s was made with another key or project, use "
                 "that; to give it up: trommel store forgive",
                 g->batch.name[0] ? g->batch.name : g->batch.mark);
        reply.outcome = TR_OUT_FATAL;
    }
    reply.billing = TR_BILL_NONE;
    stop_lane(l, &reply);
    return false;
}

struct others {
    const struct batch_lane *lane;
    const struct group *but;
};

static bool is_other(void *ctx, const char *name)
{
    const struct others *o = ctx;

    for (size_t i = 0; i < o->lane->group_count; i++)
        if (o->lane->groups[i] != o->but &&
            strcmp(o->lane->groups[i]->batch.name, name) == 0)
            return true;
    for (unsigned i = 0; i < STRANGERS && i < o->lane->stranger_count; i++)
        if (strcmp(o->lane->strangers[i], name) == 0)
            return true;
    return false;
}

/* When it was made, if it was: our clock may be wrong, and may have been set
 * since; the server says what its own shows. */
static int64_t made_s(const struct group *g, const struct tr_http_result *r)
{
    int64_t server = tr_wire_date_s(tr_wire_header(r->headers, "date"));
    int64_t ago = g->made_at ? (tr_clock_mono_ns() - g->made_at) / TR_S
                             : tr_clock_wall_s() - g->batch.created_at;

    return server < 0 ? g->batch.created_at : server - ago;
}

static void on_looked(struct batch_lane *l, struct group *g,
                      const struct tr_http_result *r)
{
    struct others others = {l, g};
    struct tr_batch_wanted wanted = {&g->batch, made_s(g, r), is_other,
                                     &others, false};
    struct tr_batch_news news;
    bool valid = false;

    if (is_success(r) && l->form->find(&news, &wanted, r->body, g->next,
                                       sizeof g->next, &valid)) {
        g->guessed = l->form->guesses;
        opened(l, g, &news);
        return;
    }
    /* With its own clock the server tells when it was, unless ours was set
     * before we were. */
    g->maybe |= wanted.maybe && !g->made_at;
    if (!is_success(r)) {
        if (r->status == 404 || r->status == 405)
            fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                    "whether the batch was made cannot be found out");
        else
            ask_again(l, g, r);
        return;
    }
    if (!valid)
        poll_later(l, g, -1);
    else if (g->next[0] && ++g->pages < PAGES)
        g->due_at = 0;
    else
        start_looking(l, g);
}

static void learn_room(struct batch_lane *l, struct group *g);

static void on_failed(struct batch_lane *l, struct group *g,
                      const struct tr_batch_news *news)
{
    struct tr_reply reply;

    blank(&reply, tr_batch_failure(&news->error), TR_BILL_NONE);
    reply.unsent = true;
    snprintf(reply.message, sizeof reply.message, "the batch failed: %.250s",
             news->error.message[0] ? news->error.message
                                    : news->error.code);
    if (reply.outcome == TR_OUT_THROTTLED) {
        learn_room(l, g);
        reply.retry_after_ms = l->poll_ms;
    }
    fail_group(g, &reply);
}

/* Its requests that have no answer were never worked on. */
static void rest_untouched(struct group *g)
{
    fail_as(g, TR_OUT_UNREACHED, TR_BILL_NONE,
            "the batch ended before these requests had their turn");
    g->fail.retry_after_ms = 0;
}

static void on_ended(struct batch_lane *l, struct group *g,
                     const struct tr_batch_news *news)
{
    g->ended = true;
    if (!news->output[0] && !news->errors[0]) {
        bool any = news->worked > 0 || g->guessed;

        if (any && ++g->empty < EMPTY_POLLS) {
            poll_later(l, g, -1); /* the results come a little later */
            return;
        }
        if (any)
            fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                    "the batch ended, and its results are not there");
        else
            rest_untouched(g);
        return;
    }
    g->worked = news->worked;
    g->seen = 0;
    g->fetches++;
    g->unread = g->any_ours = false;
    g->stranger[0] = '\0';
    snprintf(g->errors, sizeof g->errors, "%s", news->errors);
    g->errors_next = news->output[0] && news->errors[0];
    snprintf(g->next, sizeof g->next, "%s",
             news->output[0] ? news->output : news->errors);
    fetch(l, g);
}

static void on_polled(struct batch_lane *l, struct group *g,
                      const struct tr_http_result *r)
{
    struct tr_batch_news news;
    bool heard = is_success(r) && l->form->read(&news, r->body);

    g->step = OPEN;
    if ((!heard || news.stage == TR_STAGE_RUNNING) && is_overdue(g, heard)) {
        fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                "the batch did not end within its time");
        return;
    }
    if (!is_success(r)) {
        ask_again(l, g, r);
        return;
    }
    if (!heard || news.stage == TR_STAGE_RUNNING) {
        g->cancel_next = g->cancel_from && !g->cancelled_at;
        poll_later(l, g, -1);
    } else if (news.stage == TR_STAGE_FAILED) {
        on_failed(l, g, &news);
    } else {
        on_ended(l, g, &news);
    }
}

static void read_from_start(struct group *g)
{
    g->step = READING;
    g->result_at = 0;
    tr_buf_clear(&g->buf);
    g->buf_at = 0;
}

static void on_fetched(struct batch_lane *l, struct group *g,
                       const struct tr_http_result *r)
{
    if (is_success(r)) {
        g->result_bytes = r->saved_bytes;
        g->held_back = g->second = false;
        read_from_start(g);
        return;
    }
    g->step = OPEN; /* ask for the batch, then for the file again */
    if (r->unsaved) /* asking again would fill a day; the results wait */
        stop_with(l, "the results of a batch cannot be written to a temporary "
                  "file; free space or set TMPDIR to a larger disk, then run "
                  "the same command again");
    else if (r->status == 404)
        fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                "the results of the batch are not there any more");
    else
        ask_again(l, g, r);
}

/* Refused for now, or not heard: once more, after the next question. */
static void on_cancelled(struct batch_lane *l, struct group *g,
                         const struct tr_http_result *r)
{
    struct tr_batch_news news;
    struct tr_reply reply;
    bool heard = is_success(r) && l->form->read(&news, r->body);

    classify(r, &reply);
    g->step = OPEN;
    if (heard || (!is_success(r) && is_final(reply.outcome)))
        g->cancelled_at = tr_clock_mono_ns();
    poll_later(l, g, heard ? -1 : reply.retry_after_ms);
}

static void on_result(struct batch_lane *l, struct group *g,
                      const struct tr_http_result *r)
{
    g->asked = false;
    switch (g->step) {
    case UPLOADING:
        on_uploaded(l, g, r);
        return;
    case CREATING:
        on_created(l, g, r);
        return;
    case LOOKING:
        on_looked(l, g, r);
        return;
    case POLLING:
        on_polled(l, g, r);
        return;
    case CANCELLING:
        on_cancelled(l, g, r);
        return;
    case FETCHING:
        on_fetched(l, g, r);
        return;
    default:
        return;
    }
}

/* ---- results, line by line -------------------------------------------- */

/* The next line, without its end, until the next call: 1; 0: there is none;
 * -1: it is too long; -2: our own file cannot be read. */
static int next_line(struct group *g, struct tr_str *line)
{
    for (;;) {
        const char *p = g->buf.p ? g->buf.p + g->buf_at : NULL;
        size_t n = g->buf.n - g->buf_at;
        const char *end = n ? memchr(p, '\n', n) : NULL;
        int64_t left = g->result_bytes - g->result_at;
        size_t want = left > CHUNK ? CHUNK : (size_t)left;
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
static void read_line(struct batch_lane *l, const struct group *g,
                      const struct tr_batch_line *line,
                      struct tr_reply *reply)
{
    struct tr_http_result as_if = {
        .net = TR_NET_OK, .sent = true, .status = line->status,
        .body = line->body,
    };

    blank(reply, TR_OUT_TRANSIENT, TR_BILL_NONE);
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
static void note_line(struct group *g, const struct tr_batch_line *line,
                      struct entry *e)
{
    if (!line->untouched && (e ? e->seen != g->fetches : !g->second))
        g->seen++;
    if (e)
        e->seen = g->fetches;
}

static bool any_open(const struct group *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (!g->entries[i].done)
            return true;
    return false;
}

/* Whose batch is it whose results hold this id? NULL: nobody's of ours. */
static struct group *owner_of(struct batch_lane *l, const char *id)
{
    uint64_t attempt;

    for (size_t i = 0; i < l->group_count; i++)
        if (tr_batch_id_read(id, l->groups[i]->batch.mark, &attempt))
            return l->groups[i];
    return NULL;
}

/* Nobody's batch of ours was found; or its ids are not what we sent. */
static void doubt(struct batch_lane *l)
{
    for (size_t i = 0; i < l->group_count; i++) {
        struct group *g = l->groups[i];

        g->maybe |= g->step == CREATING || g->step == LOOKING || g->guessed;
    }
}

/* The batch that was found for g is another's, who gets its name. g goes on
 * looking. */
static void give_name(struct batch_lane *l, struct group *g)
{
    struct tr_batch_news news = {.stage = TR_STAGE_RUNNING};
    struct group *owner = owner_of(l, g->stranger);

    snprintf(news.name, sizeof news.name, "%s", g->batch.name);
    g->batch.name[0] = '\0';
    g->guessed = false;
    g->looks = 0;
    if (++g->wrong < STRANGERS)
        start_looking(l, g);
    else
        fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN, "whether the batch was made "
                "cannot be found out: too many of the same size are there");
    if (!owner) {
        doubt(l);
        note_stranger(l, news.name);
    } else if (owner->step == LOOKING || owner->guessed) {
        owner->id = ++l->next_id; /* whatever it has asked about another */
        owner->asked = owner->guessed = false;
        opened(l, owner, &news);
    }
}

/* The reply of one line; false when the file is through. */
static bool hand_line(struct batch_lane *l, struct group *g,
                      struct tr_reply *reply)
{
    struct tr_batch_line line;
    struct tr_str text;
    int more;

    while ((more = next_line(g, &text)) > 0) {
        struct entry *e = NULL;
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
            e = entry_of(g, attempt);
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
        stop_with(l, "the results of a batch cannot be read back "
                  "from a temporary file; set TMPDIR to another disk, then run "
                  "the same command again");
    } else if (g->guessed && g->stranger[0] && !g->any_ours) {
        give_name(l, g);
    } else if (!any_open(g)) { /* whatever else there is, nobody waits for it */
        rest_untouched(g);
    } else if (more < 0) {
        fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                "the results of the batch cannot be read");
    } else if (g->held_back) {
        g->held_back = false;
        g->second = true;
        read_from_start(g);
        return hand_line(l, g, reply);
    } else if (g->errors_next) {
        g->errors_next = false;
        snprintf(g->next, sizeof g->next, "%s", g->errors);
        fetch(l, g);
    } else if ((g->unread || g->seen < g->worked) && g->rereads < REREADS) {
        g->rereads++;
        g->step = OPEN;
        poll_later(l, g, -1);
    } else if (g->unread || g->seen < g->worked) {
        /* whose line it was nobody knows; it is billed */
        fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                "a result of the batch cannot be read");
    } else if (g->guessed) {
        fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                "a batch was found, and no result says whose it is");
    } else {
        rest_untouched(g);
    }
    return false;
}

/* False when all have got it. */
static bool hand_failure(struct group *g, struct tr_reply *reply)
{
    while (g->at < g->n) {
        struct entry *e = &g->entries[g->at++];

        if (e->done)
            continue;
        e->done = true;
        *reply = g->fail;
        reply->tag = e->tag;
        return true;
    }
    return false;
}

/* ---- the clock -------------------------------------------------------- */

static int64_t tokens_enqueued(const struct batch_lane *l)
{
    int64_t sum = 0;

    for (size_t i = 0; i < l->group_count; i++)
        if (l->groups[i]->step >= UPLOADING && l->groups[i]->step <= POLLING)
            sum += l->groups[i]->tokens;
    return sum;
}

/* More than this was too much. */
static void learn_room(struct batch_lane *l, struct group *g)
{
    int64_t most = tokens_enqueued(l) - (g->tokens ? 1 : 0);

    most = most / 5 * 4;
    if (most < 1000)
        most = 1000;
    if (!l->tokens_max || most < l->tokens_max)
        l->tokens_max = most;
}

static bool has_room(const struct batch_lane *l, const struct group *g)
{
    int64_t sum = tokens_enqueued(l);

    return !l->tokens_max || !sum || sum + g->tokens <= l->tokens_max;
}

/* What is due now; true when something was begun. */
static bool act(struct batch_lane *l, struct group *g, int64_t now)
{
    struct tr_err err;

    if (g->asked || l->stopped)
        return false;
    if (g->step == FILLING &&
        (now - g->last_at >= IDLE_NS || now - g->first_at >= AGE_NS) &&
        close_group(l, &err) != TR_OK) {
        stop_with(l, err.text);
        return false;
    }
    if (now < g->due_at)
        return false;
    switch (g->step) {
    case CLOSED:
        if (!has_room(l, g))
            return false;
        if (l->form->files)
            upload(l, g);
        else
            create(l, g);
        return true;
    case LOOKING:
        look(l, g);
        return true;
    case OPEN:
        poll_group(l, g);
        return true;
    default:
        return false;
    }
}

static int64_t wake_of(const struct group *g)
{
    int64_t idle = g->last_at + IDLE_NS, age = g->first_at + AGE_NS;

    if (g->asked)
        return INT64_MAX;
    if (g->step == FILLING)
        return idle < age ? idle : age;
    if (g->step == READING || g->step == FAILING)
        return 0;
    return g->step == LOOKING || g->step == OPEN ? g->due_at : INT64_MAX;
}

/* ---- the lane --------------------------------------------------------- */

static int lane_encode(struct tr_lane *lane, const struct tr_call *call,
                       struct tr_buf *body, struct tr_err *err)
{
    struct tr_lane *inner = ((struct batch_lane *)lane)->inner;

    return inner->vt->encode(inner, call, body, err);
}

static void take_results(struct batch_lane *l)
{
    struct tr_transport *t = transport_of(l);
    struct tr_http_result r;

    while (t->next(t, &r))
        for (size_t i = 0; i < l->group_count; i++)
            if (l->groups[i]->id == r.tag) {
                on_result(l, l->groups[i], &r);
                break;
            }
}

static int next_reply(struct batch_lane *l, struct tr_reply *reply)
{
    int64_t now;

    take_results(l);
    if (l->has_stop) {
        l->has_stop = false;
        *reply = l->stop;
        return 1;
    }
    for (size_t i = 0; i < l->group_count && !l->stopped; ) {
        struct group *g = l->groups[i];

        if (g->step == READING && hand_line(l, g, reply))
            return 1;
        if (g->step == FAILING) {
            if (hand_failure(g, reply))
                return 1;
            free_group(l, g);
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
    struct batch_lane *l = (struct batch_lane *)lane;
    int came = next_reply(l, reply);

    if (came)
        tr_lane_hide_key(l->inner, reply);
    return came;
}

/* How long nothing is due, at most timeout_ms. */
static int sleep_ms(const struct batch_lane *l, int timeout_ms)
{
    int64_t now = tr_clock_mono_ns(), wake = now + timeout_ms * TR_MS;

    for (size_t i = 0; i < l->group_count; i++)
        if (wake_of(l->groups[i]) < wake)
            wake = wake_of(l->groups[i]);
    return wake <= now ? 0 : (int)((wake - now + TR_MS - 1) / TR_MS);
}

static void lane_wait(struct tr_lane *lane, int timeout_ms, int extra_fd)
{
    struct batch_lane *l = (struct batch_lane *)lane;

    transport_of(l)->wait(transport_of(l), sleep_ms(l, timeout_ms), extra_fd);
}

static int lane_watch(struct tr_lane *lane, int *timeout_ms)
{
    struct batch_lane *l = (struct batch_lane *)lane;

    *timeout_ms = sleep_ms(l, *timeout_ms);
    return transport_of(l)->watch(transport_of(l), timeout_ms);
}

static void lane_wakeup(struct tr_lane *lane)
{
    struct tr_lane *inner = ((struct batch_lane *)lane)->inner;

    inner->vt->wakeup(inner);
}

static void lane_cancel(struct tr_lane *lane)
{
    struct batch_lane *l = (struct batch_lane *)lane;

    transport_of(l)->cancel(transport_of(l));
    while (l->group_count)
        free_group(l, l->groups[l->group_count - 1]);
    l->has_stop = false;
}

static bool lane_waits(struct tr_lane *lane, uint64_t tag)
{
    struct batch_lane *l = (struct batch_lane *)lane;

    for (size_t i = 0; i < l->group_count; i++) {
        const struct group *g = l->groups[i];

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
    struct batch_lane *l = (struct batch_lane *)lane;
    struct group *g = new_group(l, err);

    if (!g)
        return err->code;
    g->batch = *batch;
    for (size_t i = 0; i < n; i++)
        if (!add_entry(g, attempts[i], tags[i]))
            return tr_fail(err, TR_NOMEM, "out of memory for a batch");
    g->step = batch->state == TR_BATCH_OPEN ? OPEN : LOOKING;
    g->guessed = g->step == OPEN && l->form->guesses;
    return TR_OK;
}

static void lane_learned(struct tr_lane *lane, struct tr_buf *out)
{
    struct tr_lane *inner = ((struct batch_lane *)lane)->inner;

    inner->vt->learned(inner, out);
}

static void lane_teach(struct tr_lane *lane, struct tr_str text)
{
    struct tr_lane *inner = ((struct batch_lane *)lane)->inner;

    inner->vt->teach(inner, text);
}

static void lane_close(struct tr_lane *lane)
{
    struct batch_lane *l = (struct batch_lane *)lane;

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

static int find_base(struct batch_lane *l, const struct tr_batch_lane_opts *o,
                     struct tr_err *err)
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
    struct batch_lane *l = tr_alloc(sizeof *l);
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
    l->tokens_max = o->user->tokens_max;
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
