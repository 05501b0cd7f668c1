/* keymap.c - from a content key to a pointer.
 *
 * Linear probing with backward-shift deletion: no tombstones, so the table
 * does not decay in a run that adds and removes for hours.
 *
 * SPDX-License-Identifier: MIT */
#include "base/keymap.h"

#include "base/mem.h"

struct tr_keymap_slot {
    struct tr_key key;
    void *value; /* NULL: empty */
};

static size_t home(const struct tr_keymap *m, const struct tr_key *key)
{
    uint64_t h;

    memcpy(&h, key->b, sizeof h);
    return (size_t)h & (m->cap - 1);
}

void tr_keymap_init(struct tr_keymap *m)
{
    *m = (struct tr_keymap){0};
}

void tr_keymap_release(struct tr_keymap *m)
{
    tr_free(m->slots);
    tr_keymap_init(m);
}

void *tr_keymap_find(const struct tr_keymap *m, const struct tr_key *key)
{
    if (!m->n)
        return NULL;
    for (size_t i = home(m, key); m->slots[i].value; i = (i + 1) & (m->cap - 1))
        if (tr_key_cmp(&m->slots[i].key, key) == 0)
            return m->slots[i].value;
    return NULL;
}

static void put(struct tr_keymap *m, const struct tr_key *key, void *value)
{
    size_t i = home(m, key);

    while (m->slots[i].value)
        i = (i + 1) & (m->cap - 1);
    m->slots[i] = (struct tr_keymap_slot){*key, value};
}

bool tr_keymap_add(struct tr_keymap *m, const struct tr_key *key, void *value)
{
    if (2 * (m->n + 1) > m->cap) {
        struct tr_keymap bigger = {NULL, m->cap ? 2 * m->cap : 64, m->n};

        bigger.slots = tr_array(bigger.cap, sizeof *bigger.slots);
        if (!bigger.slots)
            return false;
        for (size_t i = 0; i < m->cap; i++)
            if (m->slots[i].value)
                put(&bigger, &m->slots[i].key, m->slots[i].value);
        tr_free(m->slots);
        *m = bigger;
    }
    put(m, key, value);
    m->n++;
    return true;
}

void tr_keymap_remove(struct tr_keymap *m, const struct tr_key *key)
{
    size_t mask = m->cap - 1;
    size_t i, j;

    if (!m->n)
        return;
    for (i = home(m, key); ; i = (i + 1) & mask) {
        if (!m->slots[i].value)
            return;
        if (tr_key_cmp(&m->slots[i].key, key) == 0)
            break;
    }
    m->n--;
    for (j = (i + 1) & mask; m->slots[j].value; j = (j + 1) & mask) {
        size_t k = home(m, &m->slots[j].key);

        /* The entry at j may move to the hole at i only if its home is not
         * cyclically within (i, j]. */
        if (i <= j ? (k <= i || k > j) : (k <= i && k > j)) {
            m->slots[i] = m->slots[j];
            i = j;
        }
    }
    m->slots[i].value = NULL;
}
