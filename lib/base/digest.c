/* digest.c - the only file that includes sodium.h.
 * SPDX-License-Identifier: MIT */
#include "base/digest.h"

#include <sodium.h>

struct tr_key tr_digest(const struct tr_key *salt, struct tr_str text)
{
    struct tr_key key;

    crypto_generichash(key.b, sizeof key.b, (const unsigned char *)text.p,
                       text.n, salt ? salt->b : NULL,
                       salt ? sizeof salt->b : 0);
    return key;
}

void tr_key_hex(const struct tr_key *key, size_t n, char *out)
{
    sodium_bin2hex(out, 2 * n + 1, key->b, n);
}

uint64_t tr_random_u64(void)
{
    uint64_t v;

    randombytes_buf(&v, sizeof v);
    return v;
}
