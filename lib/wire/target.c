/* target.c - from "provider/model" and the options to where requests go and
 * with which key.
 *
 * Read it from the end: tr_target_find() takes the rows out of the catalogue
 * (catalog.c), chooses dialect and effort, writes the address and looks for
 * the key. Nothing is opened but a file of a key. What is not right is said
 * here, with what to do next.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/provider.h"

#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_BYTES_MAX 500
#define ALL_EFFORTS ((1u << TR_EFFORT_COUNT) - 1)

const struct tr_dialect *const tr_dialects[] = {
    &tr_openai, &tr_responses, &tr_anthropic, &tr_gemini, &tr_decisions,
    &tr_systemone, NULL,
};

/* ---- address ---------------------------------------------------------- */

/* 127.0.0.1, localhost, [::1]: by their letters only, so that no spelling
 * that a resolver reads differently gets through. */
bool tr_wire_is_loopback(struct tr_str host)
{
    size_t dots = 0;

    if (tr_str_eq_c(host, "localhost") || tr_str_eq_c(host, "[::1]"))
        return true;
    if (host.n < 9 || host.n > 15 || memcmp(host.p, "127.", 4) != 0)
        return false;
    for (size_t i = 0; i < host.n; i++) {
        if (host.p[i] == '.')
            dots++;
        else if (host.p[i] < '0' || host.p[i] > '9')
            return false;
    }
    return dots == 3;
}

struct tr_str tr_wire_host_of(const char *url)
{
    const char *slashes = strstr(url, "//");
    struct tr_str h = tr_str_c(slashes ? slashes + 2 : url);

    if (h.n && h.p[0] == '[')
        h.n = strcspn(h.p, "]") + (strchr(h.p, ']') != NULL);
    else
        h.n = strcspn(h.p, ":/");
    return h;
}

/* Splits and checks an address: scheme, host, no user, query or fragment. */
static int check_url(const char *url, bool allow_http, const char *from,
                     char *host, size_t host_n, struct tr_err *err)
{
    bool secure = strncmp(url, "https://", 8) == 0;
    struct tr_str h = tr_wire_host_of(url);
    size_t n = strcspn(h.p, "/"); /* with the port */

    if (!secure && strncmp(url, "http://", 7) != 0)
        return tr_fail(err, TR_CONFIG,
                       "%s: %.200s is no address; write https://HOST/v1, or "
                       "http://127.0.0.1:PORT/v1 for a server on this machine",
                       from, url);
    for (const char *p = url; *p; p++) {
        if ((unsigned char)*p < 0x21 || (unsigned char)*p > 0x7e ||
            strchr("@?#\\\"<>", *p))
            return tr_fail(err, TR_CONFIG,
                           "%s: an address may not hold blanks, a user name, "
                           "? or #, nor bytes beyond ASCII",
                           from);
    }
    snprintf(host, host_n, "%.*s", n > 150 ? 150 : (int)n, h.p);
    if (!h.n)
        return tr_fail(err, TR_CONFIG, "%s: the address has no host", from);
    if (!secure && !allow_http && !tr_wire_is_loopback(h))
        return tr_fail(err, TR_CONFIG,
                       "%s: %.*s would be asked over plain http, where texts "
                       "and keys can be read; use https, or --allow-http if "
                       "the network is yours",
                       from, h.n > 200 ? 200 : (int)h.n, h.p);
    return TR_OK;
}

static const char *env(const struct tr_lane_opts *o, const char *name)
{
    const char *value = o->env ? o->env(name) : getenv(name);

    return value && value[0] ? value : NULL;
}

/* The path with the model's name in it. Everything but plain letters is
 * escaped, so that a name stays one segment. */
