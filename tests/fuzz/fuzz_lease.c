/* fuzz_lease.c - the file in which processes share a key's limits: whatever
 * stands in it, only whole records are read, our part of the limits stays a
 * part, and the pace stays a number.
 *
 * Input: a byte (1: the checks of all records are made right), then the file.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "../../lib/share/share.c" /* records are its own affair */
#include "plan/fair.h"

#include <math.h>

static struct tr_share *ours, *theirs;
static char folder[] = "/tmp/fuzz_lease_XXXXXX";

static void clean_up(void)
{
    char path[sizeof folder + sizeof ours->name + 2];

    snprintf(path, sizeof path, "%s/%s", folder, ours->name);
    tr_share_close(theirs);
    tr_share_close(ours);
    unlink(path);
    rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct tr_share_opts o = {.folder = folder, .account = "a"};
    struct tr_err err;

    (void)argc;
    (void)argv;
    CHECK(mkdtemp(folder));
    CHECK(tr_share_open(&ours, &o, &err) == TR_OK);
    CHECK(tr_share_open(&theirs, &o, &err) == TR_OK);
    ours->id = 1; /* as no process draws it: the same in every run */
    theirs->id = 2;
    atexit(clean_up);
    return 0;
}

static bool in_range(const double *two, double most)
{
    return two[0] >= 0 && two[0] <= most && two[1] >= 0 && two[1] <= most;
}

static bool can_be(const struct tr_lease *l)
{
    const int64_t far = INT64_MAX / 4;

    return in_range(l->want, 1) && in_range(l->part, 1) &&
           in_range(l->rate, 1e15) && in_range(l->sent, 1e15) &&
           fmax(l->rate[0], l->rate[1]) < 1e15 &&
           fmax(l->sent[0], l->sent[1]) < 1e15 &&
           l->beat_at >= 0 && l->beat_at < far && l->rate_at >= 0 &&
           l->rate_at < far && l->refused_at >= 0 && l->refused_at < far &&
           l->refused_sent_at >= 0 && l->refused_sent_at < far &&
           l->hold_until >= 0 && l->hold_until < far;
}

/* Returns how many whole records of others it holds, if right. */
static uint32_t put_file(struct fuzz_in *in, bool right)
{
    static struct record records[TR_SHARE_SLOTS + 1];
    size_t n = in->n < sizeof records ? in->n : sizeof records;
    uint32_t count = 0;

    memset(records, 0, sizeof records);
    memcpy(records, in->p, n);
    for (size_t i = 0; right && i < n / sizeof *records; i++) {
        records[i].check = check_of(&records[i]);
        count += i < TR_SHARE_SLOTS && records[i].lease.id > 1 &&
                 can_be(&records[i].lease);
    }
    CHECK(ftruncate(ours->fd, 0) == 0);
    CHECK(pwrite(ours->fd, records, n, 0) == (ssize_t)n);
    return count;
}

static void check_part(const double *part)
{
    for (int k = 0; k < TR_LIMIT_KINDS; k++)
        CHECK(part[k] >= 0 && part[k] <= 1);
}

static void check_pace(const struct tr_pace *p, int64_t now)
{
    for (int k = 0; k < TR_LIMIT_KINDS; k++) {
        double rate = tr_pace_key_rate(p, k, now);

        CHECK(!isnan(rate) && rate >= 0);
        rate = tr_pace_learned_rate(p, k, now);
        CHECK(isfinite(rate) && rate >= 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const int64_t now = 1000 * TR_S;
    struct fuzz_in in = fuzz_begin(data, n);
    bool right = fuzz_byte(&in) & 1, no_place;
    static struct tr_lease all[TR_SHARE_SLOTS], again[TR_SHARE_SLOTS];
    static struct tr_fair fair;
    struct tr_pace pace;
    struct tr_err err;
    uint32_t count, others, in_file;
    double held[TR_LIMIT_KINDS] = {0};

    in_file = put_file(&in, right);
    CHECK(tr_share_get(ours, all, &count, &err) == TR_OK);
    CHECK(count <= TR_SHARE_SLOTS);
    CHECK(!right || count == in_file);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(all[i].id != 0 && all[i].id != 1);
        for (int k = 0; k < TR_LIMIT_KINDS; k++)
            if (tr_lease_is_live(&all[i], now) && all[i].part[k] > 0)
                held[k] += fmin(all[i].part[k], 1);
    }

    tr_pace_init(&pace, &(struct tr_pace_opts){.rpm = 600}, now - TR_S);
    tr_fair_init(&fair, now - TR_S);
    tr_fair_look(&fair, &pace, now);
    tr_fair_take(&fair, all, count, now);
    check_part(fair.mine.part);
    check_part(fair.mine.want);
    for (int k = 0; k < TR_LIMIT_KINDS; k++)
        CHECK(held[k] + fair.mine.part[k] <= 1 + 1e-9 ||
              fair.mine.part[k] == 0);
    CHECK(tr_share_put(ours, &fair.mine, TR_FAIR_LIVE_NS, &no_place, &err) ==
          TR_OK);
    tr_fair_tell(&fair, &pace, all, count, now);
    check_pace(&pace, now);

    /* Another process reads ours as it was written. */
    CHECK(tr_share_get(theirs, again, &others, &err) == TR_OK);
    flock(theirs->fd, LOCK_UN);
    fair.mine.id = 1;
    for (uint32_t i = 0; !no_place && i <= others; i++) {
        CHECK(i < others);
        if (memcmp(&again[i], &fair.mine, sizeof fair.mine) == 0)
            break; /* the file may have held others of our name */
    }

    /* Once more, when all of them are old: nobody is held up. */
    tr_fair_look(&fair, &pace, now + 10 * TR_S);
    tr_fair_take(&fair, all, count, now + 10 * TR_S);
    check_part(fair.mine.part);
    tr_fair_tell(&fair, &pace, all, count, now + 10 * TR_S);
    check_pace(&pace, now + 10 * TR_S);
    return 0;
}
