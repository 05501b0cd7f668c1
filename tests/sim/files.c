/* files.c - small files that are replaced as a whole: the ledger of budgets,
 * and the output.
 *
 * A process writes one version after the other and dies, or a call fails, at
 * each call to the disk. Whatever a power cut leaves, the name stands for the
 * last version of which the writer said that it is there, or for the next one,
 * and for all of it.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "base/err.h"
#include "base/mem.h"
#include "rows/sink.h"
#include "store/joint.h"

#include <inttypes.h>
#include <stdio.h>

enum { VERSIONS = 3, TEXT_BYTES = 4000 };

/* Versions differ in every byte and in their length; 0: no file. */
static struct tr_str text_of(int version)
{
    static char text[TEXT_BYTES];
    size_t n = version ? 1500 + 700 * (size_t)(version % 3) : 0;

    memset(text, 'a' + version, n);
    return tr_str(text, n);
}

static bool write_ledger(int version)
{
    struct tr_joint j;
    struct tr_buf before;
    struct tr_err err;
    bool ok;

    tr_buf_init(&before, 0);
    ok = tr_joint_open(&j, SIM_FOLDER, "n", &before, &err) == TR_OK &&
         tr_joint_write(&j, text_of(version), &err) == TR_OK;
    tr_joint_close(&j);
    tr_buf_release(&before);
    return ok;
}

static bool write_output(int version)
{
    struct tr_str text = text_of(version);
    struct tr_sink *sink;
    struct tr_err err;
    bool ok;

    if (tr_sink_open(&sink, SIM_FOLDER "/n", NULL, 0, &err) != TR_OK)
        return false;
    ok = tr_sink_write(sink, tr_str(text.p, 600), &err) == TR_OK &&
         tr_sink_flush(sink, &err) == TR_OK &&
         tr_sink_write(sink, tr_str(text.p + 600, text.n - 600), &err) ==
             TR_OK &&
         tr_sink_finish(sink, &err) == TR_OK;
    tr_sink_close(sink);
    return ok;
}

static const struct writer {
    const char *name;
    bool (*write)(int version);
} writers[] = {{"ledger", write_ledger}, {"output", write_output}};

/* What befalls a process at which call; of some kind, or of any and death. */
struct blow {
    enum sim_site site;
    int64_t n;
};

static bool stands_for(struct sim_disk *d, int version)
{
    static char seen[TEXT_BYTES];
    int file = sim_disk_find(d, "n", false);
    struct tr_str want = text_of(version);

    if (file == SIM_NO_FILE || !version)
        return file == SIM_NO_FILE && !version;
    return d->files[file].seen.n == want.n &&
           sim_file_read(&d->files[file], seen, sizeof seen, 0) == want.n &&
           memcmp(seen, want.p, want.n) == 0;
}

static void complain(const struct writer *who, const struct blow *blow,
                     uint64_t seed, uint64_t cut, const char *what)
{
    printf("files, seed %" PRIu64 ": %s: ", seed, who->name);
    if (blow->n == INT64_MAX)
        printf("undisturbed");
    else
        printf("%s %" PRId64, sim_site_name(blow->site), blow->n);
    printf(", cut %" PRIu64 ": %s\n", cut, what);
}

/* One process; then what is seen of its disk (cut 0), what is left if nothing
 * is but what was synced (1), or something in between. */
static bool survives(const struct writer *who, const struct blow *blow,
                     uint64_t seed, uint64_t cuts, struct sim *w)
{
    struct sim_disk disk = {0};
    struct sim_strike strike = {blow->site, blow->n, 1};
    struct sim_script script = {.strikes = &strike, .n = 1};
    int done = 0, next;
    bool ok = true;

    *w = (struct sim){.faults_on = true, .script = &script,
                      .disk_rng = {seed}};
    if (blow->site == S_DISK_CRASH)
        w->disk_crash_in = (int)blow->n;
    sim_vfs_enter(&disk, w);
    /* What a dead process says does not count. */
    for (next = 1; next <= VERSIONS && who->write(next) && !w->dead; next++)
        done = next;
    sim_vfs_forget(&disk);
    if (next <= VERSIONS && !w->dead && !w->disk_struck) {
        complain(who, blow, seed, 0, "fails for no reason");
        ok = false;
    }
    for (uint64_t cut = 0; ok && cut < cuts + 2; cut++) {
        struct tr_rng rng = {sim_stream(seed, cut)};
        struct sim_disk left;
        struct sim_cut what = {0};

        sim_disk_copy(&left, &disk, cut > 0);
        if (cut)
            sim_disk_power_cut(&left, cut == 1 ? NULL : &rng, &what);
        ok = stands_for(&left, done) ||
             (next <= VERSIONS && stands_for(&left, next));
        if (!ok)
            complain(who, blow, seed, cut, "neither the old nor the new one");
        sim_vfs_enter(&left, NULL);
        if (ok && (!who->write(VERSIONS + 1) ||
                   !stands_for(&left, VERSIONS + 1))) {
            complain(who, blow, seed, cut, "the next process cannot write");
            ok = false;
        }
        sim_vfs_forget(&left);
        sim_disk_release(&left);
    }
    sim_disk_release(&disk);
    tr_free(w->struck);
    return ok;
}

int sim_files(uint64_t seed, uint64_t cuts)
{
    static struct sim calm, w;
    int64_t blows = 0, failed = 0;

    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) {
        struct blow none = {D_OPEN, INT64_MAX};

        failed += !survives(&writers[i], &none, seed, cuts, &calm);
        for (int64_t n = 1; n <= calm.disk_calls; n++, blows++) {
            struct blow dies = {S_DISK_CRASH, n};

            failed += !survives(&writers[i], &dies, seed, cuts, &w);
        }
        for (int site = D_OPEN; site < T_CLOCK; site++)
            for (int64_t n = 1; n <= calm.calls[site]; n++, blows++) {
                struct blow fails = {(enum sim_site)site, n};

                failed += !survives(&writers[i], &fails, seed, cuts, &w);
            }
    }
    printf("sim: a ledger and an output, %" PRId64 " deaths and errors, %"
           PRIu64 " power cuts each, %" PRId64 " failed\n", blows, cuts,
           failed);
    return failed || blows < 100;
}
