/* files.c - opens the files that a run writes, none of which may be one that it
 * reads.
 *
 * SPDX-License-Identifier: MIT */
#include "drive/drive.h"

#include "base/mem.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

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

/* A name that an option makes the run write; "": none. The output of a run that
 * reads no files is none. */
static void written(const struct tr_drive *d, const char *option,
                    const char *suffix, char out[PATH_MAX])
{
    const char *path = tr_config_text(d->cfg, option);

    if (strcmp(option, "output") == 0) {
        if (!d->source)
            path = NULL;
        else if (!path || strcmp(path, "-") == 0)
            path = *suffix ? NULL : "-";
    }
    snprintf(out, PATH_MAX, "%s%s", path ? path : "", path ? suffix : "");
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
        const char *option = writes[i].option;

        written(d, option, writes[i].suffix, paths[i]);
        for (size_t k = 0; k < i; k++) {
            if (!*paths[i] || !*paths[k] ||
                strcmp(writes[k].option, option) == 0 ||
                !tr_sink_same(paths[k], paths[i]))
                continue;
            return tr_fail(err, TR_CANTCREATE, "--%s %s: --%s is written "
                           "there, too, and one would be lost; name another "
                           "file", option, tr_config_text(d->cfg, option),
                           writes[k].option);
        }
    }
    return TR_OK;
}

/* The trace is looked at before it is opened, which may mend its last line. */
int tr_drive_open_watch(struct tr_drive *d, struct tr_err *err)
{
    bool silent = d->dry_run || tr_config_flag(d->cfg, "offline");
    int rc;

    TRY(list_reads(d, err));
    TRY(refuse_twice(d, err));
    TRY(refuse_read(d, "--trace", tr_config_text(d->cfg, "trace"), err));
    TRY(tr_watch_open(&d->watch, d->cfg, silent, tr_drive_on_say, d, err));
    TRY(refuse_read(d, "--metrics-file", d->watch.metrics_file, err));
    TRY(refuse_read(d, "--metrics-file", d->watch.metrics_temp, err));
out:
    return rc;
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

int tr_drive_open_output(struct tr_drive *d, struct tr_err *err)
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
    choose_spill(d);
out:
    tr_buf_release(&head);
    return rc;
}
