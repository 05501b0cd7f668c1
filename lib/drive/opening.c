/* opening.c - opens what a real run needs, in this order: what costs nothing
 * and fails most (settings, task, input) before what leaves traces (store,
 * output).
 *
 * SPDX-License-Identifier: MIT */
#include "drive/drive.h"

#include "base/bounds.h"
#include "base/clock.h"
#include "base/mem.h"
#include "encode/local.h"
#include "wire/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { STORE_POLL_MS = 200 }; /* another run: minutes or hours */

/* ---- task, lanes, store, output --------------------------------------- */

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
        .id = tr_config_text(d->cfg, "id"),
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
                      strcmp(delimiter, "tab") == 0))
        o->delimiter = '\t';
    else if (delimiter && strlen(delimiter) == 1 && delimiter[0] != '"' &&
             delimiter[0] != '\n' && delimiter[0] != '\r')
        o->delimiter = delimiter[0];
    else if (delimiter)
        return tr_fail(err, TR_USAGE, "--delimiter %s: one character is "
                       "wanted, for example ';' or tab", delimiter);
    return TR_OK;
}

/* Examples from a labelled file beside the task file. */
static int read_examples(struct tr_drive *d, struct tr_err *err)
{
    struct tr_source_opts o = {
        .as = "trommel-example",
        .say_text = "examples_file: {text: ...}",
        .say_id = "examples_file: {label: ...}",
        .none_bad = true,
    };
    struct tr_source *src = NULL;
    struct tr_block *block = NULL;
    const struct tr_task_examples_file *file = &d->task.examples_file;
    const char *path = file->path.p;
    int rc = TR_OK;

    if (!file->path.n)
        return TR_OK;
    o.paths = &path;
    o.path_count = 1;
    o.text = file->text_column.p;
    o.id = file->label_column.p; /* the id column carries the label */
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
    size_t n = 0;
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
    for (size_t i = 0; i < tr_option_count; i++)
        if (tr_options[i].where & TR_OPT_T)
            names[n++] = tr_options[i].name;
    rc = tr_task_from_file(&d->task, file, names, n, err);
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

static int open_local(struct tr_drive *d, const char *path,
                      struct tr_lane **out, struct tr_err *err)
{
    struct tr_task *t = &d->task;
    struct tr_local_label *labels = tr_array(t->label_count, sizeof *labels);
    struct tr_str *texts = tr_array(t->example_count + 1, sizeof *texts);
    struct tr_local_opts o = {
        .path = path, .labels = labels, .label_count = t->label_count,
        .multiple = t->multiple, .none = t->none >= 0,
    };
    size_t n = 0;
    int rc;

    if (!labels || !texts) {
        rc = tr_fail(err, TR_NOMEM, "out of memory for the labels");
        goto out;
    }
    for (uint32_t l = 0; l < t->label_count; l++) {
        labels[l].name = t->labels[l].name;
        labels[l].description = t->labels[l].description;
        labels[l].examples = texts + n;
        for (uint32_t e = 0; e < t->example_count; e++)
            if (t->examples[e].set == l)
                texts[n++] = t->examples[e].text;
        labels[l].example_count = (size_t)(texts + n - labels[l].examples);
    }
    rc = tr_local_lane_open(out, &o, err);
    if (rc == TR_OK && !path && d->lane_count == 0) {
        tr_drive_say(d, 2, "model local: the small model that comes along; no "
                     "key, nothing leaves this machine");
        tr_drive_say(d, 2, "it knows English, topics and intents, and is poor "
                     "on tone, irony, insult and spam: for those, or for "
                     "better labels, name a language model (--model "
                     "openai/NAME, ollama/NAME)");
    }
out:
    tr_free(labels);
    tr_free(texts);
    return rc;
}

/* A model that its provider stops soon, or has stopped. */
static void warn_shutdown(struct tr_drive *d, const struct tr_lane *lane)
{
    int days = tr_days_until(lane->shutdown, tr_clock_wall_s());
    char line[400];

    if (days > TR_SHUTDOWN_NEAR)
        return;
    if (days < 0)
        snprintf(line, sizeof line, "%s was to be shut down on %s: requests "
                 "may be refused (trommel models lists others)", lane->model,
                 lane->shutdown);
    else
        snprintf(line, sizeof line, "%s will be shut down on %s, in %d day%s: "
                 "answers that were paid for stay, new rows will need another "
                 "model (trommel models)", lane->model, lane->shutdown, days,
                 days == 1 ? "" : "s");
    tr_drive_say(d, 1, line);
}

/* What is known about the libcurl at hand: distributions repair old versions
 * under their old number, so it is news, and no reason to stop. */
static int say_advisories(struct tr_drive *d, struct tr_err *err)
{
    struct tr_buf known;
    char line[600];
    bool grave;
    int rc;

    tr_buf_init(&known, 0);
    rc = tr_wire_advisories(tr_str_c(NULL), tr_http_version(),
                            tr_config_text(d->cfg, "proxy") != NULL, &known,
                            &grave, err);
    if (rc == TR_OK && known.n &&
        (grave || tr_config_flag(d->cfg, "verbose"))) {
        snprintf(line, sizeof line, "libcurl %s, unless your distribution has "
                 "repaired it: %.*s", tr_http_version(), (int)known.n,
                 known.p);
        tr_drive_say(d, grave ? 1 : 3, line);
    }
    tr_buf_release(&known);
    return rc;
}

/* What a batch needs to be durable; the store is open by then. */
static int on_batch_creating(void *ctx, struct tr_batch *batch,
                             const uint64_t *attempts, size_t n,
                             struct tr_err *err)
{
    return tr_store_batch_creating(((struct tr_drive *)ctx)->store, batch,
                                   attempts, n, err);
}

static int on_batch_opened(void *ctx, const struct tr_batch *batch,
                           struct tr_err *err)
{
    return tr_store_batch_opened(((struct tr_drive *)ctx)->store, batch, err);
}

static void say_batches(struct tr_drive *d, const struct tr_lane *lane)
{
    char line[400];

    if (lane->batch_pct)
        snprintf(line, sizeof line, "%s: in batches at %d %% of the price; "
                 "answers come within 24 hours, mostly much sooner. Stop when "
                 "you like: the batch goes on, and the same command picks it "
                 "up", lane->model, lane->batch_pct);
    else
        snprintf(line, sizeof line, "%s: in batches; answers come within 24 "
                 "hours. Their price is not known, so the full one counts "
                 "(batch: in models.yaml)", lane->model);
    tr_drive_say(d, 2, line);
}

static void say_chain(struct tr_drive *d)
{
    char line[TR_LANES_MAX * 170 + 100];
    int n = snprintf(line, sizeof line, "models: ");

    for (uint32_t i = 0; i < d->lane_count; i++)
        n += snprintf(line + n, sizeof line - (size_t)n, "%s%s",
                      i ? ", then " : "", d->lanes[i]->model);
    tr_drive_say(d, 2, line);
}

/* What only a server takes, said where the model is named or above it: whoever
 * said it counts on another model. A file may hold it for such a one. */
static int fit_local(struct tr_drive *d, struct tr_err *err)
{
    static const char *const names[] = {"key-env", "key-file", "effort"};
    enum tr_rank model = tr_config_rank(d->cfg, "model");
    char line[200];

    if (tr_config_text(d->cfg, "base-url") &&
        tr_config_rank(d->cfg, "base-url") >= model)
        return tr_fail(err, TR_USAGE, "--base-url is for a model with a "
                       "server, and this run's is local: name one, such as "
                       "--model openai/NAME");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!tr_config_text(d->cfg, names[i]) ||
            tr_config_rank(d->cfg, names[i]) < model)
            continue;
        snprintf(line, sizeof line, "--%s is not used: the local model takes "
                 "none; name another with --model, such as openai/NAME",
                 names[i]);
        tr_drive_say(d, 1, line);
    }
    return TR_OK;
}

