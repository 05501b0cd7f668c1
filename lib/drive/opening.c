/* opening.c - opens what a real run needs, in this order: what costs nothing
 * and fails most (settings, task, input) before what leaves traces (store,
 * output).
 *
 * SPDX-License-Identifier: MIT */
#include "drive/drive.h"

#include "base/bounds.h"
#include "base/clock.h"
#include "base/mem.h"
#include "plan/tally.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

enum { STORE_POLL_MS = 200 }; /* another run: minutes or hours */

/* ---- input and task --------------------------------------------------- */

/* How the settings want the input read. */
static int source_opts(const struct tr_drive *d, struct tr_source_opts *o,
                       struct tr_err *err)
{
    static const char *const formats[] = {"auto", "csv", "tsv", "jsonl",
                                          "lines"};
    const char *format = tr_config_text(d->cfg, "format");
    const char *delimiter = tr_config_text(d->cfg, "delimiter");

    *o = (struct tr_source_opts){
        .text = tr_config_text(d->cfg, "text"),
        .apart = tr_config_text(d->cfg, "apart"),
        .as = tr_config_text(d->cfg, "as"),
        .bad_rows_fail =
            strcmp(tr_config_text(d->cfg, "on-bad-row"), "fail") == 0,
        .no_header = tr_config_flag(d->cfg, "no-header"),
        .csv_guard = tr_config_flag(d->cfg, "csv-guard"),
        .head = tr_config_int(d->cfg, "head"),
    };
    o->path_count = tr_config_list(d->cfg, "input", &o->paths);
    for (int i = 0; i < 5; i++)
        if (strcmp(format, formats[i]) == 0)
            o->format = (enum tr_format)i;
    if (delimiter && (strcmp(delimiter, "\\t") == 0 ||
                      strcasecmp(delimiter, "tab") == 0))
        o->delimiter = '\t';
    else if (delimiter && strlen(delimiter) == 1 && delimiter[0] != '"' &&
             delimiter[0] != '\n' && delimiter[0] != '\r')
        o->delimiter = delimiter[0];
    else if (delimiter)
        return tr_fail(err, TR_USAGE, "--delimiter %s: one character is "
                       "wanted, for example ';' or tab", delimiter);
    return TR_OK;
}

/* In the folder of the task file or below, links followed? */
static bool is_beside(const char *path, const char *task)
{
    const char *slash = strrchr(task, '/');
    char folder[PATH_MAX], there[PATH_MAX], real[PATH_MAX];
    size_t n;

    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - task) + 1 : 1,
             slash ? task : ".");
    if (!realpath(folder, there) || !realpath(path, real))
        return true; /* whoever opens it says why not */
    n = strlen(there);
    return strncmp(real, there, n) == 0 &&
           (there[n - 1] == '/' || real[n] == '/');
}

/* A task file may come from somebody else: where it says to whom texts go, it
 * must not say from where in the user's files they are taken. */
static int check_examples(const struct tr_drive *d, struct tr_err *err)
{
    const struct tr_task_examples_file *file = &d->task.examples_file;
    const char *task = tr_config_text(d->cfg, "task");

    if ((!d->task.names_servers &&
         tr_config_rank(d->cfg, "base-url") != TR_FROM_TASK) ||
        is_beside(file->path.p, task))
        return TR_OK;
    return tr_fail(err, TR_CONFIG, "%s:%d:%d: examples_file: a task file that "
                   "names servers may name no file outside its folder, whose "
                   "texts would go there; put %s beside it, or name the "
                   "servers in config.yaml", task, file->line, file->column,
                   file->path.p);
}