static bool write_path(const char *path, const char *model, char *out,
                       size_t size)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *at = strstr(path, "{model}");
    size_t n = 0;

    if (!at)
        return (size_t)snprintf(out, size, "%s", path) < size;
    n = (size_t)(at - path);
    if (n + 3 * strlen(model) + strlen(at) >= size)
        return false;
    memcpy(out, path, n);
    for (; *model; model++) {
        char c = *model;

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c >= '0' && c <= '9') || strchr("-._~", c)) {
            out[n++] = c;
            continue;
        }
        out[n++] = '%';
        out[n++] = hex[(unsigned char)c >> 4];
        out[n++] = hex[(unsigned char)c & 15];
    }
    snprintf(out + n, size - n, "%s", at + strlen("{model}"));
    return true;
}

/* How much of the path an address already has at its end, in whole segments:
 * with "/v1/messages" both https://HOST and https://HOST/v1 are right. */
static size_t overlap(const char *url, size_t n, const char *path)
{
    const char *host = tr_wire_host_of(url).p;
    size_t from = (size_t)(host - url) + strcspn(host, "/");

    for (size_t k = strlen(path); k > 1; k--) {
        if ((path[k] == '/' || !path[k]) && from + k <= n &&
            memcmp(url + n - k, path, k) == 0)
            return k;
    }
    return 0;
}

static int find_url(struct tr_target *t, const struct tr_lane_opts *o,
                    struct tr_err *err)
{
    const struct tr_provider *p = t->provider;
    const char *from = p->name, *url = p->base_url, *by_env = NULL;
    char path[500];
    size_t n;
    int rc;

    if (p->base_url_env)
        by_env = env(o, p->base_url_env);
    if (o->base_url) {
        url = o->base_url;
        from = "--base-url";
    } else if (by_env) {
        url = by_env;
        from = p->base_url_env;
    }
    if (!url)
        return tr_fail(err, TR_CONFIG,
                       "provider %s has no address: set %s, or give "
                       "--base-url URL",
                       p->name, p->base_url_env ? p->base_url_env : "base_url");
    rc = check_url(url, o->allow_http, from, t->host, sizeof t->host, err);
    if (rc != TR_OK)
        return rc;
    t->stands_in = tr_wire_is_loopback(tr_wire_host_of(url)) &&
                   !(p->base_url &&
                     tr_wire_is_loopback(tr_wire_host_of(p->base_url)));
    n = strlen(url);
    while (n && url[n - 1] == '/')
        n--;
    if (!write_path(p->path ? p->path : t->dialect->path, t->model, path,
                    sizeof path) ||
        n + strlen(path) >= sizeof t->url)
        return tr_fail(err, TR_CONFIG, "%s: the address is too long", from);
    memcpy(t->url, url, n);
    snprintf(t->url + n, sizeof t->url - n, "%s",
             path + overlap(url, n, path));
    return TR_OK;
}

/* ---- key -------------------------------------------------------------- */

static int keep_key(struct tr_target *t, struct tr_str key, const char *from,
                    struct tr_err *err)
{
    key = tr_str_trim(key);
    if (!key.n || key.n > KEY_BYTES_MAX)
        return tr_fail(err, TR_CONFIG,
                       "%s: a key has 1 to %d characters, and this has %zu",
                       from, KEY_BYTES_MAX, key.n);
    for (size_t i = 0; i < key.n; i++) {
        if ((unsigned char)key.p[i] < 0x21 || (unsigned char)key.p[i] > 0x7e)
            return tr_fail(err, TR_CONFIG,
                           "%s: the key holds a blank, a line end or another "
                           "byte that no key has; was a whole file pasted?",
                           from);
    }
    memcpy(t->key, key.p, key.n);
    t->key[key.n] = '\0';
    return TR_OK;
}

int tr_target_key_file(struct tr_target *t, const char *path,
                       struct tr_err *err)
{
    char bytes[KEY_BYTES_MAX + 100];
    struct stat st;
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc;

