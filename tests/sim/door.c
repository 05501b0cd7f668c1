/* door.c - the pace at the provider's door: requests and tokens in any window.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include <inttypes.h>
#include <stdlib.h>

static const int64_t windows_s[] = {1, 10, 60};
enum { WINDOWS = sizeof windows_s / sizeof *windows_s };

#define WIRE_S 0.02 /* delays differ by so much: requests move closer */

void sim_door_note(struct sim_provider *p, struct sim_flight *f)
{
    bool arrived = f->net != TR_NET_CONNECT;

    if (p->receipt_count == p->receipt_cap) {
        p->receipt_cap = p->receipt_cap ? p->receipt_cap * 2 : 256;
        p->receipts = tr_resize(p->receipts,
                                p->receipt_cap * sizeof *p->receipts);
        TR_ASSERT(p->receipts);
    }
    f->receipt = p->receipt_count++;
    p->receipts[f->receipt] = (struct sim_receipt){
        /* while its sender was paused, perhaps */
        .at = f->arrive_at, .run = f->run, .arrived = arrived,
        .sent_at = f->sent_at, .heard_at = TR_NEVER,
        .in = sim_tokens_in(f), .cap = f->cap, .stated = arrived ? -1 : 0,
    };
}

void sim_door_heard(struct sim *w, const struct sim_flight *f)
{
    struct sim_receipt *r;

    if (w->playbook)
        return;
    r = &f->p->receipts[f->receipt];
    r->heard_at = w->now;
    if (f->net == TR_NET_OK && f->status == 200)
        r->stated = f->usage;
}

static int by_time(const void *a, const void *b)
{
    const struct sim_receipt *x = a, *y = b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return (x->sent_at > y->sent_at) - (x->sent_at < y->sent_at);
}

/* ---- requests ------------------------------- */

/* Whose requests these are: one that was sent before a crash may arrive when
 * the next process has begun. */
static int runs_in(const struct sim_provider *p, size_t from, size_t to)
{
    int first = p->receipts[to].run, last = first;

    for (size_t i = from; i < to; i++) {
        first = p->receipts[i].run < first ? p->receipts[i].run : first;
        last = p->receipts[i].run > last ? p->receipts[i].run : last;
    }
    return last - first + 1;
}

/* I6: in any window the user's ceiling, and a burst of a tenth of a second or
 * two requests for each process that began in it. */
static void check_requests(struct sim *w, const struct sim_provider *p,
                           int64_t window_s)
{
    double rate = w->o.rpm / 60, burst = rate * 0.1 > 1 ? rate * 0.1 + 1 : 2;
    double shared = rate * ((double)window_s + WIRE_S) + 1;
    int64_t n = 0;
    size_t from = 0;

    for (size_t i = 0; i < p->receipt_count; i++) {
        double allowed;

        n += p->receipts[i].arrived;
        while (p->receipts[i].at - p->receipts[from].at >= window_s * TR_S)
            n -= p->receipts[from++].arrived;
        if ((double)n <= shared + burst)
            continue; /* one process may do that */
        allowed = shared + runs_in(p, from, i) * burst;
        if ((double)n > allowed)
            sim_fail(w, "I6", "%" PRId64 " requests in %" PRId64 " s before "
                     "%.3f s, %.1f allowed at %.0f a minute", n, window_s,
                     (double)p->receipts[i].at / TR_S, allowed, w->o.rpm);
    }
}

/* ---- tokens ------------------------------- */

/* What its sender must have taken it for when it left: all that it may answer,
 * and its input by an estimate, which may be wrong by half. */
static int64_t foreseen_least(const struct sim_receipt *r)
{
    return r->cap + r->in / 2;
}

static int64_t foreseen_most(const struct sim_receipt *r)
{
    return r->cap + 2 * r->in;
}

