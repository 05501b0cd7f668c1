/* layer.c - rows of providers.yaml and models.yaml: checked, and laid over the
 * rows of those names.
 *
 * Read it from the end: tr_layer_take() goes through a file, take_provider()
 * and take_model() take a row, and each value has a take_...() of its kind.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/layer.h"

#include "base/mem.h"
#include "base/near.h"
#include "wire/batch.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <strings.h>

#define PICO_PER_USD_MILLION INT64_C(1000000) /* 1 USD per million tokens */
/* A price outside is one per token or per thousand, and a budget would be kept
 * in that unit. The cheapest in print is several times the least. */
#define PRICE_LEAST (PICO_PER_USD_MILLION / 1000)
#define PRICE_MOST (10000 * PICO_PER_USD_MILLION)

/* ---- near misses ------------------------------------------------------ */

void tr_wire_near_try(struct tr_wire_near *near, const char *candidate)
{
    size_t n = tr_edits(tr_str_c(near->name), tr_str_c(candidate));

    if (n <= 1 + strlen(near->name) / 3 && (!near->best || n < near->best_n)) {
        near->best = candidate;
        near->best_n = n;
    }
}

/* ---- values ----------------------------------------------------------- */

static int bad(const struct tr_layer *s, const struct tr_yaml *at,
               const char *what)
{
    return tr_fail(s->err, TR_CONFIG, "%s:%d:%d: %.*s: %s", s->file, at->line,
                   at->column, (int)at->key.n, at->key.p, what);
}

/* Something, and no blanks or control bytes in it. */
static bool is_name(struct tr_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x21 || s.p[i] == 0x7f)
            return false;
    return s.n > 0;
}

static int take_text(const struct tr_layer *s, const struct tr_yaml *v,
                     const char **to)
{
    if (v->kind != TR_YAML_SCALAR || !v->value.n || v->value.n > 512)
        return bad(s, v, "a short text is expected");
    if (!is_name(v->value))
        return bad(s, v, "no blanks and no line ends are allowed here");
    *to = tr_arena_dup(&s->c->arena, v->value).p;
    return *to ? TR_OK : tr_fail(s->err, TR_NOMEM, "out of memory");
}

static int take_bool(const struct tr_layer *s, const struct tr_yaml *v,
                     bool *to)
{
    return tr_yaml_bool(v, to) ? TR_OK : bad(s, v, "true or false is expected");
}

/* Decimal text times scale, exact: 0.125 with scale 1000000 is 125000. */
static int take_decimal(const struct tr_layer *s, const struct tr_yaml *v,
                        int64_t scale, int64_t *to)
{
    const char *what = "a number such as 0.125 is expected, with six decimals "
                       "at most";
    int64_t n = 0;
    bool after = false;
    size_t digits = 0;

    if (v->kind != TR_YAML_SCALAR)
        return bad(s, v, what);
    for (size_t i = 0; i < v->value.n; i++) {
        char c = v->value.p[i];

        if (c == '.' && !after) {
            after = true;
            continue;
        }
        if (c < '0' || c > '9' || n > INT64_C(1000000000000))
            return bad(s, v, what);
        if (after) {
            scale /= 10;
            if (!scale && c != '0')
                return bad(s, v, what);
            n += scale * (c - '0');
        } else {
            n = 10 * n + scale * (c - '0');
        }
        digits++;
    }
    *to = n;
    return digits ? TR_OK : bad(s, v, what);
}

static int take_count(const struct tr_layer *s, const struct tr_yaml *v,
                      int64_t *to)
{
    return take_decimal(s, v, 1, to);
}

/* One of several words: its index. */
static int take_word(const struct tr_layer *s, const struct tr_yaml *v,
                     const char *const *words, int *to)
{
    char what[200] = "one of these is expected:";
    size_t n = strlen(what);

    for (int i = 0; words[i]; i++) {
        if (v->kind == TR_YAML_SCALAR && tr_str_eq_c(v->value, words[i])) {
            *to = i;
            return TR_OK;
        }
        n += (size_t)snprintf(what + n, sizeof what - n, " %s", words[i]);
        if (n >= sizeof what)
            n = sizeof what - 1;
    }
    return bad(s, v, what);
}