    if (fd < 0 && tr_wire_is_key(path))
        return tr_fail(err, TR_CONFIG,
                       "a key file is given by its NAME, and what stands "
                       "there is no file and looks like the key itself: put "
                       "the key into a file of mode 0600 and name that");
    if (fd < 0)
        return tr_fail(err, TR_CONFIG, "key file %s: %s; %s", path,
                       strerror(errno),
                       tr_errno_remedy(errno,
                                       "check the name and its permissions"));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        rc = tr_fail(err, TR_CONFIG, "key file %s is no regular file", path);
    else if (st.st_uid != geteuid())
        rc = tr_fail(err, TR_CONFIG,
                     "key file %s belongs to another user; make a copy of "
                     "your own",
                     path);
    else if (st.st_mode & 077)
        rc = tr_fail(err, TR_CONFIG,
                     "key file %s can be read by others; run: chmod 600 %s",
                     path, path);
    else if ((n = tr_wire_read_all(fd, bytes, sizeof bytes)) < 0)
        rc = tr_fail(err, TR_CONFIG, "key file %s: %s", path, strerror(errno));
    else
        rc = keep_key(t, tr_str(bytes, (size_t)n), path, err);
    close(fd);
    tr_wipe(bytes, sizeof bytes);
    return rc;
}

/* A key where its variable's name belongs is not repeated. */
static int no_variable(const char *option, struct tr_err *err)
{
    return tr_fail(err, TR_CONFIG,
                   "%s: no variable of that name is set; give the NAME of one "
                   "that holds the key, not the key itself: export MY_KEY=..., "
                   "then name MY_KEY",
                   option);
}

/* A task file may come from somebody else. It sends no key of a provider we
 * know elsewhere, and gets none that was not meant for this run. */
static int check_key(const struct tr_target *t, const struct tr_catalog *c,
                     const struct tr_lane_opts *o, struct tr_err *err)
{
    const struct tr_provider *p = t->provider, *owner;
    bool by_task = o->base_url ? o->task_says_url : p->by_task;

    if (!o->key_file && o->key_env && o->task_says_key) {
        owner = o->base_url
                    ? tr_catalog_robbed(c, o->key_env, o->base_url, NULL)
                    : tr_catalog_robbed(c, o->key_env, p->base_url,
                                        p->base_url_env);
        return !owner ? TR_OK
                      : tr_fail(err, TR_CONFIG,
                                "%s is the key of %s, and a task file may not "
                                "send it elsewhere; give --key-env %s on the "
                                "command line if you mean it",
                                o->key_env, owner->name, o->key_env);
    }
    if (by_task && (o->key_file || o->key_env) && !o->key_is_meant)
        return tr_fail(err, TR_CONFIG,
                       "the address is the task file's word, and the key that "
                       "your settings name does not go there; give %s NAME on "
                       "the command line if you mean it",
                       o->key_file ? "--key-file" : "--key-env");
    return TR_OK;
}

static int find_key(struct tr_target *t, const struct tr_catalog *c,
                    const struct tr_lane_opts *o, struct tr_err *err)
{
    const struct tr_provider *p = t->provider;
    const char *value;
    int rc;

    if (o->keyless)
        return TR_OK;
    rc = check_key(t, c, o, err);
    if (rc != TR_OK)
        return rc;
    if (o->key_file)
        return tr_target_key_file(t, o->key_file, err);
    if (o->key_env) {
        value = env(o, o->key_env);
        if (!value && !tr_wire_is_variable(o->key_env))
            return no_variable("--key-env", err);
        if (!value)
            return tr_fail(err, TR_CONFIG,
                           "--key-env %s: that variable is not set",
                           o->key_env);
        return keep_key(t, tr_str_c(value), o->key_env, err);
    }
    if (o->base_url)
        return TR_OK; /* a key goes to its own origin only */
    if (p->key_file)
        return tr_target_key_file(t, p->key_file, err);
    if (!p->key_env)
        return TR_OK;
    value = env(o, p->key_env);
    if (value)
        return keep_key(t, tr_str_c(value), p->key_env, err);
    if (p->key_optional)
        return TR_OK;
    if (!tr_wire_is_variable(p->key_env))
        return no_variable("key_env", err);
    return tr_fail(err, TR_CONFIG,
                   "%s needs a key: set %s, or name another variable with "
                   "--key-env NAME or a file with --key-file FILE",
                   p->name, p->key_env);
}

