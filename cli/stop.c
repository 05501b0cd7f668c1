/* stop.c - signals that stop a run: the first politely, the second at once.
 *
 * The handler counts; the loop of a run hands on what it counted, between two
 * steps. docs/internals/threads.md says which thread it runs in.
 *
 * SPDX-License-Identifier: MIT */
#include "stop.h"

#include "format.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

/* ---- the handler ------------------------------------------------------ */

/* Atomic, and not sig_atomic_t: the thread in which libcurl looks up a name
 * takes signals, too. */
static atomic_int stops; /* how often we were told to stop */
static atomic_int stop_signal;
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "else no signal may touch them");

/* A third one ends the program whatever it does, even if it never comes to
 * see the second. */
static void on_stop(int sig)
{
    if (sig == SIGHUP && stops) /* a terminal that closes brings two */
        return;
    stop_signal = sig;
    if (++stops > 1)
        signal(sig, SIG_DFL);
}

/* All that stop; one that was ignored stays so. */
static void take_stops(void (*handler)(int))
{
    struct sigaction stop = {.sa_handler = handler}, old;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        sigaction(signals[i], NULL, &old);
        if (old.sa_handler != SIG_IGN)
            sigaction(signals[i], &stop, NULL);
    }
}

void stop_catch(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    sigaction(SIGPIPE, &ignore, NULL); /* a server that hangs up, too */
    sigaction(SIGXFSZ, &ignore, NULL); /* the write fails, and says so */
    take_stops(on_stop);
}

void stop_leave(void)
{
    take_stops(SIG_DFL);
}

int stop_code(void)
{
    return stop_signal ? 128 + stop_signal : 0;
}

/* ---- the run ---------------------------------------------------------- */

static void say_stopping(struct term *term, const trommel_run *run)
{
    int64_t n = trommel_run_count(run, TROMMEL_IN_FLIGHT);
    int64_t nano = trommel_run_count(run, TROMMEL_IN_FLIGHT_NANOUSD);
    const char *again = stop_signal == SIGINT    ? "; Ctrl-C again drops them"
                        : stop_signal == SIGTERM ? "; again: drops them" : "";
    char text[200], count[FORMAT_BYTES], money[FORMAT_BYTES];

    if (n <= 0)
        snprintf(text, sizeof text, "stopping");
    else
        snprintf(text, sizeof text,
                 "waiting up to %s for %s answer%s already paid for%s%s%s%s",
                 trommel_run_setting(run, "grace", 0), format_count(count, n),
                 n == 1 ? "" : "s", nano > 0 ? " (" : "",
                 nano > 0 ? format_money(money, nano) : "",
                 nano > 0 ? " at most)" : "",
                 again);
    term_say(term, SAY_NOTE, text);
}

void stop_pass_on(int *told, struct term *term, trommel_run *run)
{
    while (*told < stops && *told < 2) {
        if (*told == 0)
            say_stopping(term, run);
        else
            take_stops(SIG_DFL); /* a third one ends it whatever it does */
        trommel_run_stop(run, stop_code());
        ++*told;
    }
}

const char *stop_words(const trommel_run *run)
{
    const char *dry = trommel_run_setting(run, "dry-run", 0);
    const char *why = trommel_run_error(run);

    /* None: it had ended when it would have heard of it. */
    return strcmp(dry ? dry : "no", "yes") == 0 || !*why
               ? "stopped before all was planned" : why;
}
