/* local.c - the local lane: packs of texts to a worker thread, scores back.
 *
 * SPDX-License-Identifier: MIT */
#include "encode/local.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "encode/encoder.h"
#include "encode/fit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define DEFAULT_MODEL "all-MiniLM-L6-v2.gguf"
#define IN_FLIGHT 2      /* one pack is computed, one waits behind it */
#define JOBS_MAX 64      /* more is a mistake of the caller */

/* ---- a pack ------------------------------------------------------------ */

struct job {
    struct job *next;
    struct tr_arena memory; /* owns all below */
    uint64_t tag;
    struct tr_local_text *items; /* longest first, equal texts side by side */
    struct tr_score *scores;
    size_t count;
    int64_t started_ns;
    int64_t latency_ms;
    int rc;
    char message[300];
};

struct queue {
    struct job *first, **end;
};

/* ---- the lane ---------------------------------------------------------- */

struct local {
    struct tr_lane lane; /* first: a tr_lane * is a struct local * */
    struct tr_encoder *encoder;
    struct tr_fit fit; /* of the labels; the worker only reads its vectors */
    struct job *shown; /* whose scores the last next() lent out */

    pthread_t worker;
    bool has_worker;
    int bell[2]; /* a pipe: a byte is written when wait() must return */
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct queue waiting, done; /* these and below: under lock */
    size_t job_count;
    bool running, drop_running, stop;
};

static void queue_push(struct queue *q, struct job *job)
{
    job->next = NULL;
    *q->end = job;
    q->end = &job->next;
}

static struct job *queue_take(struct queue *q)
{
    struct job *job = q->first;

    if (job) {
        q->first = job->next;
        if (!q->first)
            q->end = &q->first;
    }
    return job;
}

static void job_free(struct job *job)
{
    if (!job)
        return;
    tr_arena_release(&job->memory);
    tr_free(job);
}

static void ring(struct local *l)
{
    char byte = 1;

    /* A full pipe rings already. */
    while (write(l->bell[1], &byte, 1) < 0 && errno == EINTR)
        ;
}

/* ---- worker ------------------------------------------------------------ */

static bool dropped(struct local *l)
{
    bool is;

    pthread_mutex_lock(&l->lock);
    is = l->drop_running;
    pthread_mutex_unlock(&l->lock);
    return is;
}

