/* fuzz_catalog.c - tables of providers and models: a row's values are in
 * range, or an error names its place; and a task file never sends the key of
 * a provider we know to another place.
 *
 * Input: a byte for the file (0 config.yaml, 1 models.yaml, 2 the task's
 * providers), then the file.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memfd_create */
#include "fuzz.h"

#include "wire/batch.h"

#include <sys/mman.h>
#include <unistd.h>

/* Instead of our tables, which take long to read again and again. */
extern const unsigned char tr_data_providers[], tr_data_models[];
extern const size_t tr_data_providers_n, tr_data_models_n;

#define PROVIDERS                                                              \
    "providers:\n"                                                             \
    "  known:\n"                                                               \
    "    base_url: https://api.known.test/v1\n"                                \
    "    base_url_env: KNOWN_BASE_URL\n"                                       \
    "    key_env: KNOWN_API_KEY\n"                                             \
    "    batch: openai\n"                                                      \
    "  other:\n"                                                               \
    "    dialect: anthropic\n"                                                 \
    "    base_url: https://other.test\n"                                       \
    "    key_env: OTHER_API_KEY\n"
#define MODELS                                                                 \
    "as_of: 2026-11-01\n"                                                      \
    "models:\n"                                                                \
    "  known/big: {input: 1.25, output: 10, efforts: [none, low], "            \
    "shutdown: 2027-01-01}\n"                                                  \
    "  other/small: {input: 0.05, output: 0.4, context: 1000}\n"

const unsigned char tr_data_providers[] = PROVIDERS;
const size_t tr_data_providers_n = sizeof PROVIDERS - 1;
const unsigned char tr_data_models[] = MODELS;
const size_t tr_data_models_n = sizeof MODELS - 1;

#define KNOWN_KEY "known-secret"
#define OTHER_KEY "other-secret"

static char folders[2][32] = {"/tmp/fuzz_catalog_XXXXXX",
                              "/tmp/fuzz_catalog_XXXXXX"};
static const char *const names[] = {"config.yaml", "models.yaml"};
static int file = -1;

static void clean_up(void)
{
    for (int i = 0; i < 2; i++) {
        char path[100];

        snprintf(path, sizeof path, "%s/%s", folders[i], names[i]);
        unlink(path);
        rmdir(folders[i]);
    }
}

/* A file in memory, under the name that is looked for. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char target[64];

    (void)argc;
    (void)argv;
    file = memfd_create("fuzz", MFD_CLOEXEC);
    CHECK(file >= 0);
    snprintf(target, sizeof target, "/proc/self/fd/%d", file);
    for (int i = 0; i < 2; i++) {
        char path[100];

        CHECK(mkdtemp(folders[i]));
        snprintf(path, sizeof path, "%s/%s", folders[i], names[i]);
        CHECK(symlink(target, path) == 0);
    }
    atexit(clean_up);
    return 0;
}

static const char *no_env(const char *name)
{
    return strcmp(name, "KNOWN_API_KEY") == 0   ? KNOWN_KEY
           : strcmp(name, "OTHER_API_KEY") == 0 ? OTHER_KEY
           : strcmp(name, "MY_KEY") == 0        ? "my"
                                                : NULL;
}

static bool is_word(const char *z)
{
    if (!z || !*z)
        return false;
    for (; *z; z++)
        if ((unsigned char)*z < 0x21 || *z == 0x7f)
            return false;
    return true;
}

static void check_provider(const struct tr_provider *p)
{
    CHECK(p->name && *p->name && !strchr(p->name, '/'));
    CHECK(is_word(p->dialect));
    CHECK(!p->base_url || is_word(p->base_url));
    CHECK(!p->key_env || is_word(p->key_env));
    CHECK(!p->path || p->path[0] == '/');
    CHECK(p->effort_default >= -1 && p->effort_default < TR_EFFORT_COUNT);
    CHECK(p->quirks.effort_style >= 0 &&
          p->quirks.effort_style < TR_STYLE_COUNT);
    CHECK(p->rpm >= 0 && p->tpm >= 0 && p->concurrency >= 0);
    CHECK(p->pack >= 0 && p->questions >= 0 && p->options >= 0);
    CHECK(p->batch_requests >= 0 && p->batch_mb >= 0);
    CHECK(p->batch_mb <= INT64_MAX / 1000000); /* lane.c makes bytes of it */
    CHECK(!p->batch || tr_batch_form_find(p->batch));
    for (int i = 0; p->headers[i]; i++) {
        CHECK(i < TR_ROW_HEADERS_MAX);
        CHECK(strstr(p->headers[i], ": ") && fuzz_is_plain(p->headers[i]));
        CHECK(strncasecmp(p->headers[i], "authorization:", 14) != 0);
        CHECK(strncasecmp(p->headers[i], "host:", 5) != 0);
    }
}

