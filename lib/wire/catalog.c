/* catalog.c - which providers and models there are: providers.yaml and
 * models.yaml, with the user's own files and the task's rows over them.
 *
 * Read it from the end: tr_catalog_open() lays file over file, layer.c takes
 * the rows of one. Where a request to a provider goes and with which key is
 * target.c.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/layer.h"

#include "base/clock.h"
#include "base/dirs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define CONFIG_BYTES_MAX ((size_t)1 << 20) /* of a user's config file */

extern const unsigned char tr_data_providers[], tr_data_models[];
extern const size_t tr_data_providers_n, tr_data_models_n;

/* ---- files ------------------------------------------------------------ */

ssize_t tr_wire_read_all(int fd, char *p, size_t size)
{
    size_t n = 0;
    ssize_t got = 1;

    while (n < size && got) {
        got = read(fd, p + n, size - n);
        if (got < 0 && errno != EINTR)
            return -1;
        if (got > 0)
            n += (size_t)got;
    }
    return (ssize_t)n;
}

/* A whole file of bounded size; a missing one is empty. */
static int read_file(const struct tr_layer *s, struct tr_str *text)
{
    int fd = open(s->file, O_RDONLY | O_CLOEXEC);
    const char *distrust;
    char *p;
    ssize_t got = 0;

    *text = (struct tr_str){0};
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? TR_OK
                   : tr_fail(s->err, TR_CONFIG, "%s: %s; %s", s->file,
                             strerror(errno),
                             tr_errno_remedy(errno, "make it readable for "
                                                    "you"));
    distrust = tr_distrust(fd);
    if (distrust) {
        close(fd);
        return tr_fail(s->err, TR_CONFIG, "%s %s", s->file, distrust);
    }
    p = tr_arena_alloc(&s->c->arena, CONFIG_BYTES_MAX);
    if (p)
        got = tr_wire_read_all(fd, p, CONFIG_BYTES_MAX);
    close(fd);
    text->p = p;
    if (!p)
        return tr_fail(s->err, TR_NOMEM, "out of memory");
    if (got < 0)
        return tr_fail(s->err, TR_CONFIG, "%s cannot be read: %s; check the "
                       "file and its disk", s->file, strerror(errno));
    text->n = (size_t)got;
    if (text->n == CONFIG_BYTES_MAX)
        return tr_fail(s->err, TR_CONFIG, "%s: larger than 1 MiB", s->file);
    return TR_OK;
}

static int take_user_file(struct tr_catalog *c, const char *dir,
                          const char *name, int64_t today_s,
                          struct tr_err *err)
{
    char path[PATH_MAX];
    struct tr_layer s = {c, TR_BY_USER, path, "your own file", err,
                       strcmp(name, "models.yaml") == 0, today_s};
    struct tr_str text;
    int rc;

    snprintf(path, sizeof path, "%.3900s/%s", dir, name);
    rc = read_file(&s, &text);
    return rc != TR_OK || !text.n ? rc : tr_layer_take(&s, text);
}

/* Who says what reading from the cache costs, and not what writing to it does,
 * has read a list that leaves the latter to a rule: a quarter more than input,
 * at OpenAI and Anthropic. Where it is free none is counted, so it only makes
 * bounds wider. */
static int64_t usual_write(const struct tr_provider *p,
                           const struct tr_model_facts *f)
{
    bool charges = p && (p->quirks.cache_keys ||
                         strcmp(p->dialect, "anthropic") == 0);

    return charges && f->price_cached >= 0 ? f->price_in + (f->price_in + 3) / 4
                                           : f->price_in;
}

/* What a row does not say must never make a bill look smaller; on a server of
 * the user's own there is none. */
static void fill_prices(struct tr_catalog *c)
{
    for (size_t i = 0; i < c->model_count; i++) {
        struct tr_model_facts *f = &c->models[i].facts;
        const char *name = c->models[i].name;
        const struct tr_provider *p =
            tr_catalog_row(c, tr_str(name, strcspn(name, "/")));

        if (p && p->is_free && f->price_in < 0 && f->price_out < 0) {
            f->price_in = f->price_out = 0;
            c->models[i].is_free = true;
        }
        /* Not said; or of another input's price, which a row above replaced. */
        if (f->price_cache_write < f->price_in)
            f->price_cache_write = usual_write(p, f);
        if (f->price_cached < 0)
            f->price_cached = f->price_in;
    }
}

int tr_catalog_open(struct tr_catalog **out, const struct tr_lane_opts *o,
                    struct tr_err *err)
{
    struct tr_catalog *c = tr_alloc(sizeof *c);
    int64_t today_s = o->today_s ? o->today_s : tr_clock_wall_s();
    struct tr_layer built_in = {c, TR_BY_US, "providers.yaml", "", err, false,
                              today_s};
    struct tr_layer task = {c, TR_BY_TASK, o->task_path ? o->task_path : "task",
                            "", err, false, today_s};
    struct tr_provider *ours;
    struct tr_yaml *root;
    int rc = TR_OK;