/* Examples from a labelled file beside the task file. */
static int read_examples(struct tr_drive *d, struct tr_err *err)
{
    struct tr_source_opts o = {
        .as = "trommel-example",
        .say_text = "examples_file: {text: ...}",
        .say_label = "examples_file: {label: ...}",
        .none_bad = true,
    };
    struct tr_source *src = NULL;
    struct tr_block *block = NULL;
    const struct tr_task_examples_file *file = &d->task.examples_file;
    const char *path = file->path.p;
    int rc = TR_OK;

    if (!file->path.n)
        return TR_OK;
    TRY(check_examples(d, err));
    o.paths = &path;
    o.path_count = 1;
    o.text = file->text_column.p;
    o.label = file->label_column.p;
    TRY(tr_source_open(&src, &o, err));
    block = tr_block_new(TR_BLOCK_ROWS, TR_BLOCK_BYTES);
    if (!block)
        TRY(tr_fail(err, TR_NOMEM, "out of memory for the examples"));
    for (;;) {
        int got = tr_source_next(src, block, err);

        if (got == TR_SOURCE_FULL || (got == TR_SOURCE_END && block->row_count)) {
            for (uint32_t i = 0; i < block->row_count; i++) {
                const struct tr_row *row = &block->rows[i];
                char where[300];

                snprintf(where, sizeof where, "%s:%" PRIu64, path, row->line);
                TRY(tr_task_add_example(&d->task, tr_row_text(block, row),
                                        tr_str(block->bytes + row->id_at,
                                               row->id_n), where, err));
            }
            block->row_count = 0;
            block->bytes_n = 0;
        }
        if (got == TR_SOURCE_END)
            break;
        if (got < 0)
            TRY(got);
    }
out:
    tr_source_close(src);
    tr_block_free(block);
    return rc;
}

/* Both say what to decide: the first place that says one of them wins, and the
 * other is forgotten. */
static int task_or_labels(struct tr_drive *d, struct tr_err *err)
{
    enum tr_rank file = tr_config_rank(d->cfg, "task");
    enum tr_rank labels = tr_config_rank(d->cfg, "labels");
    int rc;

    if (!file && !labels)
        return tr_fail(err, TR_USAGE, "what to decide is missing: give "
                       "--labels a,b,c or --task FILE");
    if (file == labels)
        return tr_fail(err, TR_USAGE, "--task and --labels exclude each "
                       "other: the labels stand in the task file");
    rc = tr_config_unset(d->cfg, file > labels ? "labels" : "task");
    return rc == TR_OK ? rc : tr_fail(err, rc, "out of memory");
}

static int open_task(struct tr_drive *d, struct tr_err *err)
{
    const char **names = NULL;
    const char *file, *labels;
    int rc = task_or_labels(d, err);

    if (rc != TR_OK)
        return rc;
    file = tr_config_text(d->cfg, "task");
    labels = tr_config_text(d->cfg, "labels");
    d->has_task = true;
    if (labels)
        return tr_task_from_labels(&d->task, labels, err);
    names = tr_array(tr_option_count, sizeof *names);
    if (!names)
        return tr_fail(err, TR_NOMEM, "out of memory for the task");
    for (size_t i = 0; i < tr_option_count; i++) /* put() knows which may */
        names[i] = tr_options[i].name;
    rc = tr_task_from_file(&d->task, file, names, tr_option_count, err);
    tr_free(names);
    for (uint32_t i = 0; rc == TR_OK && i < d->task.option_count; i++) {
        const struct tr_task_option *o = &d->task.options[i];
        char where[400], name[64];

        snprintf(where, sizeof where, "%s:%d:%d", file, o->line, o->column);
        snprintf(name, sizeof name, "%.*s", (int)o->name.n, o->name.p);
        rc = tr_config_put(d->cfg, TR_FROM_TASK, name, o->value, where, err);
    }
    return rc == TR_OK ? read_examples(d, err) : rc;
}

/* ---- the run ---------------------------------------------------------- */

static void job_name(const struct tr_drive *d, struct tr_buf *name)
{
    const char *const *inputs;
    size_t n = tr_config_list(d->cfg, "input", &inputs);
    const char *job = tr_config_text(d->cfg, "job");
    const char *task = tr_config_text(d->cfg, "task");

    if (job) {
        tr_buf_addz(name, job);
        return;
    }
    tr_buf_addz(name, task ? task : tr_config_text(d->cfg, "labels"));
    for (size_t i = 0; i < n; i++)
        tr_buf_addf(name, " %s", inputs[i]);
}

static int64_t count_or_none(const struct tr_drive *d, const char *name)
{
    return tr_config_text(d->cfg, name) ? tr_config_int(d->cfg, name) : -1;
}

/* What the run spends is known: no lane of it has an unknown price. */
static bool all_priced(const struct tr_drive *d)
{
    for (uint32_t i = 0; i < d->lane_count; i++) {
        if (!d->lanes[i]->is_local && !tr_priced(&d->lanes[i]->facts))
            return false;
    }
    return true;
}

