/* drive.c - a real run from its first step to its end: steps, waits, last words.
 *
 * opening.c opens its parts, env.c is the world it gives to the engine.
 *
 * SPDX-License-Identifier: MIT */
#include "drive/drive.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- messages --------------------------------------------------------- */

void tr_drive_say(struct tr_drive *d, int level, const char *line)
{
    struct tr_message *m;

    if (d->message_count == TR_MESSAGES) { /* nobody listens: drop the oldest */
        tr_free(d->messages[d->message_first].text);
        d->message_first = (d->message_first + 1) % TR_MESSAGES;
        d->message_count--;
    }
    m = &d->messages[(d->message_first + d->message_count) % TR_MESSAGES];
    m->level = level;
    m->text = tr_dup(line, strlen(line));
    if (!m->text)
        return;
    tr_utf8_tame(m->text); /* names are cut anywhere */
    d->message_count++;
}

void tr_drive_doing(struct tr_drive *d, const char *what)
{
    atomic_store_explicit(&d->doing, what, memory_order_relaxed);
}

/* ---- step by step ----------------------------------------------------- */

#define UNUSED_NAMED 8 /* labels that the warning names */

/* Warnings in plain words about the labels of a finished run. */
static void warn_labels(struct tr_drive *d)
{
    const int64_t *counts = tr_run_label_counts(d->run);
    struct tr_counts c;
    char names[UNUSED_NAMED * 44] = "", line[sizeof names + 200];
    uint32_t unused = 0;
    int64_t labelled;
    int at = 0;

    tr_run_counts(d->run, &c);
    labelled = c.rows_settled - c.rows_failed;
    if (labelled < 20 || d->dry_run || d->is_sample)
        return;
    for (uint32_t i = 0; i < d->task.label_count; i++) {
        struct tr_str name = d->task.labels[i].name;

        if (counts[i])
            continue;
        if (unused++ < UNUSED_NAMED)
            at += snprintf(names + at, sizeof names - (size_t)at, "%s%.*s",
                           at ? ", " : "", name.n < 40 ? (int)name.n : 40,
                           name.p);
    }
    if (unused) {
        snprintf(line, sizeof line, "%u of %u labels %s never used: %s%s. Is it "
                 "needed, and does its description say what belongs there?",
                 (unsigned)unused, (unsigned)d->task.label_count,
                 unused == 1 ? "was" : "were", names,
                 unused > UNUSED_NAMED ? ", ..." : "");
        tr_drive_say(d, 1, line);
    }
    if (c.none_answers * 10 >= labelled * 3) {
        snprintf(line, sizeof line, "%" PRId64 " %% of the answers are \"none "
                 "of these\": a label may be missing",
                 100 * c.none_answers / labelled);
        tr_drive_say(d, 1, line);
    }
}

static void warn_cut(struct tr_drive *d, int64_t texts)
{
    char line[160];

    if (!texts)
        return;
    snprintf(line, sizeof line, "%" PRId64 " %s than the local model reads; "
             "%s not looked at", texts,
             texts == 1 ? "text is longer" : "texts are longer",
             texts == 1 ? "its end was" : "their ends were");
    tr_drive_say(d, 1, line);
}

/* The run has ended: the output gets its name, or stays partial. */
static int conclude(struct tr_drive *d, struct tr_err *err)
{
    const char *sentence;
    struct tr_counts c;
    char line[600];
    int rc = TR_OK;

    d->exit_code = tr_run_exit(d->run, &sentence);
    tr_run_counts(d->run, &c);
    if (d->exit_code > 1 && !*sentence && !*tr_store_path(d->store))
        tr_fail(err, TR_OK, "stopped; without a store nothing is kept");
    else if (d->exit_code > 1 && !*sentence)
        tr_fail(err, TR_OK, "stopped: %" PRId64 " row%s safe in the store. "
                "Run the same command to go on.", c.rows_settled,
                c.rows_settled == 1 ? " is" : "s are");
    else
        tr_fail(err, TR_OK, "%s", sentence);
    warn_labels(d);
    warn_cut(d, c.cut_texts);
    if (d->sink && (d->exit_code == 0 || d->exit_code == 1)) {
        TRY(tr_sink_finish(d->sink, err));
    } else if (d->sink && !tr_sink_is_stream(d->sink)) {
        struct tr_err broken; /* the sentence already says why it ended */

        if (tr_sink_flush(d->sink, &broken) == TR_OK &&
            *tr_sink_partial(d->sink)) {
            snprintf(line, sizeof line, "%s holds the first %" PRId64 " row%s%s",
                     tr_sink_partial(d->sink), c.rows_written,
                     c.rows_written == 1 ? "" : "s",
                     *tr_store_path(d->store)
                         ? "; --offline writes all that is known" : "");
            tr_drive_say(d, 2, line);
        }
    }
out:
    return rc;
}

