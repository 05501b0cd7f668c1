/* disk.c - files, their names, and what a power cut leaves of them.
 *
 * Each file has two contents: what processes see, and what the medium holds
 * for certain. Between them stand the changes since the last sync. When the
 * power goes, any of their sectors may be on the medium and any may not, in
 * whatever order they were written; a creation or deletion is there or not.
 *
 * SPDX-License-Identifier: MIT */
#include "disk.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* ---- bytes ------------------------------- */

static void reserve(struct sim_bytes *b, size_t n)
{
    if (n <= b->cap)
        return;
    b->cap = n < 4096 ? 8192 : n + n / 2;
    b->p = tr_resize(b->p, b->cap);
    TR_ASSERT(b->p);
}

static void resize(struct sim_bytes *b, size_t n)
{
    reserve(b, n);
    if (n > b->n)
        memset(b->p + b->n, 0, n - b->n);
    b->n = n;
}

static void put(struct sim_bytes *b, const void *data, size_t n, size_t at)
{
    if (!n)
        return;
    if (at > b->n)
        resize(b, at);
    reserve(b, at + n);
    memcpy(b->p + at, data, n);
    if (at + n > b->n)
        b->n = at + n;
}

static void copy(struct sim_bytes *out, const struct sim_bytes *b)
{
    *out = (struct sim_bytes){0};
    if (!b->n)
        return;
    out->p = (unsigned char *)tr_dup((const char *)b->p, b->n);
    TR_ASSERT(out->p);
    out->n = out->cap = b->n;
}

static void drop(struct sim_bytes *b)
{
    tr_free(b->p);
    *b = (struct sim_bytes){0};
}

/* ---- files ------------------------------- */

static struct sim_late *add_late(struct sim_file *f)
{
    struct sim_late *l;

    TR_ASSERT(tr_grow((void **)&f->late, &f->late_cap, f->late_n + 1,
                      sizeof *f->late));
    l = &f->late[f->late_n++];
    *l = (struct sim_late){0};
    return l;
}

static void drop_late(struct sim_file *f)
{
    for (size_t i = 0; i < f->late_n; i++)
        drop(&f->late[i].data);
    f->late_n = 0;
}

void sim_file_write(struct sim_file *f, const void *data, size_t n, size_t at)
{
    struct sim_late *l = add_late(f);

    l->at = at;
    put(&l->data, data, n, 0);
    put(&f->seen, data, n, at);
}

size_t sim_file_read(const struct sim_file *f, void *out, size_t n, size_t at)
{
    size_t there = at >= f->seen.n ? 0
                   : f->seen.n - at < n ? f->seen.n - at : n;

    if (there)
        memcpy(out, f->seen.p + at, there);
    return there;
}

void sim_file_truncate(struct sim_file *f, size_t n)
{
    struct sim_late *l = add_late(f);

    l->at = n;
    l->cut = true;
    resize(&f->seen, n);
}

/* One change reaches the medium; of its sectors those that rng leaves, each
 * with a chance of so many in a hundred. Returns how many did not. */
static size_t settle(struct sim_bytes *kept, const struct sim_late *l,
                     struct tr_rng *rng, unsigned chance, size_t *sectors)
{
    size_t lost = 0;

    *sectors = 1;
    if (l->cut) {
        if (rng && tr_rng_below(rng, 100) >= chance)
            return 1;
        resize(kept, l->at);
        return 0;
    }
    *sectors = 0;
    for (size_t at = l->at, end = l->at + l->data.n; at < end; ) {
        size_t next = (at / SIM_SECTOR + 1) * SIM_SECTOR;

        if (next > end)
            next = end;
        if (!rng || tr_rng_below(rng, 100) < chance)
            put(kept, l->data.p + (at - l->at), next - at, at);
        else
            lost++;
        ++*sectors;
        at = next;
    }
    return lost;
}

void sim_file_sync(struct sim_disk *d, struct sim_file *f, struct tr_rng *rng)
{
    size_t sectors;

    for (size_t i = 0; i < f->late_n; i++)
        settle(&f->kept, &f->late[i], rng, 50, &sectors);
    drop_late(f);
    f->lied |= rng != NULL;
    d->syncs++;
}