/* Origin, key and effort that the user gave are the first model's alone: a key
 * must not go where a fallback is. */
static int open_lane(struct tr_drive *d, const char *model, struct tr_err *err)
{
    bool first = d->lane_count == 0;
    struct tr_batch_keep keep = {d, on_batch_creating, on_batch_opened};
    struct tr_batch_opts batch = {
        .keep = &keep,
        .tokens_max = tr_config_int(d->cfg, "batch-tokens"),
        .poll_ms = tr_config_ms(d->cfg, "batch-poll"),
    };
    struct tr_lane_opts o = {
        .model = model,
        .base_url = first ? tr_config_text(d->cfg, "base-url") : NULL,
        .key_env = first ? tr_config_text(d->cfg, "key-env") : NULL,
        .key_file = first ? tr_config_text(d->cfg, "key-file") : NULL,
        .effort = first ? tr_config_text(d->cfg, "effort") : NULL,
        .proxy = tr_config_text(d->cfg, "proxy"),
        .config_dir = tr_config_dir(d->cfg),
        .providers_yaml = d->task.providers_yaml,
        .allow_http = tr_config_flag(d->cfg, "allow-http"),
        .allow_link_local = tr_config_flag(d->cfg, "allow-link-local"),
        .keyless = d->dry_run || tr_config_flag(d->cfg, "offline"),
        /* who steps in answers at once */
        .batch = first && tr_config_flag(d->cfg, "batch") ? &batch : NULL,
    };
    struct tr_lane *lane = NULL;
    bool local = strncmp(model, "local", 5) == 0 &&
                 (!model[5] || model[5] == ':');
    int rc;

    if (o.batch && local)
        return tr_fail(err, TR_USAGE, "--batch is for providers that offer "
                       "batches; the local model answers at once");
    if (o.batch && tr_config_text(d->cfg, "store") &&
        strcmp(tr_config_text(d->cfg, "store"), "none") == 0)
        return tr_fail(err, TR_USAGE, "--batch needs a store: without one a "
                       "stopped run would leave paid answers behind");
    if (!first && d->lanes[d->lane_count - 1]->is_local)
        return tr_fail(err, TR_CONFIG, "--fallback %s: the local model answers "
                       "every text, so no other can stand behind it; name the "
                       "first one with --model", model);
    if (d->lane_count == TR_LANES_MAX)
        return tr_fail(err, TR_CONFIG, "--fallback %s: a run takes %d models "
                       "at most", model, TR_LANES_MAX);
    rc = local && first ? fit_local(d, err) : TR_OK;
    if (rc == TR_OK && local)
        rc = open_local(d, model[5] ? model + 6 : NULL, &lane, err);
    else if (rc == TR_OK)
        rc = tr_http_lane_open(&lane, &o, err);
    if (rc != TR_OK)
        return rc;
    warn_shutdown(d, lane);
    if (o.batch)
        say_batches(d, lane);
    d->lanes[d->lane_count++] = lane;
    for (uint32_t i = 0; i + 1 < d->lane_count; i++)
        if (strcmp(d->lanes[i]->model, lane->model) == 0 &&
            strcmp(d->lanes[i]->host, lane->host) == 0)
            return tr_fail(err, TR_CONFIG, "--fallback %s: this model is named "
                           "before; a chain has each once", model);
    return TR_OK;
}

