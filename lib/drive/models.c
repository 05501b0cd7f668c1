/* models.c - opens the models of a run, a lane each, and says what is to be
 * known about them.
 *
 * SPDX-License-Identifier: MIT */
#include "drive/drive.h"

#include "base/clock.h"
#include "base/mem.h"
#include "encode/local.h"
#include "wire/provider.h"

#include <stdio.h>
#include <string.h>

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
    enum tr_rank by_file = tr_config_rank(d->cfg, "key-file");
    enum tr_rank by_env = tr_config_rank(d->cfg, "key-env");
    bool in_file = by_file && by_file >= by_env;
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
        .key_file = first && in_file ? tr_config_text(d->cfg, "key-file")
                                     : NULL,
        .task_says_url = tr_config_rank(d->cfg, "base-url") == TR_FROM_TASK,
        .task_says_key = by_env == TR_FROM_TASK,
        .key_is_meant = (in_file ? by_file : by_env) == TR_FROM_SET,
        .effort = first ? tr_config_text(d->cfg, "effort") : NULL,
        .proxy = tr_config_text(d->cfg, "proxy"),
        .config_dir = tr_config_dir(d->cfg),
        .providers_yaml = d->task.providers_yaml,
        .task_path = tr_config_text(d->cfg, "task"),
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

    if (first && !local && strchr(model, ','))
        return tr_fail(err, TR_USAGE, "--model %s: a run asks one model; name "
                       "those that step in for it with --fallback (trommel "
                       "estimate compares several)", model);
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
int tr_drive_open_models(struct tr_drive *d, struct tr_err *err)
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
