/* watchdog.c - ends the program when a step of its run does not return.
 *
 * A library that spins or a call that blocks for ever cannot be mended from
 * within. But every answer is durable before it counts, so the program can end
 * at any moment, and whoever supervises it starts the same command again. That
 * is the program's decision and not the library's.
 *
 * The thread counts its own ticks and not the time between them: when the
 * process was stopped, or the machine slept, nothing but one tick has passed.
 * The run's thread may hold any lock, so the last words use calls only that
 * are allowed in a signal handler.
 *
 * SPDX-License-Identifier: MIT */
#include "watchdog.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICKS 8         /* of a limit */
#define TICK_MS_MAX 5000
#define EXIT_AGAIN 75   /* stopped for now, run again to go on */

struct watchdog {
    const trommel_run *run;
    int64_t limit_ms;
    bool core, json, tty;
    atomic_uint beats;  /* odd: in a step */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping;      /* under lock */
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the end ---------------------------------------------------------- */

struct words {
    char text[500];
    size_t n;
};

static void add(struct words *w, const char *text)
{
    while (*text && w->n < sizeof w->text)
        w->text[w->n++] = *text++;
}

static void add_number(struct words *w, int64_t number)
{
    char digits[24], *p = digits + sizeof digits - 1;

    *p = '\0';
    do
        *--p = (char)('0' + number % 10);
    while (number /= 10);
    add(w, p);
}

static void end(const struct watchdog *w, const char *doing, int64_t ms)
{
    struct pollfd err = {.fd = STDERR_FILENO, .events = POLLOUT};
    struct words words = {.n = 0};

    add(&words, w->json  ? "{\"level\":\"error\",\"message\":\""
                : w->tty ? "\r\033[Ktrommel: " : "trommel: ");
    add(&words, "the step has not returned for ");
    add_number(&words, ms / 1000);
    add(&words, " s while: ");
    add(&words, doing);
    add(&words, ". It ends here (--watchdog); answers in the store are safe. "
                "Run the same command to go on");
    add(&words, w->json ? "\"}\n" : "\n");
    /* A reader that is stuck does not keep it. */
    if (poll(&err, 1, 100) > 0 &&
        write(STDERR_FILENO, words.text, words.n) < 0)
        _exit(EXIT_AGAIN);
    if (w->core)
        abort();
    _exit(EXIT_AGAIN);
}

/* ---- the thread ------------------------------------------------------- */

/* False: it is to end. */
static bool sleep_ms(struct watchdog *w, int64_t ms)
{
    int64_t until = now_ms() + ms;
    struct timespec then = {.tv_sec = (time_t)(until / 1000),
                            .tv_nsec = (long)(until % 1000 * 1000000)};

    while (!w->stopping &&
           pthread_cond_timedwait(&w->wake, &w->lock, &then) != ETIMEDOUT)
        ;
    return !w->stopping;
}

static void *watch(void *arg)
{
    struct watchdog *w = arg;
    int64_t tick = w->limit_ms / TICKS + 1, stuck = 0, before, slept;
    unsigned last = 0, beats;
    const char *doing;

    if (tick > TICK_MS_MAX)
        tick = TICK_MS_MAX;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        before = now_ms();
        if (!sleep_ms(w, tick))
            break;
        slept = now_ms() - before;
        beats = atomic_load(&w->beats);
        doing = trommel_run_doing(w->run);
        if (beats % 2 == 0 || beats != last || !doing)
            stuck = 0;
        else
            stuck += slept < 2 * tick ? slept : tick;
        last = beats;
        if (stuck >= w->limit_ms)
            end(w, doing, stuck);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Signals are for the run's thread, whose waits they are to end. */
static int start_thread(struct watchdog *w)
{
    sigset_t all, old;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    error = pthread_create(&w->thread, NULL, watch, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error;
}

int watchdog_start(struct watchdog **out, int64_t limit_ms, bool core,
                   const struct term *term, const trommel_run *run)
{
    pthread_condattr_t attr;
    struct watchdog *w;
    int error;

    *out = NULL;
    if (limit_ms <= 0)
        return 0;
    w = malloc(sizeof *w);
    if (!w)
        return ENOMEM;
    *w = (struct watchdog){.run = run, .limit_ms = limit_ms, .core = core,
                           .json = term->json, .tty = term->tty};
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attr);
    pthread_condattr_destroy(&attr);
    error = start_thread(w);
    if (error) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->lock);
        free(w);
        return error;
    }
    *out = w;
    return 0;
}

void watchdog_beat(struct watchdog *w)
{
    if (w)
        atomic_fetch_add(&w->beats, 1);
}

void watchdog_stop(struct watchdog *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
