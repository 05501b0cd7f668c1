/* cache.c - whether the provider's prompt cache pays.
 *
 * What is kept is written once for each key and read by all other requests. A
 * request that leaves before the first reply finds nothing and writes as well:
 * so the first goes alone, when keys do not spread them anyway.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/cache.h"

#define TOKENS_MIN 1024      /* kept from here on, unless the model says else */
#define REQUESTS_UNKNOWN 100 /* a stream of rows: long enough to be worth it */
#define RPM_A_KEY 15         /* requests a minute that find one key's machine */
#define KEYS_MAX 1000

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void tr_cache_choose(struct tr_cache_plan *plan, const struct tr_cache_case *c,
                     const struct tr_model_facts *f)
{
    int64_t least = f->cache_min > 0 ? f->cache_min : TOKENS_MIN;
    int64_t n = c->requests >= 0 ? c->requests : REQUESTS_UNKNOWN;
    int64_t write = f->price_cache_write >= 0 ? f->price_cache_write
                                              : f->price_in;
    int64_t less, extra, keys = 1, first;

    *plan = (struct tr_cache_plan){.keys = 1};
    if (f->price_in < 0 || f->price_cached < 0 ||
        f->price_cached >= f->price_in || c->stable_tokens < least)
        return;
    less = f->price_in - f->price_cached;
    extra = write > f->price_in ? write - f->price_in : 0;
    if (c->has_keys && c->rpm > RPM_A_KEY)
        keys = min64((int64_t)(c->rpm / RPM_A_KEY) + 1, KEYS_MAX);
    keys = min64(keys, n / 8 > 0 ? n / 8 : 1); /* each is to be read often */
    /* Those that leave before anything is kept read nothing. */
    plan->warms = keys == 1 && c->at_once > 1 && n > 1;
    first = plan->warms ? 1 : keys > c->at_once ? keys : c->at_once;
    first = min64(first, n);
    if ((n - first) * less <= first * extra)
        plan->warms = false;
    else
        plan->pays = true;
    plan->keys = plan->pays ? (uint32_t)keys : 1;
}