    *out = NULL;
    if (!c)
        return tr_fail(err, TR_NOMEM, "out of memory");
    tr_arena_init(&c->arena);
    TRY(tr_layer_take(&built_in, tr_str((const char *)tr_data_providers,
                                        tr_data_providers_n)));
    c->built_in = c->provider_count;
    ours = tr_arena_alloc(&c->arena, c->built_in * sizeof *ours);
    if (!ours)
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    memcpy(ours, c->providers, c->built_in * sizeof *ours);
    c->ours = ours;
    built_in.file = "models.yaml";
    TRY(tr_layer_take(&built_in,
                      tr_str((const char *)tr_data_models, tr_data_models_n)));
    if (o->config_dir && o->config_dir[0]) {
        TRY(take_user_file(c, o->config_dir, "config.yaml", today_s,
                           err));
        TRY(take_user_file(c, o->config_dir, "models.yaml", today_s,
                           err));
    }
    if (tr_str_trim(o->providers_yaml).n) {
        TRY(tr_yaml_parse(&root, &c->arena, o->providers_yaml, task.file,
                          err));
        TRY(tr_layer_take_providers(&task, root));
    }
    fill_prices(c);
    *out = c;
    return TR_OK;
out:
    tr_catalog_close(c);
    return rc;
}

void tr_catalog_close(struct tr_catalog *c)
{
    if (!c)
        return;
    tr_free(c->providers);
    tr_free(c->models);
    tr_arena_release(&c->arena);
    tr_free(c);
}

size_t tr_catalog_providers(const struct tr_catalog *c,
                            const struct tr_provider **rows)
{
    *rows = c->providers;
    return c->provider_count;
}

size_t tr_catalog_models(const struct tr_catalog *c,
                         const struct tr_model **rows)
{
    *rows = c->models;
    return c->model_count;
}

/* ---- looking a name up ------------------------------------------------ */

/* Whether a name ends like the pattern, in which d is a digit. */
static bool ends_like(struct tr_str name, const char *pattern)
{
    size_t n = strlen(pattern);

    for (size_t i = 0; i < n && name.n > n; i++) {
        char want = pattern[i], is = name.p[name.n - n + i];

        if (want == 'd' ? is < '0' || is > '9' : is != want)
            return false;
    }
    return name.n > n;
}

/* gpt-4o-mini-2024-07-18 has the facts of gpt-4o-mini, and a model of
 * Anthropic's with a date of eight digits those of the model. */
static const struct tr_model *facts_of(const struct tr_catalog *c,
                                       const char *model)
{
    static const char *const dates[] = {"-dddd-dd-dd", "-dddddddd"};
    struct tr_str name = tr_str_c(model);
    const struct tr_model *m = tr_catalog_model(c, name);

    for (size_t i = 0; i < 2 && !m; i++) {
        if (ends_like(name, dates[i]))
            m = tr_catalog_model(c, tr_str(model, name.n - strlen(dates[i])));
    }
    return m;
}

const struct tr_provider *tr_catalog_provider(const struct tr_catalog *c,
                                              struct tr_str name)
{
    return tr_catalog_row(c, name);
}

const struct tr_model *tr_catalog_facts(const struct tr_catalog *c,
                                        const struct tr_provider *p,
                                        const char *model)
{
    const struct tr_model *m = facts_of(c, model);
    const char *slash = strchr(model, '/');
    char name[256];

    if (m || !p || !p->models || !slash)
        return m;
    snprintf(name, sizeof name, "%.80s%s", p->models, slash);
    return facts_of(c, name);
}

struct tr_model_facts tr_catalog_cost(const struct tr_model *m, bool is_free)
{
    static const struct tr_model_facts unknown = {-1,  -1, -1, -1, 0, 0, 0,
                                                  100, 100, 0};
    struct tr_model_facts f = m ? m->facts : unknown;

    if (!m || m->is_free)
        f.price_in = f.price_out = f.price_cached = f.price_cache_write =
            is_free ? 0 : -1;
    return f;
}

bool tr_model_find(const struct tr_lane_opts *o, const char *model,
                   struct tr_model_facts *facts, char *as_of, size_t as_of_n)
{
    struct tr_catalog *c = NULL;
    const struct tr_model *m;
    const struct tr_provider *p;
    bool is_free;

    *facts = tr_catalog_cost(NULL, false);
    if (as_of_n)
        as_of[0] = '\0';
    if (tr_catalog_open(&c, o, NULL) != TR_OK)
        return false;
    p = tr_catalog_row(c, tr_str(model, strcspn(model, "/")));
    m = tr_catalog_facts(c, p, model);
    is_free = p && p->is_free;
    *facts = tr_catalog_cost(m, is_free);
    if (m)
        snprintf(as_of, as_of_n, "%s", m->as_of);
    tr_catalog_close(c);
    return m || is_free;
}
