/* advisories.c - what is known of the libcurl that is loaded: data/curl.yaml.
 * SPDX-License-Identifier: MIT */
#include "wire/provider.h"

#include "base/yaml.h"

#include <stdio.h>

extern const unsigned char tr_data_curl[];
extern const size_t tr_data_curl_n;

/* "7.88.1" or "8.5.0-DEV" as a number that sorts; 0: no version. */
static unsigned version_of(const char *text)
{
    unsigned major, minor, patch = 0;

    if (!text || sscanf(text, "%3u.%3u.%3u", &major, &minor, &patch) < 2)
        return 0;
    return major << 20 | minor << 10 | patch;
}

static const char *word(const struct tr_yaml *row, const char *name)
{
    const struct tr_yaml *v = tr_yaml_get(row, name);

    return v ? v->value.p : "";
}

static bool is_grave(const char *severity)
{
    return strcmp(severity, "high") == 0 || strcmp(severity, "critical") == 0;
}

int tr_wire_advisories(struct tr_str data, const char *version, bool proxy,
                       struct tr_buf *out, bool *grave, struct tr_err *err)
{
    struct tr_arena arena;
    struct tr_yaml *root = NULL;
    const struct tr_yaml *rows;
    unsigned ours = version_of(version);
    int rc;

    *grave = false;
    if (!data.n)
        data = tr_str((const char *)tr_data_curl, tr_data_curl_n);
    tr_arena_init(&arena);
    rc = tr_yaml_parse(&root, &arena, data, "curl.yaml", err);
    rows = rc == TR_OK ? tr_yaml_get(root, "advisories") : NULL;
    for (const struct tr_yaml *r = rows ? rows->first : NULL; r; r = r->next) {
        const char *with = word(r, "with");

        if (ours < version_of(word(r, "first")) ||
            ours > version_of(word(r, "last")) ||
            (strcmp(with, "proxy") == 0 && !proxy))
            continue;
        tr_buf_addf(out, "%s%.*s (%s)", out->n ? ", " : "", (int)r->key.n,
                    r->key.p, word(r, "what"));
        *grave |= is_grave(word(r, "severity"));
    }
    if (rc == TR_OK && out->n)
        tr_buf_addf(out, "; as of %s", word(root, "as_of"));
    tr_arena_release(&arena);
    return rc != TR_OK || tr_buf_ok(out)
               ? rc
               : tr_fail(err, TR_NOMEM, "out of memory");
}
