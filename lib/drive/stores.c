/* stores.c - opens what a run keeps for later ones and shares with others:
 * answers, a budget, the limits of a key.
 *
 * SPDX-License-Identifier: MIT */
#include "drive/drive.h"

#include "base/mem.h"
#include "plan/tally.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* The store is looked after and rescued to by its name: that must not depend
 * on where the program around goes meanwhile. */
static const char *from_root(const char *folder, struct tr_buf *own)
{
    char here[PATH_MAX];

    if (folder[0] == '/' || strcmp(folder, "none") == 0 ||
        !getcwd(here, sizeof here))
        return folder;
    tr_buf_addf(own, "%s/%s", here, folder);
    return tr_buf_ok(own) ? own->p : folder;
}

int tr_drive_open_store(struct tr_drive *d, struct tr_err *err)
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
    } else {
        folder = from_root(folder, &own);
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
int tr_drive_open_till(struct tr_drive *d, const struct tr_run_opts *o,
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
                               tr_run_has_budget(o) &&
                                   o->budget_per != TR_PER_RUN, err)
                : tr_fail(err, TR_NOMEM, "out of memory");
    tr_free(folder);
    return rc;
}

/* Limits belong to a key, whatever the run: shared through a folder beside
 * the default stores, wherever this run's own store is. Who wants no store
 * wants no traces either, unless told otherwise. */
void tr_drive_choose_peers(struct tr_drive *d)
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