/* Scores items[0 .. n), which are distinct, into scores. */
static int score_slice(struct local *l, const struct tr_local_text *items,
                       size_t n, struct tr_score *scores, struct tr_err *err)
{
    struct tr_str *texts = tr_array(n, sizeof *texts);
    float *vectors = tr_array(n * l->fit.dim, sizeof *vectors);
    bool *cut = tr_array(n, sizeof *cut);
    int rc = TR_OK;

    if (!texts || !vectors || !cut) {
        rc = tr_fail(err, TR_NOMEM, "out of memory for %zu texts", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        texts[i] = items[i].text;
    TRY(tr_encoder_run(l->encoder, texts, n, vectors, cut, err));
    for (size_t i = 0; i < n; i++) {
        struct tr_score *score = &scores[items[i].index];

        *score = tr_prototypes_score(l->fit.prototypes, l->fit.label_count,
                                     l->fit.dim, vectors + i * l->fit.dim);
        score->cut = cut[i];
    }
out:
    tr_free(texts);
    tr_free(vectors);
    tr_free(cut);
    return rc;
}

/* Exact duplicates inside a pack are computed once: items are sorted, so the
 * first of each run of equal texts moves to the front and answers for all. */
static void run_job(struct local *l, struct job *job)
{
    struct tr_local_text *distinct = tr_arena_alloc(&job->memory,
                                           job->count * sizeof *distinct);
    struct tr_err err = {0};
    size_t n = 0, first = 0;

    if (!distinct) {
        job->rc = tr_fail(&err, TR_NOMEM, "out of memory");
    } else {
        for (size_t i = 0; i < job->count; i++)
            if (i == 0 || !tr_str_eq(job->items[i].text,
                                     job->items[i - 1].text))
                distinct[n++] = job->items[i];
        for (size_t i = 0, k; i < n && job->rc == TR_OK && !dropped(l);
             i += k) {
            k = tr_local_slice(l->encoder, distinct, i, n);
            job->rc = score_slice(l, distinct + i, k, job->scores, &err);
        }
        for (size_t i = 1; i < job->count; i++) {
            if (!tr_str_eq(job->items[i].text, job->items[first].text))
                first = i;
            job->scores[job->items[i].index] =
                job->scores[job->items[first].index];
        }
    }
    snprintf(job->message, sizeof job->message, "%.299s", err.text);
    job->latency_ms = (tr_clock_mono_ns() - job->started_ns) / TR_MS;
}

static void *work(void *arg)
{
    struct local *l = arg;

    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        struct job *job = queue_take(&l->waiting);

        if (!job) {
            pthread_cond_wait(&l->news, &l->lock);
            continue;
        }
        l->running = true;
        l->drop_running = false;
        pthread_mutex_unlock(&l->lock);
        run_job(l, job);
        pthread_mutex_lock(&l->lock);
        l->running = false;
        if (l->drop_running) {
            job_free(job);
            l->job_count--;
        } else {
            queue_push(&l->done, job);
        }
        ring(l);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Signals are the program's business; the worker gets none. */
static int start_worker(struct local *l, struct tr_err *err)
{
    sigset_t all, before;
    int failed;

    if (l->has_worker)
        return TR_OK;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&l->worker, NULL, work, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return tr_fail(err, TR_NOMEM, "no thread for the local model: %s; "
                       "raise the limit of processes (ulimit -u) or of memory "
                       "(ulimit -v)", strerror(failed));
    l->has_worker = true;
    return TR_OK;
}

/* ---- attempts ---------------------------------------------------------- */

static struct job *job_new(const struct tr_shot *shot)
{
    struct job *job = tr_alloc(sizeof *job);
    size_t n = shot->text_count;

    if (!job)
        return NULL;
    tr_arena_init(&job->memory);
    job->tag = shot->tag;
    job->count = n;
    job->started_ns = tr_clock_mono_ns();
    job->items = tr_arena_alloc(&job->memory, n * sizeof *job->items + 1);
    job->scores = tr_arena_alloc(&job->memory, n * sizeof *job->scores + 1);
    if (!job->items || !job->scores)
        goto fail;
    for (size_t i = 0; i < n; i++) {
        job->items[i].index = i;
        job->items[i].text = tr_arena_dup(&job->memory, shot->texts[i]);
        if (!job->items[i].text.p)
            goto fail;
    }
    tr_local_sort(job->items, n);
    return job;
fail:
    job_free(job);
    return NULL;
}

static int local_start(struct tr_lane *lane, const struct tr_shot *shot,
                       struct tr_err *err)
{
    struct local *l = (struct local *)lane;
    struct job *job = NULL;
    int rc = TR_OK;

    if (!l->fit.prototypes)
        return tr_fail(err, TR_BUG, "start() before fit()");
    TRY(start_worker(l, err));
    job = job_new(shot);
    if (!job)
        return tr_fail(err, TR_NOMEM, "out of memory for a pack of %zu texts",
                       shot->text_count);
    pthread_mutex_lock(&l->lock);
    if (l->job_count >= JOBS_MAX) {
        rc = tr_fail(err, TR_BUG, "more than %d packs wait for the local model",
                     JOBS_MAX);
    } else {
        l->job_count++;
        queue_push(&l->waiting, job);
        job = NULL;
        pthread_cond_signal(&l->news);
    }
    pthread_mutex_unlock(&l->lock);
    job_free(job);
out:
    return rc;
}

static int local_next(struct tr_lane *lane, struct tr_reply *reply)
{
    struct local *l = (struct local *)lane;
    struct job *job;

    pthread_mutex_lock(&l->lock);
    job = queue_take(&l->done);
    if (job)
        l->job_count--;
    pthread_mutex_unlock(&l->lock);
    if (!job)
        return 0;
    job_free(l->shown);
    l->shown = job;

    memset(reply, 0, sizeof *reply);
    reply->tag = job->tag;
    reply->outcome = job->rc == TR_OK ? TR_OUT_OK : TR_OUT_FATAL;
    reply->billing = TR_BILL_NONE;
    reply->scores = job->scores;
    reply->usage = (struct tr_usage){-1, -1, -1, -1, -1};
    reply->limits.requests = (struct tr_limit){-1, -1, -1, 0};
    reply->limits.tokens = reply->limits.input = reply->limits.output =
        reply->limits.requests;
    reply->retry_after_ms = -1;
    reply->latency_ms = job->latency_ms;
    snprintf(reply->served, sizeof reply->served, "%s",
             tr_encoder_name(l->encoder));
    snprintf(reply->message, sizeof reply->message, "%s", job->message);
    return 1;
}

static int local_watch(struct tr_lane *lane, int *timeout_ms)
{
    struct local *l = (struct local *)lane;

    pthread_mutex_lock(&l->lock);
    if (l->done.first)
        *timeout_ms = 0;
    pthread_mutex_unlock(&l->lock);
    return l->bell[0];
}

static void local_wait(struct tr_lane *lane, int timeout_ms, int extra_fd)
{
    struct local *l = (struct local *)lane;
    struct pollfd fds[2] = {{local_watch(lane, &timeout_ms), POLLIN, 0},
                            {extra_fd, POLLIN, 0}};
    char bytes[64];

    /* A signal ends the sleep early, which the engine wants. */
    poll(fds, 2, timeout_ms);
    while (read(l->bell[0], bytes, sizeof bytes) > 0)
        ;
}

static void local_wakeup(struct tr_lane *lane)
{
    ring((struct local *)lane);
}

static void local_cancel(struct tr_lane *lane)
{
    struct local *l = (struct local *)lane;
    struct job *job;

    pthread_mutex_lock(&l->lock);
    while ((job = queue_take(&l->waiting)) || (job = queue_take(&l->done))) {
        job_free(job);
        l->job_count--;
    }
    l->drop_running = l->running;
    pthread_mutex_unlock(&l->lock);
}

static int local_fit(struct tr_lane *lane, const struct tr_str *texts, size_t n,
                     struct tr_str fitted, struct tr_buf *out,
                     struct tr_err *err)
{
    struct local *l = (struct local *)lane;
    int rc = tr_fit_step(&l->fit, texts, n, fitted, out, err);

    if (rc == TR_OK)
        snprintf(l->lane.model, sizeof l->lane.model, "local/%s+%s",
                 tr_encoder_name(l->encoder), l->fit.name);
    return rc;
}

/* ---- opening and closing ----------------------------------------------- */

static void local_close(struct tr_lane *lane)
{
    struct local *l = (struct local *)lane;

    if (!l)
        return;
    local_cancel(lane);
    if (l->has_worker) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_signal(&l->news);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->worker, NULL);
    }
    for (int i = 0; i < 2; i++)
        if (l->bell[i] >= 0)
            close(l->bell[i]);
    job_free(l->shown);
    tr_fit_close(&l->fit);
    tr_encoder_close(l->encoder);
    pthread_cond_destroy(&l->news);
    pthread_mutex_destroy(&l->lock);
    tr_free(l);
}

static const struct tr_lane_vt local_vt = {
    .start = local_start,
    .next = local_next,
    .wait = local_wait,
    .watch = local_watch,
    .wakeup = local_wakeup,
    .cancel = local_cancel,
    .fit = local_fit,
    .close = local_close,
};

static int open_bell(struct local *l)
{
    if (pipe(l->bell) != 0) {
        l->bell[0] = l->bell[1] = -1;
        return TR_IO;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(l->bell[i], F_SETFL, O_NONBLOCK);
        fcntl(l->bell[i], F_SETFD, FD_CLOEXEC);
    }
    return TR_OK;
}

#ifdef TROMMEL_LOCAL
#define NO_MODEL                                                               \
    "the local model " DEFAULT_MODEL " is not installed; run make install "    \
    "again, or set TROMMEL_MODEL_DIR to the folder it is in"
#else
#define NO_MODEL TR_ENCODER_MISSING
#define TROMMEL_MODEL_DIR_INSTALLED ""
#endif

bool tr_local_find_model(char *path, size_t size)
{
    char self[512] = "", shared[512 + 40] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *dirs[] = {getenv("TROMMEL_MODEL_DIR"), shared,
                          TROMMEL_MODEL_DIR_INSTALLED, self};

    self[n > 0 ? n : 0] = '\0';
    if (strrchr(self, '/')) {
        *strrchr(self, '/') = '\0';
        snprintf(shared, sizeof shared, "%s/../share/trommel", self);
    }
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        if (!dirs[i] || !*dirs[i])
            continue;
        snprintf(path, size, "%s/" DEFAULT_MODEL, dirs[i]);
        if (access(path, R_OK) == 0)
            return true;
    }
    return false;
}

