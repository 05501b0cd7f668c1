/* cmd_estimate.c - the command estimate: what classify would ask, and what that
 * costs, for one or several models side by side. Sends nothing, unless --sample
 * says so.
 *
 * One pass over the input for each model, by the planning of a real run.
 *
 * SPDX-License-Identifier: MIT */
#include "args.h"
#include "commands.h"
#include "format.h"
#include "guard.h"
#include "stop.h"
#include "term.h"

#include <trommel.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEP_MS 100
enum { MODELS_MAX = 16, CELL = 160 };

static void help(FILE *out)
{
    fputs("usage: trommel estimate INPUT... (--labels A,B,C | --task FILE) "
          "[options]\n\n"
          "Says what classify would ask and what that would cost, and sends "
          "nothing.\n\n"
          "  trommel estimate tickets.csv --task tickets.yaml \\\n"
          "      --model openai/gpt-6-luna,openai/gpt-5.4-mini\n"
          "  trommel estimate tickets.csv --task tickets.yaml --sample 100 \\\n"
          "      --model openai/gpt-6-luna --budget 0.50\n\n"
          "The options are those of classify (trommel help classify), and:\n"
          "  --model A,B,C      several models, one line each\n"
          "  --sample N         ask N rows spread over the input, keep their "
          "answers, and\n"
          "                     reckon with the tokens they really used\n"
          "  --progress json    one JSON object for each model\n",
          out);
}

/* ---- one run ---------------------------------------------------------- */

static void say_messages(struct term *term, trommel_run *run, int most)
{
    const char *text;
    int level;

    while (run && (text = trommel_run_message(run, &level)) != NULL)
        if (level <= most)
            term_say(term, level, text);
}

/* Between two runs nothing is under way, and the reading of a large input for a
 * sample is no step: then a signal ends the program at once. */
static void run_loop(struct term *term, trommel_run *run, int notes)
{
    int told = 0, state;

    stop_catch();
    do {
        stop_pass_on(&told, term, run);
        state = trommel_run_step(run, STEP_MS);
        say_messages(term, run, notes);
    } while (state == TROMMEL_MORE);
    stop_leave();
}

/* To its end; the exit code. notes: how much of what it says is passed on. */
static int run_to_end(struct term *term, trommel_run *run, int opened,
                      int notes)
{
    int code;

    if (opened == 0)
        run_loop(term, run, notes);
    say_messages(term, run, notes);
    code = opened == 0 ? trommel_run_exit(run) : trommel_exit_code(opened);
    if (code <= 1) /* it may have ended before it heard of it */
        code = stop_code();
    if (code > 128)
        term_say(term, SAY_ERROR, stop_words(run));
    else if (code > 1)
        term_say(term, SAY_ERROR,
                 run ? trommel_run_error(run) : "out of memory");
    return code;
}

/* 0, or the exit code after having said why not. The run is asked and not the
 * command line: the task file has a say, too. */
static int may_compare(struct term *term, const trommel_run *run, int models)
{
    if (models < 2)
        return 0;
    if (trommel_run_setting(run, "base-url", 0)) {
        term_say(term, SAY_ERROR, "base-url is for one model: name the "
                 "servers in config.yaml (providers:) to compare several");
        return 2;
    }
    if (trommel_run_count(run, TROMMEL_BYTES_TOTAL) < 0) {
        term_say(term, SAY_ERROR, "several models need an input that can be "
                 "read more than once: a file, not a pipe");
        return 2;
    }
    return 0;
}

static int may_ask(struct term *term, const trommel_run *run, int models)
{
    const char *store = trommel_run_setting(run, "store", 0);

    if (store && strcmp(store, "none") == 0) {
        term_say(term, SAY_ERROR, "--sample pays for answers and keeps them: "
                 "it needs a store");
        return 2;
    }
    return may_compare(term, run, models);
}

/* --sample: some rows are asked, so that the estimate can rest on them. models:
 * how many are compared. */