/* --model, then every --fallback, in order. */
static int open_lanes(struct tr_drive *d, struct tr_err *err)
{
    const char *const *specs;
    size_t n = tr_config_list(d->cfg, "fallback", &specs);
    char spec[400];
    int rc = TR_OK;

    TRY(open_lane(d, tr_config_text(d->cfg, "model"), err));
    if (n == 1 && strcmp(specs[0], "none") == 0)
        n = 0; /* whatever a file says */
    for (size_t i = 0; i < n; i++)
        for (const char *s = specs[i]; *s; ) {
            size_t length = strcspn(s, ",");
            struct tr_str one = tr_str_trim(tr_str(s, length));

            snprintf(spec, sizeof spec, "%.*s", (int)one.n, one.p);
            s += length + (s[length] == ',');
            if (one.n >= sizeof spec || !one.n)
                TRY(tr_fail(err, TR_CONFIG, "--fallback \"%s\": models belong "
                            "here, such as openai/NAME or local", specs[i]));
            TRY(open_lane(d, spec, err));
        }
    if (d->lane_count > 1)
        say_chain(d);
    for (uint32_t i = 0; i < d->lane_count; i++) {
        if (!d->lanes[i]->is_local)
            return say_advisories(d, err);
    }
out:
    return rc;
}