static void check_model(const struct tr_model *m)
{
    const struct tr_model_facts *f = &m->facts;
    const int64_t most = INT64_C(20000000000000);

    CHECK(m->name && strchr(m->name, '/'));
    CHECK(f->price_in >= -1 && f->price_in <= most);
    CHECK(f->price_out >= -1 && f->price_out <= most);
    CHECK(f->price_cached >= -1 && f->price_cached <= most);
    CHECK(f->price_cache_write >= -1 && f->price_cache_write <= most);
    CHECK(f->context >= 0 && f->max_output >= 0 && f->long_from >= 0);
    CHECK(f->long_in_pct >= 0 && f->long_out_pct >= 0 && f->cache_min >= 0);
    CHECK(m->efforts < 1u << TR_EFFORT_COUNT);
    CHECK(m->effort_style >= -1 && m->effort_style < TR_STYLE_COUNT);
    CHECK(m->batch_pct >= 0 && m->batch_pct <= 10000);
    CHECK(m->as_of);
    if (m->shutdown)
        CHECK(tr_days_until(m->shutdown, 0) != INT32_MAX);
}

static bool begins(const char *z, const char *with)
{
    return strncmp(z, with, strlen(with)) == 0;
}

/* Where a model of the provider would be asked, and with which key. */
static void check_target(const struct tr_catalog *c, const char *provider,
                         struct tr_lane_opts o, bool is_task)
{
    struct tr_target t;
    struct tr_err err = {0};
    char model[700];
    int rc;

    snprintf(model, sizeof model, "%.600s/big", provider);
    o.model = model;
    rc = tr_target_find(&t, c, &o, &err);
    if (rc != TR_OK) {
        CHECK(err.code == rc && fuzz_is_plain(err.text));
        return;
    }
    CHECK(begins(t.url, "https://") || begins(t.url, "http://127.") ||
          begins(t.url, "http://localhost") || begins(t.url, "http://[::1]"));
    CHECK(is_word(t.url) && !strchr(t.url, '@') && fuzz_is_plain(t.url));
    CHECK(t.key_header && is_word(t.key_header));
    if (is_task && strcmp(t.key, KNOWN_KEY) == 0)
        CHECK(begins(t.url, "https://api.known.test/"));
    if (is_task && strcmp(t.key, OTHER_KEY) == 0)
        CHECK(begins(t.url, "https://other.test/"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_in in = fuzz_begin(data, n);
    unsigned which = fuzz_byte(&in) % 3;
    struct tr_str text = fuzz_rest(&in);
    struct tr_lane_opts o = {.env = no_env};
    const struct tr_provider *providers;
    const struct tr_model *models;
    struct tr_catalog *c;
    struct tr_err err = {0};
    char path[100];
    int rc;

    if (which == 2) {
        o.providers_yaml = text;
        snprintf(path, sizeof path, "providers of the task");
    } else {
        o.config_dir = folders[which];
        snprintf(path, sizeof path, "%s/%s", folders[which], names[which]);
        CHECK(ftruncate(file, 0) == 0);
        CHECK(pwrite(file, text.p, text.n, 0) == (ssize_t)text.n);
    }
    rc = tr_catalog_open(&c, &o, &err);
    if (rc != TR_OK) {
        fuzz_check_error(&err, rc, path, text);
        return 0;
    }
    n = tr_catalog_models(c, &models);
    for (size_t i = 0; i < n; i++)
        check_model(&models[i]);
    n = tr_catalog_providers(c, &providers);
    for (size_t i = 0; i < n; i++) {
        check_provider(&providers[i]);
        check_target(c, providers[i].name, o, which == 2);
    }
    tr_catalog_close(c);
    return 0;
}