static int ask_sample(struct term *term, trommel_config *cfg, int models)
{
    trommel_run *run = NULL;
    char text[500], rows[FORMAT_BYTES], known[FORMAT_BYTES];
    char requests[FORMAT_BYTES], money[FORMAT_BYTES] = "(price not known)";
    int opened, code;

    trommel_config_set(cfg, "dry-run", "no");
    opened = trommel_run_open(&run, cfg);
    code = opened == 0 ? may_ask(term, run, models) : 0;
    if (code != 0) {
        trommel_run_close(run);
        return code;
    }
    code = run_to_end(term, run, opened, SAY_WARNING);
    if (code == 0 && !term->json) {
        int64_t spent = trommel_run_count(run, TROMMEL_SPENT_NANOUSD);
        int64_t asked = trommel_run_count(run, TROMMEL_REQUESTS);
        int64_t settled = trommel_run_count(run, TROMMEL_ROWS_SETTLED);

        if (spent >= 0)
            format_money(money, spent);
        format_count(rows, settled);
        format_count(known, trommel_run_count(run, TROMMEL_ROWS_STORED));
        format_count(requests, asked);
        snprintf(text, sizeof text, "sample  %.100s: %s row%s, %s of them "
                 "known before; %s request%s; this job has cost %s",
                 trommel_run_model(run, 0), rows, settled == 1 ? "" : "s",
                 known, requests, asked == 1 ? "" : "s", money);
        term_say(term, SAY_NOTE, text);
    }
    trommel_run_close(run);
    return code;
}

/* ---- the table -------------------------------------------------------- */

enum column { C_MODEL, C_KNOWN, C_ASK, C_REQUESTS, C_IN, C_OUT, C_COST,
              C_MOST, C_TIME, COLUMNS };
static const char *const heads[COLUMNS] = {
    "MODEL", "KNOWN", "TO ASK", "REQUESTS", "TOKENS IN", "TOKENS OUT", "COST",
    "AT MOST", "TIME"};

struct line {
    char cell[COLUMNS][CELL];
};

static int64_t est(const trommel_run *run, enum trommel_estimate which)
{
    return trommel_run_estimate(run, which);
}

/* "12 k (9-15 k)": both ends when they differ as they are written. */
static void span(char *out, const char *(*format)(char *, int64_t),
                 int64_t mean, int64_t low, int64_t high)
{
    char a[FORMAT_BYTES], b[FORMAT_BYTES], c[FORMAT_BYTES];

    if (mean < 0) {
        snprintf(out, CELL, "not known");
        return;
    }
    format(a, mean);
    format(b, low);
    format(c, high);
    if (strcmp(b, c) == 0)
        snprintf(out, CELL, "%s", a);
    else
        snprintf(out, CELL, "%s (%s - %s)", a, b, c);
}

static void fill(struct line *l, const trommel_run *run)
{
    bool exact = est(run, TROMMEL_EST_EXACT) == 1;
    int64_t ms = est(run, TROMMEL_EST_MS);
    char n[FORMAT_BYTES];

    snprintf(l->cell[C_MODEL], CELL, "%s", trommel_run_model(run, 0));
    snprintf(l->cell[C_KNOWN], CELL, "%s",
             format_count(n, est(run, TROMMEL_EST_ROWS_KNOWN)));
    snprintf(l->cell[C_ASK], CELL, "%s%s", exact ? "" : "~",
             format_count(n, est(run, TROMMEL_EST_TEXTS)));
    snprintf(l->cell[C_REQUESTS], CELL, "%s%s", exact ? "" : "~",
             format_count(n, est(run, TROMMEL_EST_REQUESTS)));
    span(l->cell[C_IN], format_short, est(run, TROMMEL_EST_TOKENS_IN),
         est(run, TROMMEL_EST_TOKENS_IN_LOW),
         est(run, TROMMEL_EST_TOKENS_IN_HIGH));
    span(l->cell[C_OUT], format_short, est(run, TROMMEL_EST_TOKENS_OUT),
         est(run, TROMMEL_EST_TOKENS_OUT_LOW),
         est(run, TROMMEL_EST_TOKENS_OUT_HIGH));
    span(l->cell[C_COST], format_money, est(run, TROMMEL_EST_NANOUSD),
         est(run, TROMMEL_EST_NANOUSD_LOW), est(run, TROMMEL_EST_NANOUSD_HIGH));
    snprintf(l->cell[C_MOST], CELL, "%s",
             est(run, TROMMEL_EST_BOUND_NANOUSD) < 0 ? "not known"
             : format_money(n, est(run, TROMMEL_EST_BOUND_NANOUSD)));
    if (est(run, TROMMEL_EST_REQUESTS) == 0)
        snprintf(l->cell[C_TIME], CELL, "-");
    else if (ms < 0)
        snprintf(l->cell[C_TIME], CELL, "not known");
    else
        snprintf(l->cell[C_TIME], CELL, "%s%s",
                 est(run, TROMMEL_EST_LIMITED) == 1 ? "" : ">= ",
                 format_span(n, (double)ms / 1000));
}