/* "name: $NAME" with the variable's value. */
static int fill_header(char *to, size_t size, const char *line,
                       const struct tr_lane_opts *o, const char *provider,
                       struct tr_err *err)
{
    const char *dollar = strchr(line, '$');
    const char *value = env(o, dollar + 1);
    struct tr_str v = tr_str_trim(tr_str_c(value ? value : ""));
    int n = (int)(dollar - line);

    if (!v.n || v.n > KEY_BYTES_MAX)
        return tr_fail(err, TR_CONFIG,
                       "provider %s, header %.*s: the variable %s %s", provider,
                       n - 2, line, dollar + 1,
                       v.n ? "is too long" : "is not set; export it");
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < 0x20 || v.p[i] > 0x7e)
            return tr_fail(err, TR_CONFIG,
                           "provider %s, header %.*s: the variable %s holds a "
                           "line end or another byte that no header has",
                           provider, n - 2, line, dollar + 1);
    }
    snprintf(to, size, "%.*s%.*s", n, line, (int)v.n, v.p);
    return TR_OK;
}

/* Those from the environment go, like the key, to the row's own origin. */
static int find_headers(struct tr_target *t, const struct tr_lane_opts *o,
                        struct tr_err *err)
{
    const struct tr_provider *p = t->provider;
    size_t n = 0;
    int rc = TR_OK;

    for (size_t i = 0; p->headers[i]; i++) {
        const char *line = p->headers[i];
        bool from_env = strchr(line, ':')[2] == '$';

        if (from_env && (o->keyless || o->base_url))
            continue;
        if (from_env)
            TRY(fill_header(t->headers[n], sizeof t->headers[n], line, o,
                            p->name, err));
        else
            snprintf(t->headers[n], sizeof t->headers[n], "%s", line);
        n++;
    }
out:
    return rc;
}

/* ---- provider/model --------------------------------------------------- */

/* What a row calls free is so at its own address. Another one is the user's
 * word, unless a task file says it, which may come from somebody else, or the
 * key of one that is paid opens it: a budget would not hold. */
static bool is_free(const struct tr_provider *p, const struct tr_catalog *c,
                    const struct tr_lane_opts *o)
{
    bool here = o->base_url &&
                tr_wire_is_loopback(tr_wire_host_of(o->base_url));

    if (!p->is_free || !o->base_url)
        return p->is_free;
    return !(o->task_says_url && !here) &&
           !tr_catalog_is_paid(c, o->key_env);
}

static const char *nearest_provider(const struct tr_catalog *c,
                                    const char *name)
{
    const struct tr_provider *rows;
    size_t n = tr_catalog_providers(c, &rows);
    struct tr_wire_near near = {name, NULL, 0};

    for (size_t i = 0; i < n; i++)
        tr_wire_near_try(&near, rows[i].name);
    return near.best;
}

static int no_slash(const struct tr_catalog *c, const char *model,
                    struct tr_err *err)
{
    const char *near = nearest_provider(c, model);
    const struct tr_model *models;
    size_t n = tr_catalog_models(c, &models);

    for (size_t i = 0; i < n; i++) {
        const char *name = models[i].name;

        if (strcmp(strchr(name, '/') + 1, model) == 0)
            return tr_fail(err, TR_CONFIG,
                           "model %s names no provider; did you mean %s?",
                           model, name);
    }
    return tr_fail(err, TR_CONFIG,
                   "model %.100s names no provider; a model is written "
                   "provider/model, such as openai/gpt-6-luna or "
                   "%s/NAME (trommel models lists the providers)",
                   model, near ? near : "ollama");
}

