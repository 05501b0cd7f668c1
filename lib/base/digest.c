/* digest.c - with secret.c the only file that includes sodium.h.
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

void tr_sign(struct tr_str key, struct tr_str text, char out[65])
{
    crypto_auth_hmacsha256_state state;
    unsigned char mac[crypto_auth_hmacsha256_BYTES];

    crypto_auth_hmacsha256_init(&state, (const unsigned char *)key.p, key.n);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)text.p,
                                  text.n);
    crypto_auth_hmacsha256_final(&state, mac);
    sodium_memzero(&state, sizeof state);
    sodium_bin2hex(out, 65, mac, sizeof mac);
}

void tr_random_fill(void *p, size_t n)
{
    randombytes_buf(p, n);
}