static void print_table(const struct line *lines, int n)
{
    int width[COLUMNS];

    for (int c = 0; c < COLUMNS; c++) {
        width[c] = (int)strlen(heads[c]);
        for (int i = 0; i < n; i++)
            if ((int)strlen(lines[i].cell[c]) > width[c])
                width[c] = (int)strlen(lines[i].cell[c]);
    }
    for (int i = -1; i < n; i++)
        for (int c = 0; c < COLUMNS; c++)
            printf("%-*s%s", c + 1 < COLUMNS ? width[c] : 0,
                   i < 0 ? heads[c] : lines[i].cell[c],
                   c + 1 < COLUMNS ? "  " : "\n");
}

/* What all models have in common. */
static void print_input(const trommel_run *run)
{
    int64_t rows = est(run, TROMMEL_EST_ROWS);
    int64_t bad = est(run, TROMMEL_EST_ROWS_UNUSABLE);
    char n[FORMAT_BYTES], m[FORMAT_BYTES];

    printf("%s row%s, %s%s distinct text%s", format_count(n, rows),
           rows == 1 ? "" : "s",
           est(run, TROMMEL_EST_EXACT) == 1 ? "" : "about ",
           format_count(m, est(run, TROMMEL_EST_DISTINCT)),
           est(run, TROMMEL_EST_DISTINCT) == 1 ? "" : "s");
    if (bad > 0)
        printf(", %s without a usable text", format_count(n, bad));
    printf("\n");
}

/* What goes on at the provider and is no part of the line. */
static void say_batch(struct term *term, const trommel_run *run)
{
    int64_t requests = est(run, TROMMEL_EST_BATCH_REQUESTS);
    int64_t nano = est(run, TROMMEL_EST_BATCH_NANOUSD);
    char text[400], n[FORMAT_BYTES], money[FORMAT_BYTES];

    if (requests <= 0)
        return;
    snprintf(text, sizeof text, "%.160s: %s request%s (%s%s) %s in a batch "
             "already and not counted in TO ASK; classify --batch picks %s up",
             trommel_run_model(run, 0), format_count(n, requests),
             requests == 1 ? "" : "s",
             nano < 0 ? "price not known" : "at most ",
             nano < 0 ? "" : format_money(money, nano),
             requests == 1 ? "is" : "are", requests == 1 ? "it" : "them");
    term_say(term, SAY_NOTE, text);
}

/* ---- the command ------------------------------------------------------ */

struct found {
    int64_t bounded, unmeasured, unlimited; /* models for which that holds */
};

static void look(struct found *f, const trommel_run *run)
{
    bool asks = est(run, TROMMEL_EST_REQUESTS) > 0;
    const char *batch = trommel_run_setting(run, "batch", 0);
    bool batched = batch && strcmp(batch, "yes") == 0;

    f->bounded += asks && est(run, TROMMEL_EST_BOUND_NANOUSD) >= 0;
    f->unmeasured += asks && est(run, TROMMEL_EST_MEASURED) == 0;
    f->unlimited += asks && !batched && est(run, TROMMEL_EST_LIMITED) == 0;
}

static void say_basis(struct term *term, const struct found *f)
{
    if (f->bounded)
        term_say(term, SAY_NOTE, "AT MOST holds if nothing has to be asked "
                 "again; --budget holds in any case");
    if (f->unmeasured)
        term_say(term, SAY_NOTE, "tokens are guessed from bytes where no "
                 "answer of the model is known yet; --sample 100 asks 100 rows "
                 "and reckons with what they used");
    if (f->unlimited)
        term_say(term, SAY_NOTE, "the time is not known where no limit is: "
                 "--rpm and --tpm say yours");
}

