/* keymap.h - from a content key to a pointer; open addressing, grows.
 *
 * Keys are digests, so their first bytes are the hash.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_KEYMAP_H
#define TR_BASE_KEYMAP_H

#include "base/digest.h"

#include <stdbool.h>

struct tr_keymap {
    struct tr_keymap_slot *slots;
    size_t cap, n; /* cap is a power of two */
};

void tr_keymap_init(struct tr_keymap *m);
void tr_keymap_release(struct tr_keymap *m);
void *tr_keymap_find(const struct tr_keymap *m, const struct tr_key *key);
/* Adds a key that is not there; false when memory is out. value != NULL. */
bool tr_keymap_add(struct tr_keymap *m, const struct tr_key *key, void *value);
void tr_keymap_remove(struct tr_keymap *m, const struct tr_key *key);

#endif
