/* cmd_classify.c - the command classify: settings, the loop, the last words.
 * SPDX-License-Identifier: MIT */
#include "args.h"
#include "commands.h"
#include "exporter.h"
#include "format.h"
#include "guard.h"
#include "progress.h"
#include "stop.h"
#include "summary.h"
#include "watchdog.h"

#include <trommel.h>

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
    fputs("\nMost options may also stand in the environment "
          "(TROMMEL_MAX_WAIT=5m), and most\nof those in a file under the same "
          "name. First wins: command line, environment,\ntask file, "
          "config.yaml. TIME is 20s, 15m, 1h30m; USD is 2.00.\n\n"
          "exit codes: 0 all rows labelled; 1 some rows failed; 2 usage; "
          "65 bad input;\n66 no input; 69 model not reachable; 70 a fault of "
          "trommel's own, or no memory;\n73 no output; 74 input/output error; "
          "75 stopped for now, run again to go on;\n77 key refused or quota "
          "used up; 78 bad task or configuration; 129 SIGHUP;\n130 Ctrl-C; "
          "143 SIGTERM\n",
          out);
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
                     trommel_run *run)
{
    int told = 0, state;

    do {
        stop_pass_on(&told, term, run);
        watchdog_beat(dog);
        state = trommel_run_step(run, STEP_MS);
        watchdog_beat(dog);
        say_messages(term, run);
        progress_tick(progress, run, false);
        if (exporter)
            exporter_tick(exporter, run, state != TROMMEL_MORE);
    } while (state == TROMMEL_MORE);
}

/* Rows stand in it, and what they hold gives the terminal no orders. false: no
 * memory, for this or for the text. */
static bool put_lines(const char *text)
{
    char *copy = *text ? strdup(text) : NULL, *at = copy;
    bool is_there = copy != NULL;

    for (char *line; (line = strsep(&at, "\n"));) {
        term_put(stdout, line);
        if (at)
            putchar('\n');
    }
    free(copy);
    return is_there;
}

/* The end: what is known now, then why it ended if not well. */
static int finish(struct term *term, struct progress *progress,
                  const trommel_config *cfg, trommel_run *run)
{
    int code = trommel_run_exit(run);
    const char *why = code > 128 ? stop_words(run)
                      : code > 1 ? trommel_run_error(run) : NULL;
    const char *output = trommel_config_get(cfg, "output");
    bool named = code <= 1 && output && strcmp(output, "-") != 0;

    progress_tick(progress, run, true);
    if (args_is(cfg, "dry-run", "yes")) {
        if (code <= 1 && !put_lines(trommel_run_preview(run))) {
            code = trommel_exit_code(TROMMEL_ENOMEM);
            why = "out of memory for the preview; run the same command again "
                  "with more memory (ulimit -v)";
        }
    } else if (!term->json &&
               (trommel_run_count(run, TROMMEL_ROWS_SETTLED) > 0 ||
                trommel_run_count(run, TROMMEL_SPENT_NANOUSD) > 0 ||
                trommel_run_count(run, TROMMEL_TOKENS_IN) > 0)) {
        summary_print(term, run, named ? output : NULL,
                      progress_elapsed_ms(progress));
    }
    if (code == 1 && term->quiet && !term->json &&
        !args_is(cfg, "dry-run", "yes"))
        summary_failed(term, run, named ? output : NULL);
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
                               args_is(cfg, "core-dumps", "yes"), term, run);
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

    if (args_is(cfg, "core-dumps", "yes"))
        guard_lower();
    progress_init(&progress,
                  progress_choose(word, term, on_stdout && isatty(1)), term,
                  head ? strtoll(head, NULL, 10) : 0);
    stop_catch();
    rc = open_exporter(&exporter, term, cfg);
    if (rc != 0)
        return trommel_exit_code(rc);
    rc = trommel_run_open(&run, cfg);
    if (rc != 0) {
        say_messages(term, run);
        code = stop_code() ? stop_code() : trommel_exit_code(rc);
        term_say(term, SAY_ERROR, /* a call that was interrupted is no fault */
                 stop_code() ? "stopped before anything was asked"
                 : run       ? trommel_run_error(run) : "out of memory");
    } else {
        dog = start_watchdog(term, cfg, run);
        run_loop(term, &progress, exporter, dog, run);
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
        args_tell(cfg, &term); /* what it has to say, too */
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