/* They are neither known nor asked. */
static void say_too_long(struct term *term, const trommel_run *run,
                         const char *model)
{
    int64_t rows = est(run, TROMMEL_EST_ROWS_TOO_LONG);
    char line[300], n[FORMAT_BYTES];

    if (rows <= 0)
        return;
    snprintf(line, sizeof line, "%.200s: %s row%s too long for it and would "
             "not be asked", model, format_count(n, rows),
             rows == 1 ? " is" : "s are");
    term_say(term, SAY_WARNING, line);
}

/* The models of one command: those to be compared, then those that stand behind
 * them: what would it cost if such a one had to answer all? */
struct models {
    char *names[MODELS_MAX];
    int compared, n;
    char *chain[MODELS_MAX]; /* --fallback, or what the task file says */
    int chain_n;
    char words[2000], behind[2000]; /* what names and chain point into */
    size_t behind_n;
};

static int too_many(struct term *term)
{
    term_say(term, SAY_ERROR, "--model: between one and 16 models, separated "
             "by commas, those of --fallback included");
    return 2;
}

/* Adds the models of "a, b,c" to n others; words is cut up. -1: too many. */
static int split(char *words, char **models, int n)
{
    for (char *word = strtok(words, ","); word; word = strtok(NULL, ",")) {
        char *end;

        word += strspn(word, " ");
        end = word + strlen(word);
        while (end > word && end[-1] == ' ')
            *--end = '\0';
        if (end == word)
            continue;
        if (n == MODELS_MAX)
            return -1;
        models[n++] = word;
    }
    return n;
}

/* One value of the chain. False: too many, or too long. */
static bool add_chain(struct models *m, const char *value)
{
    char *at = m->behind + m->behind_n;
    size_t room = sizeof m->behind - m->behind_n, n = strlen(value) + 1;

    if (n > room)
        return false;
    memcpy(at, value, n);
    m->behind_n += n;
    m->chain_n = split(at, m->chain, m->chain_n);
    return m->chain_n >= 0;
}

static bool is_named(char *const *names, int n, const char *model)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], model) == 0)
            return true;
    return false;
}

/* What the first run shows of the others: whom the task file has behind it, and
 * whether an input is left for them. */
static int look_behind(struct term *term, const trommel_config *cfg,
                       const trommel_run *run, struct models *m)
{
    bool again = trommel_run_count(run, TROMMEL_BYTES_TOTAL) >= 0;
    bool told = m->chain_n > 0; /* on the command line, which wins */
    const char *more;
    int code = may_compare(term, run, m->compared);

    if (code != 0)
        return code;
    if (m->compared == 1) { /* the task file may name it, too */
        snprintf(m->words, sizeof m->words, "%s",
                 trommel_run_setting(run, "model", 0));
        m->names[0] = m->words;
    }
    for (int i = 0; !told && (more = trommel_run_setting(run, "fallback", i));
         i++)
        if (strcmp(more, "none") != 0 && !add_chain(m, more))
            return too_many(term);
    /* forget_first() cannot unset what the task file says */
    if (m->chain_n && trommel_run_setting(run, "base-url", 0) &&
        !trommel_config_get(cfg, "base-url")) {
        term_say(term, SAY_NOTE, "no lines for the fallbacks: the task file's "
                 "base_url would be theirs, too; name the server in "
                 "config.yaml (providers:) instead");
        return 0;
    }
    for (int i = 0; again && i < m->chain_n; i++) {
        if (is_named(m->names, m->n, m->chain[i]))
            continue;
        if (m->n == MODELS_MAX)
            return too_many(term);
        m->names[m->n++] = m->chain[i];
    }
    return 0;
}

/* Model i has the chain behind it, but for itself; who is of the chain, nobody,
 * whatever the task file says. */