int tr_local_lane_open(struct tr_lane **out, const struct tr_local_opts *o,
                       struct tr_err *err)
{
    struct tr_key digest;
    char path[1024];
    struct local *l;
    int rc;

    *out = NULL;
    if (o->multiple || o->none)
        return tr_fail(err, TR_CONFIG, "the local model gives exactly one "
                       "label, and the task has %s; remove that, or name a "
                       "language model with --model",
                       o->multiple ? "multiple: true" : "none:");
    if (o->label_count < 2)
        return tr_fail(err, TR_CONFIG, "the local model needs two labels or "
                       "more to choose from");
    if (!o->path && !tr_local_find_model(path, sizeof path))
        return tr_fail(err, TR_CONFIG, "%s", NO_MODEL);
    l = tr_alloc(sizeof *l);
    if (!l)
        return tr_fail(err, TR_NOMEM, "out of memory for the local model");
    l->lane.vt = &local_vt;
    l->bell[0] = l->bell[1] = -1;
    l->waiting.end = &l->waiting.first;
    l->done.end = &l->done.first;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->news, NULL);
    TRY(tr_encoder_open(&l->encoder, o->path ? o->path : path, o->threads,
                        err));
    if (open_bell(l) != TR_OK)
        TRY(tr_fail(err, TR_IO, "the local model cannot start: %s",
                    strerror(errno)));
    TRY(tr_fit_open(&l->fit, l->encoder, o->labels, o->label_count, err));
    snprintf(l->lane.model, sizeof l->lane.model, "local/%s",
             tr_encoder_name(l->encoder));
    digest = tr_encoder_digest(l->encoder);
    tr_key_hex(&digest, sizeof digest.b, l->lane.fits);
    snprintf(l->lane.host, sizeof l->lane.host, "this machine");
    l->lane.facts = (struct tr_model_facts){0};
    l->lane.wants_sample = true;
    l->lane.is_local = true;
    l->lane.concurrency_max = IN_FLIGHT;
    *out = &l->lane;
    return TR_OK;
out:
    local_close(&l->lane);
    return rc;
}
