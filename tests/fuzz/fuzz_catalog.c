/* fuzz_catalog.c - tables of providers and models: a row's values are in
 * range, or an error names its place; and a task file never sends the key of
 * a provider we know to another place. Rows that are written from drawn values
 * hold those, each in its own place.
 *
 * Input: a byte for the file (0 config.yaml, 1 models.yaml, 2 the task's
 * providers), then the file.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memfd_create */
#include "fuzz.h"

#include "wire/batch.h"

#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
    CHECK(file >= 0 && fchmod(file, 0600) == 0); /* else it is refused */
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

/* ---- rows of ours ----------------------------------------------------- */

/* A key of a row, and where its value belongs. */
struct place {
    const char *key;
    enum { INT, LONG, TEXT, WORD, FLAG, PRICE, PERCENT, LONG_PERCENT } kind;
    size_t at;
    int64_t otherwise;    /* when the row does not name it */
    const char *words[2]; /* WORD: false and true; TEXT: before what is drawn */
};

#define AT(member) offsetof(struct tr_provider, member)
static const struct place provider_places[] = {
    {"base_url", TEXT, AT(base_url), 0, {"https://"}},
    {"base_url_env", TEXT, AT(base_url_env), 0, {"B"}},
    {"key_env", TEXT, AT(key_env), 0, {"K"}},
    {"key_file", TEXT, AT(key_file), 0, {"/"}},
    {"key", WORD, AT(key_optional), 0, {"required", "optional"}},
    {"cap", WORD, AT(quirks.old_cap), 0,
     {"max_completion_tokens", "max_tokens"}},
    {"schema", WORD, AT(quirks.no_schema), 0, {"true", "false"}},
    {"cache", WORD, AT(quirks.no_cache), 0, {"yes", "no"}},
    {"cache_key", WORD, AT(quirks.cache_keys), 0, {"false", "true"}},
    {"temperature", FLAG, AT(quirks.zero_temperature), 0, {"0"}},
    {"require_parameters", WORD, AT(quirks.require_parameters), 0,
     {"no", "yes"}},
    {"free", WORD, AT(is_free), 0, {"false", "true"}},
    {"rpm", LONG, AT(rpm), 0, {NULL}},
    {"tpm", LONG, AT(tpm), 0, {NULL}},
    {"concurrency", INT, AT(concurrency), 0, {NULL}},
    {"path", TEXT, AT(path), 0, {"/"}},
    {"key_header", TEXT, AT(key_header), 0, {"x-"}},
    {"models", TEXT, AT(models), 0, {"m"}},
    {"pack", INT, AT(pack), 0, {NULL}},
    {"questions", INT, AT(questions), 0, {NULL}},
    {"options", INT, AT(options), 0, {NULL}},
    {"batch_requests", LONG, AT(batch_requests), 0, {NULL}},
    {"batch_mb", LONG, AT(batch_mb), 0, {NULL}},
};
#undef AT
#define AT(member) offsetof(struct tr_model, member)
static const struct place model_places[] = {
    {"input", PRICE, AT(facts.price_in), -1, {NULL}},
    {"output", PRICE, AT(facts.price_out), -1, {NULL}},
    {"cached", PRICE, AT(facts.price_cached), -1, {NULL}},
    {"cache_write", PRICE, AT(facts.price_cache_write), -1, {NULL}},
    {"batch", PERCENT, AT(batch_pct), 0, {NULL}},
    {"context", LONG, AT(facts.context), 0, {NULL}},
    {"max_output", LONG, AT(facts.max_output), 0, {NULL}},
    {"long_from", LONG, AT(facts.long_from), 0, {NULL}},
    {"long_input", LONG_PERCENT, AT(facts.long_in_pct), 100, {NULL}},
    {"long_output", LONG_PERCENT, AT(facts.long_out_pct), 100, {NULL}},
    {"cache_min", LONG, AT(facts.cache_min), 0, {NULL}},
    {"cache_marks", WORD, AT(cache_marks), 0, {"off", "on"}},
    {"shutdown", TEXT, AT(shutdown), 0, {"2027-01-"}},
};
#undef AT

enum { PLACES_MAX = 32 };
struct drawn {
    int64_t n[PLACES_MAX];
    char text[PLACES_MAX][24]; /* "": left out, or no text */
};

/* The value of a place, and how it is written. */
static void draw_value(struct fuzz_in *in, const struct place *p,
                       struct drawn *d, size_t i, FILE *f)
{
    int64_t n = (int64_t)fuzz_draw(in, 99999);