static void set_chain(trommel_config *cfg, const struct models *m, int i)
{
    bool any = false;

    if (m->compared == 1 && i == 0)
        return; /* as it would be run */
    trommel_config_unset(cfg, "fallback");
    for (int k = 0; i < m->compared && k < m->chain_n; k++) {
        if (strcmp(m->chain[k], m->names[i]) == 0)
            continue;
        trommel_config_set(cfg, "fallback", m->chain[k]);
        any = true;
    }
    if (!any)
        trommel_config_set(cfg, "fallback", "none");
}

/* Who steps in answers at once, with a key and an address of its own. */
static void forget_first(trommel_config *cfg)
{
    static const char *const names[] = {"base-url", "key-env", "key-file",
                                        "effort"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        trommel_config_unset(cfg, names[i]);
    trommel_config_set(cfg, "batch", "no");
}

static int estimate(struct term *term, trommel_config *cfg, struct models *m)
{
    const char *sample = trommel_config_get(cfg, "sample");
    bool asks = sample && strcmp(sample, "0") != 0;
    struct found found = {0};
    static struct line lines[MODELS_MAX];
    int code = 0;

    for (int i = 0; i < m->n && code == 0; i++) {
        trommel_run *run = NULL;
        int opened;

        if (m->compared > 1 || i > 0) /* one alone may stand in the task file */
            trommel_config_set(cfg, "model", m->names[i]);
        if (m->chain_n)
            set_chain(cfg, m, i);
        if (i == m->compared)
            forget_first(cfg);
        if (asks && i < m->compared)
            code = ask_sample(term, cfg, m->compared);
        if (code != 0)
            break;
        trommel_config_set(cfg, "dry-run", "yes");
        opened = trommel_run_open(&run, cfg);
        if (i == 0 && opened == 0)
            code = look_behind(term, cfg, run, m);
        if (code == 0)
            code = run_to_end(term, run, opened,
                              i || term->json ? SAY_WARNING : SAY_NOTE);
        if (code == 0 && term->json) {
            printf("%s\n", trommel_run_stats_json(run));
        } else if (code == 0) {
            if (i == 0)
                print_input(run);
            fill(&lines[i], run);
            look(&found, run);
            say_batch(term, run);
            say_too_long(term, run, m->names[i]);
        }
        trommel_run_close(run);
    }
    if (code == 0 && !term->json) {
        print_table(lines, m->n);
        if (m->n > m->compared)
            term_say(term, SAY_NOTE, m->n - m->compared == 1
                     ? "the last line: if the fallback had to answer all"
                     : "the last lines: if a fallback had to answer all");
        say_basis(term, &found);
    }
    return code;
}

static int with_models(struct term *term, trommel_config *cfg)
{
    static struct models m;
    const char *model = trommel_config_get(cfg, "model");
    const char *more;

    m = (struct models){0};
    snprintf(m.words, sizeof m.words, "%s", model);
    m.n = m.compared = split(m.words, m.names, 0);
    if (m.n < 1 || strlen(model) >= sizeof m.words)
        return too_many(term);
    for (int i = 0; (more = trommel_config_get_at(cfg, "fallback", i)); i++)
        if (strcmp(more, "none") != 0 && !add_chain(&m, more))
            return too_many(term);
    return estimate(term, cfg, &m);
}

int cmd_estimate(int argc, char **argv)
{
    struct term term;
    trommel_config *cfg = trommel_config_new();
    bool wants_help = false;
    int code, rc;

    term_init(&term);
    if (!cfg) {
        term_say(&term, SAY_ERROR, "out of memory");
        return 70;
    }
    code = args_read(argc, argv, cfg, &term, &wants_help);
    if (code == 0 && wants_help) {
        help(stdout);
    } else if (code == 0 && !trommel_config_get(cfg, "input") && isatty(0)) {
        help(stderr);
        code = 2;
    } else if (code == 0) {
        if (!trommel_config_get(cfg, "input"))
            trommel_config_set(cfg, "input", "-");
        rc = trommel_config_load(cfg);
        args_tell(cfg, &term); /* what it has to say, too */
        if (rc != 0) {
            term_say(&term, SAY_ERROR, trommel_config_error(cfg));
            code = trommel_exit_code(rc);
        } else {
            if (args_is(cfg, "core-dumps", "yes"))
                guard_lower();
            code = with_models(&term, cfg);
        }
    }
    trommel_config_free(cfg);
    return code;
}