#define DESCRIPTORS_PLENTY 4096 /* twice what can be in flight */
#define DESCRIPTORS_SPARE 16    /* SQLite's journals, name look-ups, alerts */
#define FEW_AT_ONCE 64          /* worth a word though nobody asked for more */

/* How many requests at once can have a socket each; below 1: none. */
static int sockets_left(struct rlimit *limit)
{
    int used = 0, left, spare;

    if (getrlimit(RLIMIT_NOFILE, limit) < 0 ||
        limit->rlim_cur >= DESCRIPTORS_PLENTY)
        return INT_MAX;
    for (int fd = 0; fd < (int)limit->rlim_cur; fd++)
        used += fcntl(fd, F_GETFD) >= 0;
    left = (int)limit->rlim_cur - used;
    spare = left / 4 + 1;
    if (left < 2)
        return left;
    return left - (spare < DESCRIPTORS_SPARE ? spare : DESCRIPTORS_SPARE);
}

/* Without a descriptor a request does not leave: it would be tried again and
 * again, as if nobody answered. So no more are in flight than can be open, with
 * all lanes at work: each has an equal part of what those before it left. */
static int fit_descriptors(struct tr_drive *d, int wanted, struct tr_err *err)
{
    struct rlimit limit;
    int all = sockets_left(&limit), left = all, least = all, lanes = 0, sharing;
    bool fits = true;
    char line[200];

    if (d->dry_run || tr_config_flag(d->cfg, "offline"))
        return TR_OK; /* nothing leaves */
    for (uint32_t i = 0; i < d->lane_count; i++)
        lanes += !d->lanes[i]->is_local;
    sharing = lanes;
    for (uint32_t i = 0; i < d->lane_count; i++) {
        struct tr_lane *l = d->lanes[i];
        int most = l->concurrency_max ? l->concurrency_max : INT_MAX;
        int part;

        if (l->is_local)
            continue;
        if (all < 1)
            return tr_fail(err, TR_IO, "no file can be opened for a request: "
                           "%d of %d are open; %s", (int)limit.rlim_cur - all,
                           (int)limit.rlim_cur, tr_errno_remedy(EMFILE, ""));
        part = left == INT_MAX ? left : left / sharing;
        part = part < 1 ? 1 : part;
        sharing--;
        if (most > part) {
            l->concurrency_max = part;
            fits &= wanted && wanted <= part;
            least = part < least ? part : least;
        }
        if (left < INT_MAX)
            left -= most < part ? most : part;
    }
    if (fits || (!wanted && least >= FEW_AT_ONCE))
        return TR_OK;
    snprintf(line, sizeof line, "at most %d request%s at once%s: the limit of "
             "open files (ulimit -n) is %d", least, least == 1 ? "" : "s",
             lanes > 1 ? " to each model" : "", (int)limit.rlim_cur);
    tr_drive_say(d, wanted ? 1 : 2, line);
    return TR_OK;
}