    d->n[i] = p->otherwise;
    d->text[i][0] = '\0';
    if (fuzz_draw(in, 4) == 0)
        return;
    fprintf(f, "    %s: ", p->key);
    switch (p->kind) {
    case INT:
    case LONG:
        d->n[i] = n;
        fprintf(f, "%d\n", (int)n);
        break;
    case TEXT: /* two digits are the end of a date as well */
        snprintf(d->text[i], sizeof d->text[i], "%s%02d", p->words[0],
                 1 + (int)n % 28);
        fprintf(f, "%s\n", d->text[i]);
        break;
    case WORD:
        d->n[i] = n & 1;
        fprintf(f, "%s\n", p->words[n & 1]);
        break;
    case FLAG:
        d->n[i] = 1;
        fprintf(f, "%s\n", p->words[0]);
        break;
    case PRICE: /* pico-dollars per token, and USD per million of them */
        d->n[i] = 1000 + n * 99991;
        fprintf(f, "%d.%06d\n", (int)(d->n[i] / 1000000),
                (int)(d->n[i] % 1000000));
        break;
    case PERCENT:
    case LONG_PERCENT:
        d->n[i] = n % 1000;
        fprintf(f, "%d.%02d\n", (int)(n % 1000 / 100), (int)(n % 100));
        break;
    }
}

static void check_values(const struct place *p, size_t n,
                         const struct drawn *d, const void *row)
{
    for (size_t i = 0; i < n; i++) {
        const char *at = (const char *)row + p[i].at, *text = NULL;
        int64_t value = 0;

        switch (p[i].kind) {
        case INT:
        case PERCENT:
            value = *(const int *)(const void *)at;
            break;
        case LONG:
        case PRICE:
        case LONG_PERCENT:
            value = *(const int64_t *)(const void *)at;
            break;
        case WORD:
        case FLAG:
            value = *(const bool *)(const void *)at;
            break;
        case TEXT:
            text = *(const char *const *)(const void *)at;
            break;
        }
        CHECK(value == d->n[i]);
        CHECK(strcmp(text ? text : "", d->text[i]) == 0);
    }
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Keys from any one on, around the list: none depends on those before it. */
static void draw_row(struct fuzz_in *in, const struct place *p, size_t n,
                     struct drawn *d, FILE *f)
{
    size_t from = fuzz_draw(in, n);

    for (size_t i = 0; i < n; i++)
        draw_value(in, &p[(from + i) % n], d, (from + i) % n, f);
}

static int64_t *drawn(struct drawn *d, const struct place *places,
                      const char *key)
{
    const struct place *p = places;

    while (strcmp(p->key, key) != 0)
        p++;
    return &d->n[p - places];
}

/* What a row does not say, as docs/providers.md has it. */
static void fill_prices(struct drawn *provider, struct drawn *model)
{
    int64_t *in = drawn(model, model_places, "input");
    int64_t *out = drawn(model, model_places, "output");
    int64_t *cached = drawn(model, model_places, "cached");
    int64_t *write = drawn(model, model_places, "cache_write");
    bool charges = *drawn(provider, provider_places, "cache_key");

    if (*drawn(provider, provider_places, "free") && *in < 0 && *out < 0)
        *in = *out = 0;
    if (*write < *in)
        *write = charges && *cached >= 0 ? *in + (*in + 3) / 4 : *in;
    if (*cached < 0)
        *cached = *in;
}

static void check_drawn(struct fuzz_in *in)
{
    struct tr_lane_opts o = {.env = no_env, .config_dir = folders[0]};
    static struct drawn provider, model;
    static char text[4096];
    const struct tr_provider *p;
    const struct tr_model *m;
    struct tr_catalog *c;
    struct tr_err err;
    FILE *f = fmemopen(text, sizeof text, "w");

    CHECK(f);
    fprintf(f, "providers:\n  drawn:\n    dialect: gemini\n");
    draw_row(in, provider_places, COUNT(provider_places), &provider, f);
    fprintf(f, "models:\n  drawn/m:\n    odd_price: true\n");
    draw_row(in, model_places, COUNT(model_places), &model, f);
    fill_prices(&provider, &model);
    CHECK(fflush(f) == 0);
    CHECK(ftruncate(file, 0) == 0);
    CHECK(pwrite(file, text, strlen(text), 0) == (ssize_t)strlen(text));
    fclose(f);
    if (tr_catalog_open(&c, &o, &err) != TR_OK) {
        fprintf(stderr, "%s%s\n", text, err.text);
        abort();
    }
    p = tr_catalog_provider(c, TR_STR("drawn"));
    CHECK(p && strcmp(p->dialect, "gemini") == 0);
    check_values(provider_places, COUNT(provider_places), &provider, p);
    m = tr_catalog_facts(c, p, "drawn/m");
    CHECK(m && strcmp(m->name, "drawn/m") == 0);
    check_values(model_places, COUNT(model_places), &model, m);
    tr_catalog_close(c);
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

    check_drawn(&in);
    if (which == 2) {
        o.providers_yaml = text;
        snprintf(path, sizeof path, "task");
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