/* A run that only plans reads what is known and leaves no trace: a store that
 * is not there, or that another run holds, knows nothing. */
static int open_to_read(struct tr_drive *d, struct tr_store_opts *o,
                        struct tr_err *err)
{
    int rc;

    o->read_only = true;
    rc = o->folder ? tr_store_open(&d->store, o, err) : TR_NOINPUT;
    if (rc == TR_STOPPED)
        tr_drive_say(d, 1, "another run of this task is at work: what it "
                     "knows already is not counted");
    if (rc != TR_STOPPED && rc != TR_NOINPUT)
        return rc;
    o->folder = NULL;
    o->read_only = false;
    return tr_store_open(&d->store, o, err);
}

/* A changed task has a store of its own; who did not mean to change it would
 * pay for everything again without a word. */
static void say_task_changed(struct tr_drive *d, const char *folder)
{
    const char *task = tr_config_text(d->cfg, "task");
    struct tr_store_info *list;
    int64_t answers = 0, nano = 0;
    char line[700], money[40], cost[60] = "";
    struct tr_err ignored; /* what cannot be listed is not counted */
    size_t n;

    if (!task || tr_store_count(d->store) ||
        tr_store_list(folder, &list, &n, &ignored) != TR_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].task_name, task) != 0)
            continue;
        answers += list[i].verdicts;
        nano += list[i].spent_nano;
    }
    tr_free(list);
    if (!answers)
        return;
    if (nano)
        snprintf(cost, sizeof cost, " (%s)",
                 tr_money_text(nano, money, sizeof money));
    snprintf(line, sizeof line, "%.300s says something else than before: "
             "%" PRId64 " stored answers%s to its earlier form do not count "
             "any more; they count again when the change is undone", task,
             answers, cost);
    tr_drive_say(d, 1, line);
}

static int open_store(struct tr_drive *d, struct tr_err *err)
{
    const char *folder = tr_config_text(d->cfg, "store");
    const char *name = tr_config_text(d->cfg, "task");
    struct tr_store_opts o = {
        .task = d->task.digest,
        .task_name = name ? name : tr_config_text(d->cfg, "labels"),
        .waits = tr_config_flag(d->cfg, "wait-lock"),
    };
    struct tr_buf own;
    int rc = TR_OK;

    tr_buf_init(&own, 0);
    if (!folder) {
        rc = tr_store_default_folder(&own, err);
        if (rc != TR_OK && !(rc == TR_CANTCREATE && d->dry_run))
            goto out;
        folder = rc == TR_OK ? own.p : "none"; /* nothing can be known */
    }
    if (strcmp(folder, "none") != 0)
        o.folder = folder;
    TRY(d->dry_run ? open_to_read(d, &o, err)
                   : tr_store_open(&d->store, &o, err));
    if (strcmp(folder, "none") != 0)
        say_task_changed(d, folder);
out:
    tr_buf_release(&own);
    return rc;
}

/* The folder of the store, whatever --store says; a run without one shares its
 * budget with nobody. */
static int open_till(struct tr_drive *d, const struct tr_run_opts *o,
                     struct tr_err *err)
{
    const char *path = tr_store_path(d->store), *slash = strrchr(path, '/');
    char *folder;
    int rc;

    if (!slash || d->dry_run)
        return TR_OK;
    folder = tr_dup(path, (size_t)(slash - path));
    rc = folder ? tr_till_open(&d->till, folder, &d->task.digest, o->job,
                               o->budget_per == TR_PER_DAY,
                               tr_run_has_budget(o), err)
                : tr_fail(err, TR_NOMEM, "out of memory");
    tr_free(folder);
    return rc;
}