static int open_run(struct tr_drive *d, struct tr_err *err)
{
    const char *answer = tr_config_text(d->cfg, "answer");
    const char *per = tr_config_text(d->cfg, "budget-per");
    const char *guard = tr_config_text(d->cfg, "guard");
    struct tr_buf job;
    struct tr_run_opts o = {
        .pack = (uint32_t)tr_config_small(d->cfg, "pack"),
        .answer_form = strcmp(answer, "lines") == 0 ? 0
                     : strcmp(answer, "schema") == 0 ? 1 : -1,
        .concurrency = tr_config_small(d->cfg, "concurrency"),
        .rpm = (double)tr_config_int(d->cfg, "rpm"),
        .tpm = (double)tr_config_int(d->cfg, "tpm"),
        .budget_nano = tr_config_nano(d->cfg, "budget"),
        .budget_tokens = count_or_none(d, "budget-tokens"),
        .budget_requests = count_or_none(d, "budget-requests"),
        .budget_per = strcmp(per, "day") == 0 ? TR_PER_DAY
                    : strcmp(per, "run") == 0 ? TR_PER_RUN : TR_PER_JOB,
        .max_wait_ms = tr_config_ms(d->cfg, "max-wait"),
        .grace_ms = tr_config_ms(d->cfg, "grace"),
        .request_timeout_ms = tr_config_ms(d->cfg, "timeout"),
        /* A plan is of what would be asked: it sends nothing anyway. */
        .offline = tr_config_flag(d->cfg, "offline") && !d->dry_run,
        .truncate = tr_config_flag(d->cfg, "truncate"),
        .fresh = tr_config_flag(d->cfg, "fresh"),
        .retry_failed = tr_config_flag(d->cfg, "retry-failed"),
        .as_completed =
            strcmp(tr_config_text(d->cfg, "order"), "completed") == 0,
        .verbose = tr_config_flag(d->cfg, "verbose"),
        .dry_run = d->dry_run,
        .is_sample = d->is_sample,
        .min_prompt = tr_config_small(d->cfg, "min-prompt"),
        .window_bytes = d->lanes[0]->in_batches ? TR_BATCH_WINDOW_BYTES : 0,
        .wait_for_quota = tr_config_flag(d->cfg, "wait-for-quota"),
        .quota_probe_ms = tr_config_ms(d->cfg, "quota-probe"),
        .isolate = tr_config_flag(d->cfg, "isolate"),
        .apart = tr_config_text(d->cfg, "apart") != NULL,
        .guard = strcmp(guard, "off") == 0 ? TR_GUARD_OFF
               : strcmp(guard, "strict") == 0 ? TR_GUARD_STRICT
                                               : TR_GUARD_ON,
    };
    struct tr_str bad;
    bool parsed = tr_triggers_parse(
        tr_str_c(tr_config_text(d->cfg, "fallback-on")), &o.fallback_on, &bad);
    int rc = TR_OK;

    TR_ASSERT(parsed); /* config.c has looked at the words */
    tr_buf_init(&job, 0);
    job_name(d, &job);
    o.job = job.p;
    if (!tr_buf_ok(&job))
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    TRY(tr_drive_open_till(d, &o, err));
    tr_drive_env(d);
    TRY(fit_descriptors(d, o.concurrency, err));
    TRY(tr_run_open(&d->run, &d->env, &o, &d->task, d->store, d->lanes,
                    d->lane_count, err));
    TRY(tr_watch_begin(&d->watch, d->run, &d->env, job.p, all_priced(d), err));
out:
    tr_buf_release(&job);
    return rc;
}

/* "sample": these rows only, asked and kept, and written nowhere. */
static int draw_asked(struct tr_drive *d, const struct tr_source_opts *o,
                      struct tr_err *err)
{
    int64_t n = tr_config_int(d->cfg, "sample");

    d->is_sample = n > 0 && !d->dry_run;
    if (n > TR_SAMPLE_MOST)
        return tr_fail(err, TR_USAGE, "--sample %" PRId64 ": at most %u rows "
                       "can be drawn; more say hardly more", n,
                       TR_SAMPLE_MOST);
    if (!d->is_sample)
        return TR_OK;
    if (!d->source || !tr_source_rereadable(d->source))
        return tr_fail(err, TR_USAGE, "--sample needs an input that can be "
                       "read twice: a file, not a pipe");
    return tr_sample_draw(&d->asked, (size_t)n, 0, o, err);
}

/* The store and what needs it. TR_STORE_HELD: by another run, for now. */
static int open_rest(struct tr_drive *d, struct tr_err *err)
{
    int rc;

    TRY(tr_drive_open_store(d, err));
    if (d->source && !d->dry_run && !d->is_sample)
        TRY(tr_drive_open_output(d, err));
    tr_drive_choose_peers(d);
    TRY(open_run(d, err));
out:
    return rc;
}

/* Whoever steps all the same after a failed opening hears of it again. */
static void never_begins(struct tr_drive *d, int rc)
{
    d->over = true;
    d->over_code = rc;
    d->exit_code = tr_exit_code(rc);
}

int tr_drive_await_store(struct tr_drive *d, int timeout_ms)
{
    bool soon = timeout_ms < STORE_POLL_MS;
    int rc;

    poll(NULL, 0, soon ? timeout_ms : STORE_POLL_MS);
    tr_drive_doing(d, NULL); /* an opening takes what it takes */
    rc = open_rest(d, &d->err);
    d->awaits_store = rc == TR_STORE_HELD;
    if (rc < 0)
        never_begins(d, rc);
    return rc < 0 ? rc : TR_RUN_MORE;
}