/* Sleeps until an attempt of any lane is done, fd can be read, the output that
 * was full can be written, or the time is up. */
static void wait_for_lanes(struct tr_drive *d, int timeout_ms, int fd)
{
    struct pollfd fds[TR_LANES_MAX + 2];
    uint32_t n = d->lane_count;

    if (n == 1 && !d->sink_full) {
        d->lanes[0]->vt->wait(d->lanes[0], timeout_ms, fd);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        fds[i] = (struct pollfd){
            d->lanes[i]->vt->watch(d->lanes[i], &timeout_ms), POLLIN, 0};
    fds[n] = (struct pollfd){fd, POLLIN, 0};
    fds[n + 1] = (struct pollfd){d->sink_full ? tr_sink_fd(d->sink) : -1,
                                 POLLOUT, 0};
    poll(fds, n + 2, timeout_ms); /* a signal may end it early, as it should */
    for (uint32_t i = 0; i < n; i++)
        d->lanes[i]->vt->wait(d->lanes[i], 0, -1);
}

#define DRAIN_NS (2 * TR_S) /* for the reader of a run that was stopped */

/* The run has ended: TR_RUN_MORE while its stream has not taken everything.
 * Nobody waits for ever for the reader of a run that was stopped. */
static int drain(struct tr_drive *d, int timeout_ms)
{
    struct pollfd to = {.fd = -1, .events = POLLOUT};
    int64_t now = tr_clock_mono_ns();
    const char *sentence;
    int rc;

    if (!d->sink || !tr_sink_is_stream(d->sink))
        return TR_RUN_DONE;
    rc = tr_sink_drain(d->sink, &d->err);
    if (tr_run_exit(d->run, &sentence) > 1) {
        if (!d->drain_until)
            d->drain_until = now + DRAIN_NS;
        if (rc != 0 || now >= d->drain_until)
            return TR_RUN_DONE; /* why it stopped is what counts */
    }
    if (rc != 0)
        return rc > 0 ? TR_RUN_DONE : rc;
    tr_watch_tick(&d->watch, now); /* its reader may take hours */
    to.fd = tr_sink_fd(d->sink);
    if (timeout_ms > DRAIN_NS / TR_MS)
        timeout_ms = DRAIN_NS / TR_MS;
    poll(&to, 1, tr_watch_wait_ms(&d->watch, timeout_ms));
    return TR_RUN_MORE;
}

/* Results that came or went since the last step are worth no wait: their
 * taker is at work. Those that only lie there are. */
static bool results_move(struct tr_drive *d)
{
    bool move = d->results_moved && d->result_count;
    char line[120];

    d->results_moved = false;
    if (!move && d->result_count == TR_RESULTS && !d->results_said) {
        d->results_said = true;
        snprintf(line, sizeof line, "%u results wait for trommel_run_next(): "
                 "the run goes on when they are taken", TR_RESULTS);
        tr_drive_say(d, 2, line);
    }
    return move;
}

/* Between two steps: what is told, shown and awaited. */
static void attend(struct tr_drive *d, int64_t wait_ns, int timeout_ms)
{
    int64_t now = tr_clock_mono_ns(), ms;
    int rc;

    tr_drive_doing(d, "seeing to alerts");
    tr_watch_tick(&d->watch, now);
    tr_drive_doing(d, "writing rows");
    if (d->sink && tr_sink_is_stream(d->sink) &&
        (wait_ns || now - d->flushed_at > TR_S / 4)) {
        d->flushed_at = now;
        rc = tr_sink_drain(d->sink, &d->err);
        if (rc < 0 && !d->sink_failed) /* answers in flight are paid for */
            tr_run_output_failed(d->run, rc, d->err.text);
        d->sink_failed |= rc < 0;
    }
    if (wait_ns > 0 && !results_move(d)) {
        ms = (wait_ns + TR_MS - 1) / TR_MS;
        if (ms > timeout_ms)
            ms = timeout_ms;
        ms = tr_watch_wait_ms(&d->watch, (int)ms);
        tr_drive_doing(d, "waiting for answers");
        wait_for_lanes(d, (int)ms, d->source && d->source_waits
                                        ? tr_source_fd(d->source) : -1);
    }
    d->sink_full = false; /* the next record finds out */
}

/* TR_RUN_MORE while the engine goes on. */
static int go_on(struct tr_drive *d, int timeout_ms)
{
    int64_t wait_ns;
    int rc;

    rc = tr_run_step(d->run, &wait_ns, &d->err);
    if (rc == TR_RUN_MORE) {
        attend(d, wait_ns, timeout_ms);
        return TR_RUN_MORE;
    }
    tr_drive_doing(d, "finishing the output");
    if (rc == TR_RUN_DONE)
        rc = drain(d, timeout_ms);
    if (rc == TR_RUN_DONE)
        rc = conclude(d, &d->err);
    if (rc < 0)
        d->exit_code = tr_exit_code(rc);
    return rc; /* TR_OK is TR_RUN_DONE */
}

static int take_step(struct tr_drive *d, int timeout_ms)
{
    int rc;

    if (d->done)
        return TR_RUN_DONE;
    if (!d->over && d->awaits_store)
        return tr_drive_await_store(d, timeout_ms);
    if (!d->over) {
        rc = go_on(d, timeout_ms);
        if (rc == TR_RUN_MORE)
            return TR_RUN_MORE;
        d->over = true;
        d->over_code = rc;
        tr_watch_end(&d->watch, d->exit_code, tr_clock_mono_ns());
    }
    /* The output is there; what is left are alerts on their way. */
    tr_drive_doing(d, "seeing to alerts");
    if (tr_watch_busy(&d->watch, tr_clock_mono_ns())) {
        poll(NULL, 0, tr_watch_wait_ms(&d->watch, timeout_ms));
        return TR_RUN_MORE;
    }
    d->done = true;
    return d->over_code;
}

bool tr_drive_is_ours(const struct tr_drive *d)
{
    return d->owner == getpid();
}

int tr_drive_step(struct tr_drive *d, int timeout_ms)
{
    int rc;

    if (!tr_drive_is_ours(d))
        return tr_fail(&d->err, TR_USAGE, "this run belongs to process %ld, "
                       "which opened it before fork(); open one of your own",
                       (long)d->owner);
    tr_drive_doing(d, "beginning");
    rc = take_step(d, timeout_ms < 0 ? INT_MAX : timeout_ms);
    tr_drive_doing(d, NULL);
    return rc;
}

void tr_drive_stop(struct tr_drive *d, int exit_code)
{
    if (exit_code <= 1) /* they say that the output is complete */
        exit_code = tr_exit_code(TR_STOPPED);
    if (d->over) {
        tr_watch_hurry(&d->watch);
    } else if (d->run) {
        tr_run_stop(d->run, exit_code);
    } else if (d->awaits_store) { /* nothing has begun */
        d->over = true;
        d->exit_code = exit_code;
        tr_fail(&d->err, TR_OK, "stopped while waiting for another run of this "
                "task");
    }
}

void tr_drive_close(struct tr_drive *d)
{
    TR_ASSERT(tr_drive_is_ours(d));
    tr_watch_close(&d->watch);
    tr_run_close(d->run);
    tr_peers_release(&d->peers);
    tr_sink_close(d->sink);
    while (d->lane_count) {
        struct tr_lane *lane = d->lanes[--d->lane_count];

        lane->vt->close(lane);
    }
    tr_store_close(d->store);
    tr_source_close(d->source);
    tr_spill_release(&d->spill);
    tr_till_release(&d->till);
    if (d->has_task)
        tr_task_release(&d->task);
    tr_config_free(d->cfg);
    tr_sample_release(&d->sample);
    tr_sample_release(&d->asked);
    tr_buf_release(&d->line);
    tr_buf_release(&d->pushed);
    tr_free(d->names);
    tr_free(d->reads);
    tr_free(d->spill_folder);
    for (uint32_t i = 0; i < d->result_count; i++)
        tr_free(d->results[(d->result_first + i) % TR_RESULTS].id);
    tr_free(d->results);
    for (uint32_t i = 0; i < d->message_count; i++)
        tr_free(d->messages[(d->message_first + i) % TR_MESSAGES].text);
}