static int take_efforts(const struct tr_layer *s, const struct tr_yaml *v,
                        unsigned *mask)
{
    *mask = 0;
    if (v->kind != TR_YAML_LIST)
        return bad(s, v, "a list such as [none, low] is expected");
    for (const struct tr_yaml *e = v->first; e; e = e->next) {
        int effort = tr_effort_find(e->value);

        if (e->kind != TR_YAML_SCALAR || effort < 0)
            return bad(s, v, "efforts are none, minimal, low, medium, high, "
                             "xhigh, max");
        *mask |= 1u << effort;
    }
    return TR_OK;
}

static int unknown_key(const struct tr_layer *s, const struct tr_yaml *at,
                       const char *const *known)
{
    char key[40];
    struct tr_wire_near near = {key, NULL, 0};

    snprintf(key, sizeof key, "%.*s", at->key.n > 39 ? 39 : (int)at->key.n,
             at->key.p);
    for (; *known; known++)
        tr_wire_near_try(&near, *known);
    return tr_fail(s->err, TR_CONFIG, "%s:%d:%d: unknown key %s%s%s%s",
                   s->file, at->key_line, at->key_column, key,
                   near.best ? "; did you mean " : "",
                   near.best ? near.best : "", near.best ? "?" : "");
}

static int key_index(const struct tr_yaml *at, const char *const *known)
{
    for (int i = 0; known[i]; i++) {
        if (tr_str_eq_c(at->key, known[i]))
            return i;
    }
    return -1;
}

/* ---- provider rows ---------------------------------------------------- */

struct tr_provider *tr_catalog_row(const struct tr_catalog *c,
                                   struct tr_str name)
{
    for (size_t i = 0; i < c->provider_count; i++) {
        if (tr_str_eq_c(name, c->providers[i].name))
            return &c->providers[i];
    }
    return NULL;
}

static int take_like(const struct tr_layer *s, const struct tr_yaml *v,
                     struct tr_provider *p)
{
    const struct tr_provider *other = tr_catalog_row(s->c, v->value);
    const char *name = p->name;

    if (!other)
        return bad(s, v, "there is no provider of that name above");
    *p = *other;
    p->name = name;
    return TR_OK;
}

enum provider_key {
    P_LIKE, P_DIALECT, P_BASE_URL, P_BASE_URL_ENV, P_KEY_ENV, P_KEY_FILE,
    P_KEY, P_CAP, P_EFFORT, P_EFFORT_DEFAULT, P_SCHEMA, P_TEMPERATURE,
    P_REQUIRE_PARAMETERS, P_FREE, P_RPM, P_TPM, P_CONCURRENCY, P_PATH,
    P_KEY_HEADER, P_HEADERS, P_MODELS, P_PACK, P_QUESTIONS, P_OPTIONS, P_CACHE,
    P_CACHE_KEY, P_BATCH, P_BATCH_REQUESTS, P_BATCH_MB
};
static const char *const provider_keys[] = {
    "like", "dialect", "base_url", "base_url_env", "key_env", "key_file",
    "key", "cap", "effort", "effort_default", "schema", "temperature",
    "require_parameters", "free", "rpm", "tpm", "concurrency", "path",
    "key_header", "headers", "models", "pack", "questions", "options",
    "cache", "cache_key", "batch", "batch_requests", "batch_mb", NULL};

static const char *const styles[] = {
#define X(name) #name,
    TR_EFFORT_STYLES(X)
#undef X
    NULL};

/* A path behind an address: "/v1/x/{model}?version=1". */
static int take_path(const struct tr_layer *s, const struct tr_yaml *v,
                     const char **to)
{
    int rc = take_text(s, v, to);

    if (rc != TR_OK)
        return rc;
    for (const char *p = *to; *p; p++) {
        if (**to != '/' || strchr("@#\\\"<>", *p) || (unsigned char)*p > 0x7e)
            return bad(s, v, "a path such as /v1/messages is expected");
    }
    return TR_OK;
}