bool sim_disk_lied(const struct sim_disk *d)
{
    for (int i = 0; i < d->file_n; i++)
        if (d->files[i].in_use && d->files[i].lied)
            return true;
    return false;
}

void sim_disk_evict(struct sim_disk *d)
{
    size_t sectors;

    for (int i = 0; i < d->file_n; i++) {
        struct sim_file *f = &d->files[i];

        if (!f->in_use || !f->lied)
            continue;
        f->seen.n = 0;
        put(&f->seen, f->kept.p, f->kept.n, 0);
        for (size_t k = 0; k < f->late_n; k++)
            settle(&f->seen, &f->late[k], NULL, 0, &sectors);
        f->lied = false;
    }
}

static void cut_file(struct sim_file *f, struct tr_rng *rng,
                     struct sim_cut *cut)
{
    /* Often all or nothing of a file is there, and else a part. */
    unsigned chance = !rng ? 0
        : (unsigned[]){0, 50, 100, (unsigned)tr_rng_below(rng, 101)}
              [tr_rng_below(rng, 4)];

    for (size_t i = 0; i < f->late_n && rng; i++) {
        size_t sectors, lost = settle(&f->kept, &f->late[i], rng, chance,
                                      &sectors);

        cut->lost += lost == sectors;
        cut->torn += lost && lost < sectors;
    }
    if (!rng)
        cut->lost += (int64_t)f->late_n;
    drop_late(f);
    f->seen.n = 0;
    put(&f->seen, f->kept.p, f->kept.n, 0);
}

void sim_file_release(struct sim_file *f)
{
    drop_late(f);
    tr_free(f->late);
    drop(&f->seen);
    drop(&f->kept);
    *f = (struct sim_file){0};
}

/* ---- names ------------------------------- */

static bool is_named(const struct sim_disk *d, int file)
{
    for (int i = 0; i < d->name_n; i++) {
        const struct sim_name *n = &d->names[i];

        if (n->file == file || n->kept == file)
            return true;
        for (size_t k = 0; k < n->late_n; k++)
            if (n->late[k].file == file)
                return true;
    }
    return false;
}

/* Files without a name and without users are gone. */
static void sweep(struct sim_disk *d)
{
    for (int i = 0; i < d->file_n; i++)
        if (d->files[i].in_use && !d->files[i].users && !is_named(d, i))
            sim_file_release(&d->files[i]);
}

static int new_file(struct sim_disk *d)
{
    int i = 0;

    sweep(d);
    while (i < d->file_n && d->files[i].in_use)
        i++;
    if (i == d->file_n) {
        d->files = tr_resize(d->files, (size_t)++d->file_n * sizeof *d->files);
        TR_ASSERT(d->files);
    }
    d->files[i] = (struct sim_file){.in_use = true};
    return i;
}

static void becomes(struct sim_name *n, int file, int rename)
{
    TR_ASSERT(tr_grow((void **)&n->late, &n->late_cap, n->late_n + 1,
                      sizeof *n->late));
    n->late[n->late_n++] = (struct sim_entry){file, rename};
    n->file = file;
}

/* NULL: there never was such a name; create: now there is, of no file. */
static struct sim_name *name_at(struct sim_disk *d, const char *text,
                                bool create)
{
    struct sim_name *n = d->names;

    while (n < d->names + d->name_n && strcmp(n->text, text) != 0)
        n++;
    if (n < d->names + d->name_n)
        return n;
    if (!create)
        return NULL;
    TR_ASSERT(d->name_n < SIM_NAMES && strlen(text) < SIM_NAME_BYTES);
    *n = (struct sim_name){.file = SIM_NO_FILE, .kept = SIM_NO_FILE};
    snprintf(n->text, sizeof n->text, "%s", text);
    d->name_n++;
    return n;
}

int sim_disk_find(struct sim_disk *d, const char *name, bool create)
{
    struct sim_name *n = name_at(d, name, create);

    if (!n)
        return SIM_NO_FILE;
    if (n->file == SIM_NO_FILE && create)
        becomes(n, new_file(d), 0);
    return n->file;
}