/* What it counts for at that time, at least. */
static int64_t counts(const struct sim_receipt *r, int64_t at)
{
    int64_t least = foreseen_least(r);

    if (!r->arrived || (r->stated >= 0 && (r->heard_at <= at ||
                                           r->stated < least)))
        return r->stated;
    return least;
}

/* What came back of requests that left before: they were taken for more than
 * they took. */
static int64_t given_back(const struct sim_provider *p, size_t before, int run,
                          int64_t from, int64_t to)
{
    int64_t sum = 0;

    for (size_t i = 0; i < before; i++) {
        const struct sim_receipt *r = &p->receipts[i];
        int64_t more = foreseen_most(r) - r->stated;

        if (r->run == run && r->heard_at >= from && r->heard_at <= to &&
            r->stated >= 0 && more > 0)
            sum += more;
    }
    return sum;
}

/* Of one process in one window: what was paid for by waiting, the last request
 * being paid for afterwards. */
static int64_t paid_in(const struct sim_provider *p, size_t from, size_t to)
{
    const struct sim_receipt *last = &p->receipts[to];
    int64_t began = last->sent_at, ended = last->sent_at, sum = 0, most = 0;

    for (size_t i = from; i <= to; i++) {
        const struct sim_receipt *r = &p->receipts[i];

        if (r->run == last->run && r->sent_at < began)
            began = r->sent_at;
        if (r->run == last->run && r->sent_at > ended)
            ended = r->sent_at;
    }
    for (size_t i = from; i <= to; i++) {
        const struct sim_receipt *r = &p->receipts[i];
        int64_t n = r->run == last->run ? counts(r, ended) : 0;

        sum += n;
        most = n > most ? n : most;
    }
    return sum - most - given_back(p, from, last->run, began, ended);
}

/* I6 for tokens: in any window no process sends more than the user's ceiling,
 * but for a burst of a tenth of a second. */
static void check_tokens(struct sim *w, const struct sim_provider *p,
                         int64_t window_s)
{
    double rate = w->o.tpm / 60;
    double allowed = rate * ((double)window_s + WIRE_S + 0.1 +
                             w->o.coarse_ms / 1000.0);
    int64_t n = 0;
    size_t from = 0;

    for (size_t i = 0; i < p->receipt_count; i++) {
        n += p->receipts[i].in + p->receipts[i].cap; /* never less */
        while (p->receipts[i].at - p->receipts[from].at >= window_s * TR_S) {
            n -= p->receipts[from].in + p->receipts[from].cap;
            from++;
        }
        if ((double)n <= allowed ||
            (double)paid_in(p, from, i) <= allowed)
            continue;
        sim_fail(w, "I6", "%" PRId64 " tokens in %" PRId64 " s before %.3f s, "
                 "%.1f allowed at %.0f a minute", paid_in(p, from, i),
                 window_s, (double)p->receipts[i].at / TR_S, allowed, w->o.tpm);
    }
}

/* The last that is done with receipts: they are put in order. */
void sim_check_rates(struct sim *w)
{
    for (int i = 0; i < w->o.lanes; i++) {
        struct sim_provider *p = &w->providers[i];

        if (p->receipt_count)
            qsort(p->receipts, p->receipt_count, sizeof *p->receipts, by_time);
        for (int k = 0; w->o.rpm > 0 && k < WINDOWS; k++)
            check_requests(w, p, windows_s[k]);
        for (int k = 0; w->o.tpm > 0 && k < WINDOWS; k++)
            check_tokens(w, p, windows_s[k]);
    }
}

double sim_door_tokens_s(const struct sim *w, const struct sim_provider *p)
{
    double tokens = 0, tpm = w->o.tpm;

    if (p->o->hidden_tpm > 0 && (tpm <= 0 || p->o->hidden_tpm < tpm))
        tpm = p->o->hidden_tpm;
    for (size_t i = 0; i < p->receipt_count; i++)
        if (p->receipts[i].run == w->run_number)
            tokens += (double)foreseen_most(&p->receipts[i]);
    return tpm > 0 ? tokens * 60 / tpm : 0;
}