/* Limits belong to a key, whatever the run: shared through a folder beside
 * the default stores, wherever this run's own store is. Who wants no store
 * wants no traces either, unless told otherwise. */
static void choose_peers(struct tr_drive *d)
{
    const char *word = tr_config_text(d->cfg, "share-limits");
    const char *store = tr_config_text(d->cfg, "store");
    bool limited = tr_config_int(d->cfg, "rpm") || tr_config_int(d->cfg, "tpm");
    bool asked = strcmp(word, "yes") == 0;
    struct tr_buf folder;
    struct tr_err err;

    d->peers_asked = asked;
    if (strcmp(word, "no") == 0 ||
        (!asked && store && strcmp(store, "none") == 0))
        return;
    tr_buf_init(&folder, 0);
    if (tr_store_default_folder(&folder, &err) == TR_OK) {
        tr_buf_addz(&folder, "/share");
        if (tr_buf_ok(&folder))
            tr_peers_share(&d->peers, folder.p, limited);
    } else if (asked) {
        tr_drive_say(d, 1, "--share-limits: HOME is not set, so there is no "
                     "folder to share limits in");
    }
    tr_buf_release(&folder);
}

/* Where rows that wait behind a stuck one are kept: beside the output, which
 * is the disk that has room for them. */
static void choose_spill(struct tr_drive *d)
{
    const char *output = tr_config_text(d->cfg, "output");
    const char *slash = output ? strrchr(output, '/') : NULL;

    if (output && !tr_sink_is_stream(d->sink))
        d->spill_folder = slash ? tr_dup(output, (size_t)(slash - output) + 1)
                                : tr_dup(".", 1);
    tr_spill_init(&d->spill, d->spill_folder);
}

/* Whoever writes to one of them destroys what this run, or the next one, is
 * made of. */
