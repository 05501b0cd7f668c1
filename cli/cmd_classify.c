/* cmd_classify.c - the command classify: settings, the loop, Ctrl-C.
 * SPDX-License-Identifier: MIT */
#include "args.h"
#include "commands.h"
#include "exporter.h"
#include "format.h"
#include "guard.h"
#include "progress.h"
#include "summary.h"
#include "watchdog.h"

#include <trommel.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_MS 100

static void help(FILE *out)
{
    fputs("usage: trommel classify INPUT... (--labels A,B,C | --task FILE) "
          "[options]\n\n"
          "Gives every row of the input one of the labels.\n\n"
          "  trommel classify tickets.csv --labels refund,bug,question "
          "-o out.csv\n"
          "  trommel classify mails.jsonl --task mails.yaml --text subject,body "
          "\\\n"
          "      --model openai/gpt-6-luna --budget 2.00 -o out.jsonl\n"
          "  zcat log.gz | trommel classify - --format lines --labels ok,error "
          "\n",
          out);
}

static void long_help(FILE *out)
{
    help(out);
    args_help(out);
    fputs("\nEvery option may also stand in a file under the same name, and "
          "most in the\nenvironment (TROMMEL_MAX_WAIT=5m). First wins: command "
          "line, environment, task\nfile, config.yaml. "
          "TIME is 20s, 15m, 1h30m; USD is 2.00.\n\n"
          "exit codes: 0 all rows labelled; 1 some rows failed; 2 usage; "
          "65 bad input;\n66 no input; 69 model not reachable; 73 no output; "
          "74 input/output error;\n75 stopped for now, run again to go on; "
          "77 key refused or quota used up;\n78 bad task or configuration; "
          "129 SIGHUP; 130 Ctrl-C; 143 SIGTERM\n",
          out);
}

/* ---- signals ---------------------------------------------------------- */

/* Atomic, and not sig_atomic_t: the thread in which libcurl looks up a name
 * takes signals, too. */
static atomic_int stops; /* how often we were told to stop */
static atomic_int stop_signal;
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "else no signal may touch them");

/* A third one ends the program whatever it does, even if it never comes to
 * see the second. */
static void on_stop(int sig)
{
    stop_signal = sig;
    if (++stops > 1)
        signal(sig, SIG_DFL);
}

/* All that stop; one that was ignored stays so: nohup keeps its meaning. */
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

static void catch_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* the write fails, and says so */
    take_stops(on_stop);
}

static void say_stopping(struct term *term, const trommel_config *cfg,
                         const trommel_run *run)
{
    int64_t n = trommel_run_count(run, TROMMEL_IN_FLIGHT);
    int64_t nano = trommel_run_count(run, TROMMEL_IN_FLIGHT_NANOUSD);
    const char *again =
        stop_signal == SIGINT ? "Ctrl-C again drops them" : "again: drops them";
    char text[200], count[FORMAT_BYTES], money[FORMAT_BYTES];

    if (n <= 0)
        snprintf(text, sizeof text, "stopping");
    else
        snprintf(text, sizeof text,
                 "waiting up to %s for %s answer%s already paid for%s%s%s; %s",
                 trommel_config_get(cfg, "grace"), format_count(count, n),
                 n == 1 ? "" : "s", nano > 0 ? " (" : "",
                 nano > 0 ? format_money(money, nano) : "", nano > 0 ? ")" : "",
                 again);
    term_say(term, SAY_NOTE, text);
}

/* ---- the run ---------------------------------------------------------- */

static void say_messages(struct term *term, trommel_run *run)
{
    const char *text;
    int level;

    while (run && (text = trommel_run_message(run, &level)) != NULL)
        term_say(term, level, text);
}

static void run_loop(struct term *term, struct progress *progress,
                     struct exporter *exporter, struct watchdog *dog,
                     const trommel_config *cfg, trommel_run *run)
{
    int told = 0, state;

    do {
        while (told < stops && told < 2) {
            if (told == 0)
                say_stopping(term, cfg, run);
            else
                take_stops(SIG_DFL); /* a third one ends it whatever it does */
            trommel_run_stop(run, 128 + stop_signal);
            told++;
        }
        watchdog_beat(dog);
        state = trommel_run_step(run, STEP_MS);
        watchdog_beat(dog);
        say_messages(term, run);
        progress_tick(progress, run, false);
        if (exporter)
            exporter_tick(exporter, run, state != TROMMEL_MORE);
    } while (state == TROMMEL_MORE);
}

static bool flag(const trommel_config *cfg, const char *name)
{
    const char *value = trommel_config_get(cfg, name);

    return value && strcmp(value, "yes") == 0;
}

/* A stop is our own doing, so the last word on it is ours too. */
static const char *stop_words(char *out, size_t size,
                              const trommel_config *cfg,
                              const trommel_run *run)
{
    const char *store = trommel_config_get(cfg, "store");
    int64_t rows = trommel_run_count(run, TROMMEL_ROWS_SETTLED);
    char n[FORMAT_BYTES];

    if (store && strcmp(store, "none") == 0)
        snprintf(out, size, "stopped; without a store nothing is kept");
    else
        snprintf(out, size, "stopped: %s row%s safe in the store. Run the same "
                 "command to go on.", format_count(n, rows),
                 rows == 1 ? " is" : "s are");
    return out;
}