void sim_disk_unlink(struct sim_disk *d, const char *name)
{
    struct sim_name *n = name_at(d, name, false);

    if (n && n->file != SIM_NO_FILE)
        becomes(n, SIM_NO_FILE, 0);
}

void sim_disk_rename(struct sim_disk *d, const char *from, const char *to)
{
    struct sim_name *old = name_at(d, from, false);
    struct sim_name *new = name_at(d, to, true);

    d->renames++;
    becomes(new, old->file, d->renames);
    becomes(old, SIM_NO_FILE, d->renames);
}

void sim_disk_sync_names(struct sim_disk *d)
{
    for (int i = 0; i < d->name_n; i++) {
        d->names[i].kept = d->names[i].file;
        d->names[i].late_n = 0;
    }
    d->syncs++;
}

/* Whether the first keep[i] changes of each name hold that rename. */
static bool holds(const struct sim_disk *d, const size_t *keep, int rename)
{
    for (int i = 0, halves = 0; i < d->name_n; i++)
        for (size_t k = 0; k < keep[i]; k++)
            if (d->names[i].late[k].rename == rename && ++halves == 2)
                return true;
    return false;
}

/* How many changes of each name are on the medium: no half of a rename. */
static void draw_names(const struct sim_disk *d, struct tr_rng *rng,
                       size_t *keep)
{
    bool moved;

    for (int i = 0; i < d->name_n; i++)
        keep[i] = rng ? tr_rng_below(rng, d->names[i].late_n + 1) : 0;
    do {
        moved = false;
        for (int i = 0; i < d->name_n; i++)
            for (size_t k = 0; k < keep[i]; k++) {
                int rename = d->names[i].late[k].rename;

                if (rename && !holds(d, keep, rename)) {
                    keep[i] = k;
                    moved = true;
                }
            }
    } while (moved);
}

void sim_disk_power_cut(struct sim_disk *d, struct tr_rng *rng,
                        struct sim_cut *cut)
{
    size_t keep[SIM_NAMES];

    draw_names(d, rng, keep);
    for (int i = 0; i < d->name_n; i++) {
        struct sim_name *n = &d->names[i];
        int was = n->file;

        if (keep[i])
            n->kept = n->late[keep[i] - 1].file;
        cut->names_lost += was != SIM_NO_FILE && n->kept == SIM_NO_FILE;
        cut->names_back += was == SIM_NO_FILE && n->kept != SIM_NO_FILE;
        n->file = n->kept;
        n->late_n = 0;
    }
    for (int i = 0; i < d->file_n; i++)
        cut_file(&d->files[i], rng, cut);
    sweep(d);
    d->syncs++;
}

void sim_disk_copy(struct sim_disk *out, const struct sim_disk *d, bool cut)
{
    *out = *d;
    out->files = tr_array((size_t)d->file_n + 1, sizeof *out->files);
    TR_ASSERT(out->files);
    for (int i = 0; i < d->file_n; i++) {
        const struct sim_file *from = &d->files[i];
        struct sim_file *f = &out->files[i];

        f->in_use = from->in_use;
        copy(cut ? &f->kept : &f->seen, cut ? &from->kept : &from->seen);
        for (size_t k = 0; k < from->late_n && cut; k++) {
            struct sim_late *l = add_late(f);

            *l = from->late[k];
            copy(&l->data, &from->late[k].data);
        }
    }
    for (int i = 0; i < d->name_n; i++) {
        const struct sim_name *from = &d->names[i];
        struct sim_name *n = &out->names[i];

        n->late = tr_array(from->late_n + 1, sizeof *n->late);
        TR_ASSERT(n->late);
        n->late_cap = from->late_n + 1;
        if (from->late_n)
            memcpy(n->late, from->late, from->late_n * sizeof *n->late);
    }
}

void sim_disk_release(struct sim_disk *d)
{
    for (int i = 0; i < d->file_n; i++)
        sim_file_release(&d->files[i]);
    for (int i = 0; i < d->name_n; i++)
        tr_free(d->names[i].late);
    tr_free(d->files);
    *d = (struct sim_disk){0};
}