static bool is_header_name(struct tr_str name)
{
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];

        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
            !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    return name.n > 0;
}

static bool has_word(struct tr_str name, const char *word)
{
    size_t n = strlen(word);

    for (size_t i = 0; i + n <= name.n; i++) {
        if (strncasecmp(name.p + i, word, n) == 0)
            return true;
    }
    return false;
}

/* May a row set it, and may this stand in a file? */
static int check_header(const struct tr_layer *s, const struct tr_yaml *v)
{
    static const char *const ours[] = {
        "host", "authorization", "cookie", "content-length", "content-type",
        "transfer-encoding", "connection", "expect", "x-api-key", "api-key",
        "x-goog-api-key", "proxy-authorization", NULL};
    /* How whoever asks for a secret calls it; too many names are better than
     * too few, since $NAME is always possible. */
    static const char *const secrets[] = {"key", "token", "secret", "password",
                                          "auth", "credential", "cookie", NULL};

    for (int i = 0; ours[i]; i++) {
        if (v->key.n == strlen(ours[i]) && has_word(v->key, ours[i]))
            return bad(s, v, "this header is not for a row to set; keys "
                             "come from key_env or key_file");
    }
    for (int i = 0; secrets[i] && !(v->value.n && v->value.p[0] == '$'); i++) {
        if (has_word(v->key, secrets[i]))
            return bad(s, v, "by its name this header carries a secret, and "
                             "secrets stand in no file; write $NAME instead "
                             "of the value, and set that variable in the "
                             "environment");
    }
    return TR_OK;
}

/* {name: value} into "name: value" lines. The key has an option of its own;
 * other secrets stand in the environment, and here their $NAME. */
static int take_headers(const struct tr_layer *s, const struct tr_yaml *map,
                        struct tr_provider *p)
{
    int n = 0, rc;

    if (s->writer == TR_BY_TASK)
        return bad(s, map, "a task file may not name headers; use config.yaml");
    if (map->kind != TR_YAML_MAP)
        return bad(s, map, "a map such as {x-title: mine} is expected");
    for (const struct tr_yaml *v = map->first; v; v = v->next) {
        struct tr_str value = v->value;
        char line[300];
        int line_n;

        rc = check_header(s, v);
        if (rc != TR_OK)
            return rc;
        line_n = snprintf(line, sizeof line, "%.*s: %.*s", (int)v->key.n,
                          v->key.p, (int)value.n, value.p ? value.p : "");
        if (!is_header_name(v->key) || v->kind != TR_YAML_SCALAR ||
            !value.n || line_n >= (int)sizeof line || n >= TR_ROW_HEADERS_MAX)
            return bad(s, v, "four short headers at most are expected, one "
                             "line each");
        for (int i = 0; i < line_n; i++) {
            if (line[i] < 0x20 || line[i] > 0x7e)
                return bad(s, v, "a header is visible ASCII in one line");
        }
        if (value.p[0] == '$' && !tr_wire_is_variable(line + v->key.n + 3))
            return bad(s, v, "after $ the NAME of an environment variable is "
                             "expected, not the secret itself");
        p->headers[n] = tr_arena_dup(&s->c->arena, tr_str_c(line)).p;
        if (!p->headers[n++])
            return tr_fail(s->err, TR_NOMEM, "out of memory");
    }
    p->headers[n] = NULL;
    return TR_OK;
}

static int take_small(const struct tr_layer *s, const struct tr_yaml *v,
                      int *to)
{
    int64_t n = 0;
    int rc = take_count(s, v, &n);

    *to = n > 100000 ? 100000 : (int)n;
    return rc;
}

static int take_provider_value(const struct tr_layer *s,
                               const struct tr_yaml *v,
                               enum provider_key key, struct tr_provider *p)
{
    static const char *const needs[] = {"required", "optional", NULL};
    static const char *const caps[] = {"max_completion_tokens", "max_tokens",
                                       NULL};
    static const char *const zero[] = {"0", NULL};
    int word = 0, small = 0, rc;
    bool flag = false;