/* The end: what is known now, then why it ended if not well. */
static int finish(struct term *term, struct progress *progress,
                  const trommel_config *cfg, trommel_run *run)
{
    int code = trommel_run_exit(run);
    const char *why = code > 1 ? trommel_run_error(run) : NULL;
    const char *output = trommel_config_get(cfg, "output");
    char words[200];
    bool named = code <= 1 && output && strcmp(output, "-") != 0;

    progress_tick(progress, run, true);
    if (flag(cfg, "dry-run"))
        fputs(code <= 1 ? trommel_run_preview(run) : "", stdout);
    else if (trommel_run_count(run, TROMMEL_ROWS_SETTLED) > 0 && !term->json)
        summary_print(term, run, named ? output : NULL,
                      progress_elapsed_ms(progress));
    if (code > 128)
        why = stop_words(words, sizeof words, cfg, run);
    if (why && *why)
        term_say(term, SAY_ERROR, why);
    return code;
}

/* --metrics: listens before anything else is opened. */
static int open_exporter(struct exporter **out, struct term *term,
                         const trommel_config *cfg)
{
    const char *where = trommel_config_get(cfg, "metrics");
    char text[300];
    int rc;

    *out = NULL;
    if (!where)
        return 0;
    rc = exporter_open(out, where, text, sizeof text);
    if (rc != 0) {
        term_say(term, SAY_ERROR, text);
        return rc;
    }
    snprintf(text, sizeof text, "metrics: %s%s", exporter_url(*out),
             exporter_is_public(*out) ? " (other machines can read it)" : "");
    term_say(term, SAY_NOTE, text);
    return 0;
}

static struct watchdog *start_watchdog(struct term *term,
                                       const trommel_config *cfg,
                                       const trommel_run *run)
{
    struct watchdog *dog;
    int error = watchdog_start(&dog, trommel_config_ms(cfg, "watchdog"),
                               flag(cfg, "core-dumps"), term, run);
    char text[200];

    if (error) {
        snprintf(text, sizeof text, "no watchdog: %s; a step that does not "
                 "return will not be noticed", strerror(error));
        term_say(term, SAY_WARNING, text);
    }
    return dog;
}

static int classify(struct term *term, trommel_config *cfg)
{
    const char *word = trommel_config_get(cfg, "progress");
    const char *head = trommel_config_get(cfg, "head");
    const char *output = trommel_config_get(cfg, "output");
    bool on_stdout = !output || strcmp(output, "-") == 0;
    struct progress progress;
    struct exporter *exporter;
    struct watchdog *dog;
    trommel_run *run = NULL;
    int rc, code;

    if (flag(cfg, "core-dumps"))
        guard_lower();
    term_options(term, flag(cfg, "no-color"), flag(cfg, "quiet"),
                 strcmp(word, "json") == 0);
    progress_init(&progress,
                  progress_choose(word, term, on_stdout && isatty(1)), term,
                  head ? strtoll(head, NULL, 10) : 0);
    catch_signals();
    rc = open_exporter(&exporter, term, cfg);
    if (rc != 0)
        return trommel_exit_code(rc);
    rc = trommel_run_open(&run, cfg);
    if (rc != 0) {
        say_messages(term, run);
        term_say(term, SAY_ERROR,
                 run ? trommel_run_error(run) : "out of memory");
        code = stop_signal ? 128 + stop_signal : trommel_exit_code(rc);
    } else {
        dog = start_watchdog(term, cfg, run);
        run_loop(term, &progress, exporter, dog, cfg, run);
        watchdog_stop(dog);
        code = finish(term, &progress, cfg, run);
    }
    exporter_close(exporter);
    trommel_run_close(run);
    return code;
}

int cmd_classify(int argc, char **argv)
{
    struct term term;
    trommel_config *cfg = trommel_config_new();
    bool wants_help = false;
    int code = 70, rc;

    term_init(&term);
    if (!cfg) {
        term_say(&term, SAY_ERROR, "out of memory");
        return code;
    }
    code = args_read(argc, argv, cfg, &term, &wants_help);
    if (code == 0 && wants_help) {
        long_help(stdout);
    } else if (code == 0 && !trommel_config_get(cfg, "input") && isatty(0)) {
        help(stderr);
        fputs("\nAll options: trommel help classify\n", stderr);
        code = 2;
    } else if (code == 0) {
        if (!trommel_config_get(cfg, "input"))
            trommel_config_set(cfg, "input", "-");
        rc = trommel_config_load(cfg);
        if (rc == 0 && strcmp(trommel_config_get(cfg, "sample"), "0") != 0) {
            term_say(&term, SAY_ERROR, "--sample is for trommel estimate; "
                     "--head labels the first rows");
            code = 2;
        } else if (rc != 0) {
            term_say(&term, SAY_ERROR, trommel_config_error(cfg));
            code = trommel_exit_code(rc);
        } else {
            code = classify(&term, cfg);
        }
    }
    trommel_config_free(cfg);
    return code;
}