static int list_reads(struct tr_drive *d, struct tr_err *err)
{
    static const char *const names[] = {"task", "key-file",
                                        "alert-secret-file"};
    size_t name_count = sizeof names / sizeof *names;
    const struct tr_str *examples = &d->task.examples_file.path;
    const char *const *inputs;
    size_t n = tr_config_list(d->cfg, "input", &inputs);

    d->reads = tr_array(n + name_count + 1, sizeof *d->reads);
    if (!d->reads)
        return tr_fail(err, TR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        d->reads[d->read_count++] = inputs[i];
    for (size_t i = 0; i < name_count; i++) {
        const char *path = tr_config_text(d->cfg, names[i]);

        if (path)
            d->reads[d->read_count++] = path;
    }
    if (examples->n)
        d->reads[d->read_count++] = examples->p;
    return TR_OK;
}

static int refuse_read(const struct tr_drive *d, const char *option,
                       const char *path, struct tr_err *err)
{
    return path ? tr_sink_refuse(path, option, d->reads, d->read_count, err)
                : TR_OK;
}

/* What one of them writes would be lost in what another does. */
static int refuse_twice(const struct tr_drive *d, struct tr_err *err)
{
    static const struct {
        const char *option, *suffix; /* what is written beside it at first */
    } writes[] = {{"output", ""}, {"output", ".partial"}, {"trace", ""},
                  {"metrics-file", ""}, {"metrics-file", ".tmp"}};
    enum { N = sizeof writes / sizeof *writes };
    char paths[N][PATH_MAX];

    for (size_t i = 0; i < N; i++) {
        const char *path = tr_config_text(d->cfg, writes[i].option);
        bool rows = strcmp(writes[i].option, "output") == 0;

        if (rows && !d->source)
            path = NULL;
        else if (rows && (!path || strcmp(path, "-") == 0))
            path = *writes[i].suffix ? NULL : "-";
        snprintf(paths[i], PATH_MAX, "%s%s", path ? path : "",
                 path ? writes[i].suffix : "");
        for (size_t k = 0; k < i && path; k++)
            if (*paths[k] && tr_sink_same(paths[k], paths[i]) &&
                writes[k].option != writes[i].option)
                return tr_fail(err, TR_CANTCREATE, "--%s %s: --%s is written "
                               "there, too, and one would be lost; name "
                               "another file",
                               writes[i].option, path, writes[k].option);
    }
    return TR_OK;
}

/* The trace is looked at before it is opened, which may mend its last line. */
static int open_watch(struct tr_drive *d, struct tr_err *err)
{
    bool silent = d->dry_run || tr_config_flag(d->cfg, "offline");
    int rc;

    TRY(refuse_twice(d, err));
    TRY(refuse_read(d, "--trace", tr_config_text(d->cfg, "trace"), err));
    TRY(tr_watch_open(&d->watch, d->cfg, silent, tr_drive_on_say, d, err));
    TRY(refuse_read(d, "--metrics-file", d->watch.metrics_file, err));
    TRY(refuse_read(d, "--metrics-file", d->watch.metrics_temp, err));
out:
    return rc;
}

static int open_sink(struct tr_drive *d, struct tr_err *err)
{
    struct tr_buf head;
    int rc = TR_OK;

    tr_buf_init(&head, 0);
    TRY(tr_sink_open(&d->sink, tr_config_text(d->cfg, "output"), d->reads,
                     d->read_count, err));
    if (!*tr_store_path(d->store))
        tr_sink_not_kept(d->sink);
    tr_source_head(d->source, &head);
    if (!tr_buf_ok(&head))
        TRY(tr_fail(err, TR_NOMEM, "out of memory for the header"));
    TRY(tr_sink_write(d->sink, tr_buf_str(&head), err));
out:
    tr_buf_release(&head);
    return rc;
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
    if (o.request_timeout_ms < 1)
        TRY(tr_fail(err, TR_USAGE, "--timeout 0 would pay for answers and hear "
                    "none: give it a time, such as 120s, or leave it out"));
    if (d->source && o.as_completed)
        TRY(tr_fail(err, TR_USAGE, "--order completed is for pushed rows; a "
                    "file is always written in input order"));
    if (!d->source && o.apart)
        TRY(tr_fail(err, TR_USAGE, "--apart names a column, and rows that are "
                    "pushed have none: give each customer a run of its own"));
    TRY(open_till(d, &o, err));
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
    if (!d->is_sample)
        return TR_OK;
    if (!d->source || !tr_source_rereadable(d->source))
        return tr_fail(err, TR_USAGE, "--sample needs an input that can be "
                       "read twice: a file, not a pipe");
    return tr_sample_draw(&d->asked, n < TR_SAMPLE_MOST ? (size_t)n
                                                        : TR_SAMPLE_MOST,
                          0, o, err);
}

/* The store and what needs it. TR_STORE_HELD: by another run, for now. */
static int open_rest(struct tr_drive *d, struct tr_err *err)
{
    int rc;

    TRY(open_store(d, err));
    if (d->source && !d->dry_run && !d->is_sample) {
        TRY(open_sink(d, err));
        choose_spill(d);
    }
    choose_peers(d);
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
    bool soon = timeout_ms >= 0 && timeout_ms < STORE_POLL_MS;
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
    return TR_OK;
}

int tr_drive_open(struct tr_drive *d, const struct tr_config *cfg)
{
    struct tr_err *err = &d->err;
    struct tr_source_opts *o = &d->source_opts;
    int rc = TR_OK;

    d->spill.fd = -1;
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
    if (o->path_count) {
        TRY(tr_source_open(&d->source, o, err));
        tr_drive_say(d, 2, tr_source_summary(d->source));
        TRY(tr_source_check_output(d->source, tr_config_text(d->cfg, "output"),
                                   err));
        TRY(draw_asked(d, o, err));
    } else {
        TRY(refuse_without_input(d, err));
        d->results = tr_array(TR_RESULTS, sizeof *d->results);
        if (!d->results)
            TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    }
    d->names = tr_array(d->task.label_count, sizeof *d->names);
    if (!d->names)
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    TRY(open_lanes(d, err));
    TRY(list_reads(d, err));
    TRY(open_watch(d, err));
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