    switch (key) {
    case P_LIKE:
        return TR_OK; /* done before the others */
    case P_DIALECT:
        return take_text(s, v, &p->dialect);
    case P_BASE_URL:
        return take_text(s, v, &p->base_url);
    case P_BASE_URL_ENV:
        return take_text(s, v, &p->base_url_env);
    case P_KEY_ENV:
        return take_text(s, v, &p->key_env);
    case P_KEY_FILE:
        if (s->writer == TR_BY_TASK)
            return bad(s, v, "a task file may not name a key file; use "
                             "--key-file or the user's config.yaml");
        return take_text(s, v, &p->key_file);
    case P_KEY:
        rc = take_word(s, v, needs, &word);
        p->key_optional = word == 1;
        return rc;
    case P_CAP:
        rc = take_word(s, v, caps, &word);
        p->quirks.old_cap = word == 1;
        return rc;
    case P_EFFORT:
        return take_word(s, v, styles, &p->quirks.effort_style);
    case P_EFFORT_DEFAULT:
        p->effort_default = tr_effort_find(v->value);
        return p->effort_default < 0 && !tr_str_eq_c(v->value, "omit")
                   ? bad(s, v, "an effort or omit is expected")
                   : TR_OK;
    case P_SCHEMA:
        rc = take_bool(s, v, &flag);
        p->quirks.no_schema = !flag;
        return rc;
    case P_TEMPERATURE:
        p->quirks.zero_temperature = true;
        return take_word(s, v, zero, &word);
    case P_REQUIRE_PARAMETERS:
        return take_bool(s, v, &p->quirks.require_parameters);
    case P_FREE:
        return take_bool(s, v, &p->is_free);
    case P_RPM:
        return take_count(s, v, &p->rpm);
    case P_TPM:
        return take_count(s, v, &p->tpm);
    case P_CONCURRENCY:
        return take_small(s, v, &p->concurrency);
    case P_PATH:
        return take_path(s, v, &p->path);
    case P_KEY_HEADER:
        rc = take_text(s, v, &p->key_header);
        return rc == TR_OK && !is_header_name(v->value)
                   ? bad(s, v, "the name of a header is expected") : rc;
    case P_HEADERS:
        return take_headers(s, v, p);
    case P_MODELS:
        return take_text(s, v, &p->models);
    case P_PACK:
        return take_small(s, v, &p->pack);
    case P_QUESTIONS:
        return take_small(s, v, &p->questions);
    case P_OPTIONS:
        return take_small(s, v, &p->options);
    case P_CACHE:
        rc = take_bool(s, v, &flag);
        p->quirks.no_cache = !flag;
        return rc;
    case P_CACHE_KEY:
        return take_bool(s, v, &p->quirks.cache_keys);
    case P_BATCH:
        rc = take_text(s, v, &p->batch);
        return rc == TR_OK && !tr_batch_form_find(p->batch)
                   ? bad(s, v, "openai or anthropic is expected") : rc;
    case P_BATCH_REQUESTS:
        return take_count(s, v, &p->batch_requests);
    case P_BATCH_MB:
        rc = take_small(s, v, &small); /* in bytes it is still a number */
        p->batch_mb = small;
        return rc;
    }
    return TR_OK;
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_at(const struct tr_provider *b, const char *key_env,
                  const char *base_url, const char *base_url_env)
{
    return is_same(b->key_env, key_env) && is_same(b->base_url, base_url) &&
           (!base_url_env || is_same(b->base_url_env, base_url_env));
}

const struct tr_provider *tr_catalog_robbed(const struct tr_catalog *c,
                                            const char *key_env,
                                            const char *base_url,
                                            const char *base_url_env)
{
    const struct tr_provider *owner = NULL;

    for (size_t i = 0; i < c->built_in; i++) { /* whatever else was laid over */
        if (is_at(&c->ours[i], key_env, base_url, base_url_env))
            return NULL;
        if (!owner && is_same(c->ours[i].key_env, key_env))
            owner = &c->ours[i];
    }
    for (size_t i = 0; i < c->provider_count; i++) /* where the user sent it */
        if (is_at(&c->providers[i], key_env, base_url, base_url_env))
            return NULL;
    return owner;
}

/* A task file may come from somebody else. It may describe servers and name
 * the variable of their key, but not send the key of a provider we know to
 * another place. */
static int check_task_row(const struct tr_layer *s, const struct tr_yaml *row,
                          const struct tr_provider *p)
{
    const struct tr_provider *owner =
        p->key_env ? tr_catalog_robbed(s->c, p->key_env, p->base_url,
                                       p->base_url_env) : NULL;

    if (owner)
        return tr_fail(s->err, TR_CONFIG,
                       "%s:%d:%d: %s: %s is the key of %s, and a task file "
                       "may not send it elsewhere; if you mean it, give "
                       "--base-url URL --key-env %s on the command line in "
                       "place of this row",
                       s->file, row->line, row->column, p->name, p->key_env,
                       owner->name, p->key_env);
    return TR_OK;
}

bool tr_catalog_is_paid(const struct tr_catalog *c, const char *key_env)
{
    for (size_t i = 0; i < c->built_in && key_env; i++) {
        if (is_same(c->ours[i].key_env, key_env) && !c->ours[i].is_free)
            return true;
    }
    return false;
}

/* It stands on this machine, and no key of a provider that is paid opens it. */
static bool is_own(const struct tr_catalog *c, const struct tr_provider *p)
{
    return p->base_url && !p->base_url_env &&
           tr_wire_is_loopback(tr_wire_host_of(p->base_url)) &&
           !tr_catalog_is_paid(c, p->key_env);
}

/* A task file may come from somebody else: it must not switch off the budget
 * of whoever pays. was_free: at the same address, before its row. */
static int check_free(const struct tr_layer *s, const struct tr_yaml *row,
                      bool was_free, struct tr_provider *p)
{
    const struct tr_yaml *said = tr_yaml_get(row, "free");

    if (!p->is_free || was_free || is_own(s->c, p))
        return TR_OK;
    if (said)
        return bad(s, said, "a task file may call free only what has a "
                            "base_url on this machine and no key of a built-in "
                            "provider; your config.yaml may say it of others");
    p->is_free = false;
    return TR_OK;
}

/* Nor make it count what another model's tokens cost, or none at all: those
 * that decide put none out, and a path may name a model of its own. Whoever
 * says the address of a provider we know again has given it none. */
static int check_prices(const struct tr_layer *s, const struct tr_yaml *row,
                        const struct tr_provider *p)
{
    static const char *const keys[] = {"dialect", "models", "path"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct tr_yaml *said = tr_yaml_get(row, keys[i]);

        if (said && (!p->by_task || tr_catalog_is_paid(s->c, p->key_env)))
            return bad(s, said, "a task file may say dialect, models and path "
                                "only with a base_url and without the key of a "
                                "built-in provider: prices hang on them; your "
                                "config.yaml may say them of any provider");
    }
    return TR_OK;
}

static int take_provider(const struct tr_layer *s, const struct tr_yaml *row)
{
    struct tr_catalog *c = s->c;
    struct tr_provider *old = tr_catalog_row(c, row->key);
    const struct tr_yaml *like = tr_yaml_get(row, "like");
    struct tr_provider p = {.dialect = "openai", .effort_default = -1,
                            .quirks = {.effort = -1}};
    bool was_free;
    int rc;

    if (row->kind != TR_YAML_MAP)
        return bad(s, row, "a provider is a map such as "
                           "{base_url: \"http://127.0.0.1:8000/v1\"}");
    if (old)
        p = *old;
    else if (!(p.name = tr_arena_dup(&c->arena, row->key).p))
        return tr_fail(s->err, TR_NOMEM, "out of memory");
    if (!is_name(row->key) || strchr(p.name, '/'))
        return bad(s, row, "a provider's name is a word without a slash");
    if (like && (rc = take_like(s, like, &p)) != TR_OK)
        return rc;
    was_free = p.is_free && !tr_yaml_get(row, "base_url") &&
               !tr_yaml_get(row, "base_url_env");
    /* A key belongs to an origin: who moves the origin leaves the key, and
     * headers, which may be one. */
    if (s->writer != TR_BY_US && tr_yaml_get(row, "base_url")) {
        p.key_env = p.key_file = p.base_url_env = p.headers[0] = NULL;
        p.rpm = p.tpm = 0;
    }
    if (s->writer == TR_BY_TASK && tr_yaml_get(row, "base_url_env"))
        p.headers[0] = NULL;
    p.by_task = p.by_task ||
                (s->writer == TR_BY_TASK && (tr_yaml_get(row, "base_url") ||
                                             tr_yaml_get(row, "base_url_env")));
    for (const struct tr_yaml *v = row->first; v; v = v->next) {
        int key = key_index(v, provider_keys);

        rc = key < 0 ? unknown_key(s, v, provider_keys)
                     : take_provider_value(s, v, (enum provider_key)key, &p);
        if (rc != TR_OK)
            return rc;
    }
    if (s->writer == TR_BY_TASK &&
        ((rc = check_task_row(s, row, &p)) != TR_OK ||
         (rc = check_prices(s, row, &p)) != TR_OK ||
         (rc = check_free(s, row, was_free, &p)) != TR_OK))
        return rc;
    if (old) {
        *old = p;
        return TR_OK;
    }
    if (!tr_grow((void **)&c->providers, &c->provider_cap,
                 c->provider_count + 1, sizeof *c->providers))
        return tr_fail(s->err, TR_NOMEM, "out of memory");
    c->providers[c->provider_count++] = p;
    return TR_OK;
}

/* ---- model rows ------------------------------------------------------- */

struct tr_model *tr_catalog_model(const struct tr_catalog *c,
                                  struct tr_str name)
{
    for (size_t i = 0; i < c->model_count; i++) {
        if (tr_str_eq_c(name, c->models[i].name))
            return &c->models[i];
    }
    return NULL;
}

enum model_key {
    M_INPUT, M_OUTPUT, M_CACHED, M_CACHE_WRITE, M_BATCH, M_CONTEXT,
    M_MAX_OUTPUT, M_EFFORTS, M_LONG_FROM, M_LONG_INPUT, M_LONG_OUTPUT,
    M_SHUTDOWN, M_EFFORT, M_CACHE_MIN, M_CACHE_MARKS, M_THEN, M_ODD_PRICE
};
static const char *const model_keys[] = {
    "input", "output", "cached", "cache_write", "batch", "context",
    "max_output", "efforts", "long_from", "long_input", "long_output",
    "shutdown", "effort", "cache_min", "cache_marks", "then", "odd_price",
    NULL};
static const char *const then_keys[] = {"input", "output", "cached",
                                        "cache_write", "from", NULL};

/* Days since 1970-01-01 of a date of the Gregorian calendar (H. Hinnant). */
static int64_t day_number(int64_t y, int64_t m, int64_t d)
{
    int64_t era, of_era;

    y -= m <= 2;
    era = y / 400;
    of_era = y - era * 400;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 +
           (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1 - 719468;
}

int tr_days_until(const char *date, int64_t now_s)
{
    static const char form[] = "dddd-dd-dd";
    int64_t v[3] = {0};
    int at = 0;

    for (size_t i = 0; i < sizeof form; i++) {
        if (form[i] == 'd' ? date[i] < '0' || date[i] > '9'
                           : date[i] != form[i])
            return INT_MAX;
        if (form[i] == 'd')
            v[at] = v[at] * 10 + (date[i] - '0');
        else
            at++;
    }
    if (v[0] < 1970 || v[1] < 1 || v[1] > 12 || v[2] < 1 || v[2] > 31)
        return INT_MAX;
    return (int)(day_number(v[0], v[1], v[2]) - now_s / 86400);
}

static int take_date(const struct tr_layer *s, const struct tr_yaml *v,
                     const char **date)
{
    int rc = take_text(s, v, date);

    if (rc == TR_OK && tr_days_until(*date, 0) == INT_MAX)
        return bad(s, v, "a date is wanted, such as 2026-12-11");
    return rc;
}

/* USD per million tokens. 0 is free; what nobody asks for is a mistake in the
 * unit unless the row says odd_price. */
static int take_price(const struct tr_layer *s, const struct tr_yaml *row,
                      const struct tr_yaml *v, int64_t *to)
{
    const struct tr_yaml *odd = tr_yaml_get(row, "odd_price");
    bool meant = false;

    if (odd && take_bool(s, odd, &meant) != TR_OK)
        return TR_CONFIG;
    if (take_decimal(s, v, PICO_PER_USD_MILLION, to) == TR_OK &&
        (meant || *to == 0 || (*to >= PRICE_LEAST && *to <= PRICE_MOST)))
        return TR_OK;
    return tr_fail(s->err, TR_CONFIG,
                   "%s:%d:%d: %.*s: %.*s: %.*s is no price between 0.001 and "
                   "10000 USD per million tokens (a number such as 0.125, six "
                   "decimals at most). In another unit a budget could not be "
                   "kept: multiply a price per token by 1000000, one per "
                   "thousand by 1000. 0 is free; if it is really so, add "
                   "odd_price: true to the row",
                   s->file, v->line, v->column, (int)row->key.n, row->key.p,
                   (int)v->key.n, v->key.p,
                   v->value.n > 40 ? 40 : (int)v->value.n,
                   v->value.p ? v->value.p : "");
}

/* Prices of a later day: {from: 2027-01-01, input: 1.50, output: 7.50}. From
 * that day on they hold. On the day before a run may still go on when they
 * begin, and days begin elsewhere first: the dearer of both holds. */
static int take_then(const struct tr_layer *s, const struct tr_yaml *row,
                     const struct tr_yaml *map, struct tr_model *m)
{
    int64_t *const prices[] = {&m->facts.price_in, &m->facts.price_out,
                               &m->facts.price_cached,
                               &m->facts.price_cache_write};
    const struct tr_yaml *from = tr_yaml_get(map, "from");
    int days, rc;

    if (map->kind != TR_YAML_MAP || !from)
        return bad(s, map, "prices of a later day are a map such as {from: "
                           "2027-01-01, input: 1.50, output: 7.50}");
    rc = take_date(s, from, &m->then_from);
    if (rc != TR_OK)
        return rc;
    days = tr_days_until(m->then_from, s->today_s);
    for (const struct tr_yaml *v = map->first; v; v = v->next) {
        int key = key_index(v, then_keys);
        int64_t price;

        if (v == from)
            continue;
        if (key < 0)
            return unknown_key(s, v, then_keys);
        rc = take_price(s, row, v, &price);
        if (rc != TR_OK)
            return rc;
        if (days <= 0 || (days == 1 && price > *prices[key]))
            *prices[key] = price;
    }
    return TR_OK;
}

static int take_model_value(const struct tr_layer *s,
                            const struct tr_yaml *row, const struct tr_yaml *v,
                            enum model_key key, struct tr_model *m)
{
    struct tr_model_facts *f = &m->facts;
    int64_t n = 0;
    bool flag;
    int rc;

    switch (key) {
    case M_INPUT:
        return take_price(s, row, v, &f->price_in);
    case M_OUTPUT:
        return take_price(s, row, v, &f->price_out);
    case M_CACHED:
        return take_price(s, row, v, &f->price_cached);
    case M_CACHE_WRITE:
        return take_price(s, row, v, &f->price_cache_write);
    case M_BATCH:
        rc = take_decimal(s, v, 100, &n);
        m->batch_pct = (int)(n > 10000 ? 10000 : n);
        return rc;
    case M_CONTEXT:
        return take_count(s, v, &f->context);
    case M_MAX_OUTPUT:
        return take_count(s, v, &f->max_output);
    case M_EFFORTS:
        return take_efforts(s, v, &m->efforts);
    case M_LONG_FROM:
        return take_count(s, v, &f->long_from);
    case M_LONG_INPUT:
        return take_decimal(s, v, 100, &f->long_in_pct);
    case M_LONG_OUTPUT:
        return take_decimal(s, v, 100, &f->long_out_pct);
    case M_CACHE_MIN:
        return take_count(s, v, &f->cache_min);
    case M_CACHE_MARKS:
        return take_bool(s, v, &m->cache_marks);
    case M_SHUTDOWN:
        return take_date(s, v, &m->shutdown);
    case M_EFFORT:
        return take_word(s, v, styles, &m->effort_style);
    case M_THEN:
        return TR_OK; /* after the prices of today */
    case M_ODD_PRICE:
        return take_bool(s, v, &flag); /* heeded with each price */
    }
    return TR_OK;
}

static int take_model(const struct tr_layer *s, const struct tr_yaml *row)
{
    struct tr_catalog *c = s->c;
    struct tr_model *old = tr_catalog_model(c, row->key);
    struct tr_model m = {.facts = {-1, -1, -1, -1, 0, 0, 0, 100, 100, 0},
                         .effort_style = -1};
    const struct tr_yaml *then;
    const char *slash;
    int rc;

    if (tr_str_eq_c(row->key, "as_of"))
        return TR_OK;
    if (row->kind != TR_YAML_MAP)
        return bad(s, row, "a model is a map such as {input: 0.10, "
                           "output: 0.50}");
    if (old)
        m = *old;
    else if (!(m.name = tr_arena_dup(&c->arena, row->key).p))
        return tr_fail(s->err, TR_NOMEM, "out of memory");
    slash = strchr(m.name, '/');
    if (!is_name(row->key) || !slash || slash == m.name || !slash[1])
        return bad(s, row, "a model is named provider/model");
    m.as_of = s->as_of;
    for (const struct tr_yaml *v = row->first; v; v = v->next) {
        int key = key_index(v, model_keys);

        rc = key < 0 ? unknown_key(s, v, model_keys)
                     : take_model_value(s, row, v, (enum model_key)key, &m);
        if (rc != TR_OK)
            return rc;
    }
    then = tr_yaml_get(row, "then");
    if (then && (rc = take_then(s, row, then, &m)) != TR_OK)
        return rc;
    m.has_efforts = m.has_efforts || tr_yaml_get(row, "efforts");
    if (old) {
        *old = m;
        return TR_OK;
    }
    if (!tr_grow((void **)&c->models, &c->model_cap, c->model_count + 1,
                 sizeof *c->models))
        return tr_fail(s->err, TR_NOMEM, "out of memory");
    c->models[c->model_count++] = m;
    return TR_OK;
}

/* ---- a file of rows --------------------------------------------------- */

static int take_rows(const struct tr_layer *s, const struct tr_yaml *map,
                     int (*take)(const struct tr_layer *,
                                 const struct tr_yaml *))
{
    int rc = TR_OK;

    if (!map || tr_yaml_is_null(map))
        return TR_OK;
    if (map->kind != TR_YAML_MAP)
        return bad(s, map, "a map of rows is expected");
    for (const struct tr_yaml *row = map->first; row && rc == TR_OK;
         row = row->next)
        rc = take(s, row);
    return rc;
}

int tr_layer_take(struct tr_layer *s, struct tr_str text)
{
    struct tr_yaml *root;
    const struct tr_yaml *as_of;
    int rc = tr_yaml_parse(&root, &s->c->arena, text, s->file, s->err);

    if (rc != TR_OK)
        return rc;
    as_of = tr_yaml_get(root, "as_of");
    if (as_of && as_of->kind != TR_YAML_SCALAR)
        return bad(s, as_of, "a date is wanted, such as 2026-12-11");
    if (as_of)
        s->as_of = as_of->value.p;
    if (s->bare && !tr_yaml_get(root, "models"))
        return take_rows(s, root, take_model);
    rc = take_rows(s, tr_yaml_get(root, "providers"), take_provider);
    if (rc == TR_OK)
        rc = take_rows(s, tr_yaml_get(root, "models"), take_model);
    return rc;
}

int tr_layer_take_providers(const struct tr_layer *s,
                            const struct tr_yaml *map)
{
    return take_rows(s, map, take_provider);
}