static int unknown_dialect(const struct tr_provider *p, struct tr_err *err)
{
    struct tr_wire_near near = {p->dialect, NULL, 0};
    char known[200] = "";
    size_t n = 0;

    for (int i = 0; tr_dialects[i]; i++) {
        tr_wire_near_try(&near, tr_dialects[i]->name);
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s",
                              i ? ", " : "", tr_dialects[i]->name);
    }
    return tr_fail(err, TR_CONFIG,
                   "provider %s: dialect %s is not known (known: %s)%s%s%s",
                   p->name, p->dialect, known,
                   near.best ? "; did you mean " : "",
                   near.best ? near.best : "", near.best ? "?" : "");
}

static int find_provider_of(struct tr_target *t, const struct tr_catalog *c,
                            const char *model, struct tr_err *err)
{
    const char *slash = strchr(model, '/');
    char name[80];

    if (!slash)
        return no_slash(c, model, err);
    if (!slash[1] || strlen(slash + 1) >= sizeof t->model)
        return tr_fail(err, TR_CONFIG, "model %.100s: the part after the "
                       "slash is empty or too long", model);
    t->provider =
        tr_catalog_provider(c, tr_str(model, (size_t)(slash - model)));
    snprintf(name, sizeof name, "%.*s",
             slash - model > 79 ? 79 : (int)(slash - model), model);
    if (!t->provider) {
        const char *near = nearest_provider(c, name);

        return tr_fail(err, TR_CONFIG,
                       "there is no provider %s%s%s; trommel models lists "
                       "them, and a server of your own is openai/%s with "
                       "--base-url URL, or a row under providers: in "
                       "config.yaml",
                       name, near ? "; did you mean " : "",
                       near ? near : "", slash + 1);
    }
    memcpy(t->model, slash + 1, strlen(slash + 1) + 1);
    for (int i = 0; tr_dialects[i]; i++) {
        if (strcmp(tr_dialects[i]->name, t->provider->dialect) == 0)
            t->dialect = tr_dialects[i];
    }
    if (!t->dialect)
        return unknown_dialect(t->provider, err);
    t->key_header = t->provider->key_header ? t->provider->key_header
                                            : t->dialect->key_header;
    return TR_OK;
}

static int choose_effort(struct tr_target *t, const struct tr_lane_opts *o,
                         struct tr_err *err)
{
    struct tr_quirks *q = &t->quirks;
    bool known = t->facts && t->facts->has_efforts;

    if (t->facts && t->facts->effort_style >= 0)
        q->effort_style = t->facts->effort_style;
    q->efforts = known ? t->facts->efforts : ALL_EFFORTS;
    q->effort = known ? -1 : t->provider->effort_default;
    for (int i = 0; known && i < TR_EFFORT_COUNT && q->effort < 0; i++) {
        if (q->efforts >> i & 1)
            q->effort = i;
    }
    if (!o->effort)
        return TR_OK;
    q->effort = tr_effort_find(tr_str_c(o->effort));
    if (q->effort < 0)
        return tr_fail(err, TR_USAGE,
                       "--effort %.40s: efforts are none, minimal, low, "
                       "medium, high, xhigh and max",
                       o->effort);
    if (known && !(q->efforts >> q->effort & 1))
        return tr_fail(err, TR_CONFIG,
                       "%s does not take --effort %s; trommel models lists "
                       "what it takes",
                       t->facts->name, o->effort);
    q->effort_fixed = true;
    if (q->effort_style == TR_STYLE_omit)
        q->effort_style = TR_STYLE_field;
    return TR_OK;
}

int tr_target_find(struct tr_target *t, const struct tr_catalog *c,
                   const struct tr_lane_opts *o, struct tr_err *err)
{
    int rc = TR_OK;

    memset(t, 0, sizeof *t);
    TRY(find_provider_of(t, c, o->model ? o->model : "", err));
    t->facts = tr_catalog_facts(c, t->provider, o->model);
    t->is_free = is_free(t->provider, c, o);
    t->quirks = t->provider->quirks;
    t->quirks.cache_marks =
        t->quirks.cache_keys && t->facts && t->facts->cache_marks;
    TRY(choose_effort(t, o, err));
    TRY(find_url(t, o, err));
    TRY(find_key(t, c, o, err));
    TRY(find_headers(t, o, err));
out:
    return rc;
}