/* Rows that are pushed are not read from anywhere, nor written. */
static int refuse_without_input(const struct tr_drive *d, struct tr_err *err)
{
    static const char *const names[] = {"output", "head", "sample"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = tr_config_text(d->cfg, names[i]);

        if (value && strcmp(value, "0") != 0)
            return tr_fail(err, TR_USAGE, "--%s is for a run that reads files: "
                           "where rows are pushed, push what is to be asked "
                           "and take the results", names[i]);
    }
    if (tr_config_text(d->cfg, "apart"))
        return tr_fail(err, TR_USAGE, "--apart names a column, and rows that "
                       "are pushed have none: give each customer a run of its "
                       "own");
    return TR_OK;
}

/* Before anything is opened: the first file would be taken for it. */
static int check_standard_output(const struct tr_drive *d, struct tr_err *err)
{
    const char *output = tr_config_text(d->cfg, "output");

    if ((output && strcmp(output, "-") != 0) || d->dry_run ||
        tr_config_int(d->cfg, "sample") > 0 ||
        fcntl(STDOUT_FILENO, F_GETFD) >= 0)
        return TR_OK;
    return tr_fail(err, TR_CANTCREATE, "standard output is closed, and the "
                   "rows would go there; name a file with --output");
}

/* Values that may be said, and make no sense together, or here. */
static int check_settings(const struct tr_drive *d, bool reads,
                          struct tr_err *err)
{
    const struct tr_config *cfg = d->cfg;

    if (tr_config_ms(cfg, "timeout") < 1)
        return tr_fail(err, TR_USAGE, "--timeout 0 would pay for answers and "
                       "hear none: give it a time, such as 120s, or leave it "
                       "out");
    if (tr_config_small(cfg, "alert-errors") > 100)
        return tr_fail(err, TR_USAGE, "--alert-errors %d: a percentage from 1 "
                       "to 100 is wanted, or 0 for never",
                       tr_config_small(cfg, "alert-errors"));
    if (tr_config_rank(cfg, "fallback-on") == TR_FROM_SET &&
        !tr_config_rank(cfg, "fallback"))
        return tr_fail(err, TR_USAGE, "--fallback-on says when rows go on to "
                       "the next model, and there is none: name it with "
                       "--fallback");
    if (reads && strcmp(tr_config_text(cfg, "order"), "completed") == 0)
        return tr_fail(err, TR_USAGE, "--order completed is for pushed rows; a "
                       "file is always written in input order");
    return reads ? check_standard_output(d, err)
                 : refuse_without_input(d, err);
}

int tr_drive_open(struct tr_drive *d, const struct tr_config *cfg)
{
    struct tr_err *err = &d->err;
    struct tr_source_opts *o = &d->source_opts;
    int rc = TR_OK;

    d->spill.fd = -1;
    d->owner = getpid();
    d->opened_at = tr_clock_mono_ns();
    tr_sample_init(&d->sample);
    tr_sample_init(&d->asked);
    tr_peers_init(&d->peers);
    tr_buf_init(&d->line, 0);
    tr_buf_init(&d->pushed, 0);
    d->cfg = tr_config_dup(cfg);
    if (!d->cfg)
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    d->dry_run = tr_config_flag(d->cfg, "dry-run");
    TRY(open_task(d, err));
    TRY(source_opts(d, o, err));
    TRY(check_settings(d, o->path_count > 0, err));
    if (o->path_count) {
        TRY(tr_source_open(&d->source, o, err));
        tr_drive_say(d, 2, tr_source_summary(d->source));
        TRY(tr_source_check_output(d->source, tr_config_text(d->cfg, "output"),
                                   err));
        TRY(draw_asked(d, o, err));
    } else {
        d->results = tr_array(TR_RESULTS, sizeof *d->results);
        if (!d->results)
            TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    }
    d->names = tr_array(d->task.label_count, sizeof *d->names);
    if (!d->names)
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    TRY(tr_drive_open_models(d, err));
    TRY(tr_drive_open_watch(d, err));
    rc = open_rest(d, err);
    d->awaits_store = rc == TR_STORE_HELD;
    if (d->awaits_store) {
        tr_drive_say(d, 2, err->text);
        rc = TR_OK;
    }
out:
    if (rc != TR_OK)
        never_begins(d, rc);
    return rc;
}
