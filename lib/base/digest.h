/* digest.h - content keys, signatures, random bytes: with secret.h the only
 * door to libsodium.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_DIGEST_H
#define TR_BASE_DIGEST_H

#include "base/str.h"

#include <stdint.h>

struct tr_key {
    unsigned char b[16];
};

/* 128-bit BLAKE2b of text, keyed with salt: equal texts under different salts
 * (models, tasks) have unrelated keys. */
struct tr_key tr_digest(const struct tr_key *salt, struct tr_str text);

static inline int tr_key_cmp(const struct tr_key *a, const struct tr_key *b)
{
    return memcmp(a->b, b->b, sizeof a->b);
}

/* Lower-case hex of the first n bytes of key; out has room for 2n + 1. */
void tr_key_hex(const struct tr_key *key, size_t n, char *out);

/* HMAC-SHA256 of text under key, as 64 lower-case hex digits and a NUL. */
void tr_sign(struct tr_str key, struct tr_str text, char out[65]);

/* Bytes from the system's generator: seeds and ids in production. */
void tr_random_fill(void *p, size_t n);

#endif
