/* config.c - the settings: what each option may be, who said it, what holds.
 *
 * Every value is checked when it is said, so that the error can name the
 * speaker (option, variable, file with line and column); the readers at the
 * end of this file can then not fail.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* environ */

#include "config.h"

#include "base/buf.h"
#include "base/dirs.h"
#include "base/mem.h"
#include "base/near.h"
#include "base/yaml.h"
#include "task/task.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_BYTES_MAX (1u << 20) /* the user's config.yaml */
#define LIST_MAX 100000u            /* values of a repeated option */
#define INT_DIGITS_MAX 15           /* of a number in an option */

enum { C = TR_OPT_C, E = TR_OPT_E, T = TR_OPT_T, U = TR_OPT_U };

const struct tr_option tr_options[] = {
#define OPT(name, letter, type, fallback, where, argument, help)               \
    {#name, letter, TR_OPT_##type, fallback, where, argument, help},
#include "options.def"
};
const size_t tr_option_count = sizeof tr_options / sizeof tr_options[0];
enum { OPTION_COUNT = sizeof tr_options / sizeof tr_options[0] };

struct value {
    enum tr_rank rank;
    char **texts; /* owned; one unless the option is a LIST */
    size_t count;
};

struct tr_config {
    struct value values[OPTION_COUNT];
    char *dir; /* owned; where the user's config lives, or NULL */
};

/* ---- the table -------------------------------------------------------- */

const struct tr_option *tr_option_find(struct tr_str name)
{
    for (size_t i = 0; i < tr_option_count; i++) {
        if (tr_str_eq_c(name, tr_options[i].name))
            return &tr_options[i];
    }
    return NULL;
}

static struct value *value_of(const struct tr_config *cfg, const char *name)
{
    const struct tr_option *opt = tr_option_find(tr_str_c(name));

    TR_ASSERT(opt);
    return (struct value *)&cfg->values[opt - tr_options];
}

/* ---- values ----------------------------------------------------------- */

/* Digits only, at most INT_DIGITS_MAX of them. */
static bool read_int(struct tr_str s, int64_t *out)
{
    int64_t n = 0;

    if (s.n == 0 || s.n > INT_DIGITS_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        n = n * 10 + (s.p[i] - '0');
    }
    *out = n;
    return true;
}

/* "2", "2.5", ".50": billionths, at most nine decimals. */
static bool read_decimal(struct tr_str s, int64_t *nano)
{
    size_t dot = 0;
    int64_t whole = 0, part = 0;
    struct tr_str tail;

    while (dot < s.n && s.p[dot] != '.')
        dot++;
    if (dot > 9 || (dot && !read_int(tr_str(s.p, dot), &whole)))
        return false;
    if (dot == s.n)
        tail = tr_str(NULL, 0);
    else
        tail = tr_str(s.p + dot + 1, s.n - dot - 1);
    if (tail.n > 9 || dot + tail.n == 0 || (tail.n && !read_int(tail, &part)))
        return false;
    for (size_t i = tail.n; i < 9; i++)
        part *= 10;
    *nano = whole * 1000000000 + part;
    return true;
}

/* "20s", "15m", "1h30m", "500ms"; a bare number is seconds. */
static bool read_time(struct tr_str s, int64_t *ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                 {"s", 1000},     {"ms", 1}};
    size_t unit = 0; /* units come largest first, each once */
    int64_t total = 0, n;

    if (read_int(s, &n)) {
        if (n > 365 * 86400)
            return false;
        *ms = n * 1000;
        return true;
    }
    if (s.n == 0)
        return false;
    while (s.n) {
        size_t digits = 0, letters;

        while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
            digits++;
        letters = digits;
        while (letters < s.n && s.p[letters] >= 'a' && s.p[letters] <= 'z')
            letters++;
        if (digits > 9 || !read_int(tr_str(s.p, digits), &n))
            return false;
        while (unit < 5 && !tr_str_eq_c(tr_str(s.p + digits, letters - digits),
                                        units[unit].unit))
            unit++;
        if (unit == 5)
            return false;
        total += n * units[unit].ms;
        unit++;
        s = tr_str(s.p + letters, s.n - letters);
    }
    if (total > INT64_C(365) * 86400000)
        return false;
    *ms = total;
    return true;
}

/* The canonical "yes" or "no", or NULL. */
static const char *read_flag(struct tr_str s)
{
    static const struct {
        const char *word, *means;
    } words[] = {{"yes", "yes"}, {"true", "yes"},  {"on", "yes"}, {"1", "yes"},
                 {"no", "no"},   {"false", "no"},  {"off", "no"}, {"0", "no"},
                 {"", "yes"}};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (tr_str_eq_c(s, words[i].word))
            return words[i].means;
    }
    return NULL;
}

/* Is s one of the words in "a|b|c"? */
static bool is_choice(const char *words, struct tr_str s)
{
    while (*words) {
        size_t n = strcspn(words, "|");

        if (tr_str_eq(s, tr_str(words, n)))
            return true;
        words += n + (words[n] == '|');
    }
    return false;
}

/* Some of them, with commas between. */
static bool are_choices(const char *words, struct tr_str s)
{
    for (;;) {
        const char *comma = memchr(s.p, ',', s.n);
        size_t n = comma ? (size_t)(comma - s.p) : s.n;

        if (!is_choice(words, tr_str_trim(tr_str(s.p, n))))
            return false;
        if (!comma)
            return true;
        s = tr_str(s.p + n + 1, s.n - n - 1);
    }
}

/* Nothing but a shell would find it: a folder named ~ would be made. */
static bool is_home(const struct tr_option *opt, struct tr_str s)
{
    return opt->type == TR_OPT_TEXT && opt->argument &&
           (strncmp(opt->argument, "FILE", 4) == 0 ||
            strncmp(opt->argument, "DIR", 3) == 0) &&
           s.p[0] == '~' && (s.n == 1 || s.p[1] == '/');
}

/* What the option wants, for the error; NULL when s is fine. */
static const char *wanted(const struct tr_option *opt, struct tr_str s)
{
    int64_t n;

    if (opt->type == TR_OPT_FLAG)
        return read_flag(s) ? NULL : "yes or no";
    if (s.n == 0)
        return opt->argument;
    if (memchr(s.p, 0, s.n))
        return "text without NUL bytes";
    if (is_home(opt, s))
        return "a path: only a shell knows ~, so write your home folder out "
               "(./~ means a folder of that name)";
    switch (opt->type) {
    case TR_OPT_INT:
        return read_int(s, &n) ? NULL : "a whole number, such as 16";
    case TR_OPT_COUNT:
        return read_int(s, &n) && n > 0
                   ? NULL
                   : "a whole number from 1 on; leave it out for the default, "
                     "or add --dry-run to ask nothing";
    case TR_OPT_MONEY:
        return read_decimal(s, &n) ? NULL
                                   : "an amount in US dollars, such as 2.00";
    case TR_OPT_TIME:
        return read_time(s, &n) ? NULL : "a time, such as 20s, 15m or 1h30m";
    case TR_OPT_CHOICE:
        return is_choice(opt->argument, s) ? NULL : opt->argument;
    case TR_OPT_WORDS:
        return are_choices(opt->argument, s) ? NULL : opt->argument;
    default:
        return NULL;
    }
}

/* ---- saying a value --------------------------------------------------- */

/* What may stand where, and the code of an error there. */
static const struct {
    int place, code;
} speakers[] = {
    [TR_FROM_DEFAULT] = {0, TR_BUG},   [TR_FROM_CONFIG] = {T | U, TR_CONFIG},
    [TR_FROM_TASK] = {T, TR_CONFIG},   [TR_FROM_ENV] = {E, TR_USAGE},
    [TR_FROM_SET] = {C, TR_USAGE},
};

/* A name in the language of the speaker: --max-wait, TROMMEL_MAX_WAIT or
 * max-wait. */
static const char *spell(char *out, size_t size, enum tr_rank rank,
                         const char *name)
{
    const char *before = rank == TR_FROM_SET ? "--" : "";

    snprintf(out, size, "%s%s", rank == TR_FROM_ENV ? "TROMMEL_" : before,
             name);
    for (char *c = out; rank == TR_FROM_ENV && *c; c++) {
        if (*c == '-')
            *c = '_';
        else if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    }
    return out;
}

/* What people call a key that they want to give as an option. */
static bool is_key_word(const char *name)
{
    static const char *const words[] = {"key", "token", "apikey", NULL};
    size_t n = strlen(name);

    for (const char *const *w = words; *w; w++) {
        size_t tail = strlen(*w);

        if (n >= tail && strcmp(name + n - tail, *w) == 0 &&
            (n == tail || strchr("-_", name[n - tail - 1])))
            return true;
    }
    return false;
}

/* What may have been meant there by a name that no option has, or NULL. */
static const char *nearest(enum tr_rank rank, const char *name)
{
    const char *names[OPTION_COUNT];
    size_t n = 0;

    for (size_t i = 0; i < tr_option_count; i++) {
        if (tr_options[i].where & speakers[rank].place)
            names[n++] = tr_options[i].name;
    }
    return tr_nearest(tr_str_c(name), names, n);
}

static int unknown_name(enum tr_rank rank, const char *name, const char *where,
                        struct tr_err *err)
{
    bool in_file = rank == TR_FROM_CONFIG || rank == TR_FROM_TASK;
    const char *near = nearest(rank, name);
    char said[80], meant[80];

    spell(said, sizeof said, rank, name);
    if (rank == TR_FROM_SET && !near && is_key_word(name))
        return tr_fail(err, speakers[rank].code,
                       "unknown option %s; a key is not given in plain sight: "
                       "set OPENAI_API_KEY (trommel models shows the variable "
                       "of each provider), or name a file with --key-file",
                       said);
    if (near)
        spell(meant, sizeof meant, rank, near);
    return tr_fail(err, speakers[rank].code, "%s%sunknown %s %s; %s%s%s",
                   in_file && where ? where : "", in_file && where ? ": " : "",
                   rank == TR_FROM_SET ? "option" : "key", said,
                   near ? "did you mean " : "see trommel help classify",
                   near ? meant : "", near ? "?" : "");
}

/* Keeps a copy: one more of a list, or in place of what was said before. */
static int keep(struct value *v, const struct tr_option *opt,
                enum tr_rank rank, struct tr_str text, struct tr_err *err)
{
    bool more = opt->type == TR_OPT_LIST && v->rank == rank;
    size_t count = more ? v->count : 0;
    char *copy, **texts;

    if (count >= LIST_MAX)
        return tr_fail(err, speakers[rank].code, "--%s: more than %u values",
                       opt->name, LIST_MAX);
    copy = tr_dup(text.p ? text.p : "", text.n);
    texts = tr_resize(v->texts, (v->count + 1) * sizeof *texts);
    if (texts)
        v->texts = texts;
    if (!copy || !texts) {
        tr_free(copy);
        return tr_fail(err, TR_NOMEM, "out of memory");
    }
    while (v->count > count)
        tr_free(v->texts[--v->count]);
    v->texts[v->count++] = copy;
    v->rank = rank;
    return TR_OK;
}

int tr_config_put(struct tr_config *cfg, enum tr_rank rank, const char *name,
                  struct tr_str value, const char *where, struct tr_err *err)
{
    const struct tr_option *opt = tr_option_find(tr_str_c(name));
    bool in_file = rank == TR_FROM_CONFIG || rank == TR_FROM_TASK;
    char said[80], who[400];
    const char *want;

    if (!opt)
        return unknown_name(rank, name, where, err);
    spell(said, sizeof said, rank, name);
    snprintf(who, sizeof who, "%s%s%s", where ? where : said,
             in_file && where ? ": " : "", in_file && where ? name : "");
    if (!(opt->where & speakers[rank].place))
        return tr_fail(err, speakers[rank].code,
                       "%s cannot be set here; give it on the command line: "
                       "--%s",
                       who, name);
    want = wanted(opt, value);
    if (want && value.n == 0)
        return tr_fail(err, speakers[rank].code, "%s needs a value: %s", who,
                       want);
    if (want)
        return tr_fail(err, speakers[rank].code, "%s: \"%.*s\" is not %s%s",
                       who, value.n > 60 ? 60 : (int)value.n, value.p,
                       opt->type == TR_OPT_CHOICE  ? "one of "
                       : opt->type == TR_OPT_WORDS ? "some of "
                                                   : "",
                       want);
    if (rank < cfg->values[opt - tr_options].rank)
        return TR_OK;
    if (opt->type == TR_OPT_FLAG)
        value = tr_str_c(read_flag(value));
    return keep(&cfg->values[opt - tr_options], opt, rank, value, err);
}

/* ---- environment and the user's file ---------------------------------- */

static const char *from_system(const char *name)
{
    return getenv(name);
}

/* An absolute path from the environment, or NULL: the XDG rules say that
 * relative ones are ignored. */
static const char *env_dir(const char *(*env)(const char *), const char *name)
{
    const char *dir = env(name);

    return dir && dir[0] == '/' ? dir : NULL;
}

static int find_dir(struct tr_config *cfg, const char *(*env)(const char *),
                    struct tr_err *err)
{
    const char *base = env_dir(env, "XDG_CONFIG_HOME");
    const char *home = base ? NULL : env_dir(env, "HOME");
    struct tr_buf dir;

    tr_buf_init(&dir, 4096);
    if (base || home) {
        tr_buf_addf(&dir, "%s%s/trommel", base ? base : home,
                    base ? "" : "/.config");
        if (!tr_buf_ok(&dir)) {
            bool full = dir.full;

            tr_buf_release(&dir);
            if (!full)
                return tr_fail(err, TR_NOMEM, "out of memory");
            return tr_fail(err, TR_CONFIG, "%s is too long a path",
                           base ? "XDG_CONFIG_HOME" : "HOME");
        }
    }
    tr_free(cfg->dir);
    cfg->dir = dir.p; /* the buffer's memory changes hands */
    return TR_OK;
}

/* The whole file into text; a missing one is an empty one. */
static int read_file(const char *path, struct tr_buf *text, struct tr_err *err)
{
    FILE *f = fopen(path, "r");
    const char *distrust;
    char piece[4096];
    size_t n;
    int rc = TR_OK;

    if (!f && (errno == ENOENT || errno == ENOTDIR))
        return TR_OK;
    if (!f)
        return tr_fail(err, tr_errno_code(errno, TR_CONFIG), "%s: %s; %s", path,
                       strerror(errno),
                       tr_errno_remedy(errno, "make it readable for you"));
    distrust = tr_distrust(fileno(f));
    if (distrust) {
        fclose(f);
        return tr_fail(err, TR_CONFIG, "%s %s", path, distrust);
    }
    while ((n = fread(piece, 1, sizeof piece, f)) > 0)
        tr_buf_add(text, piece, n);
    if (ferror(f))
        rc = tr_fail(err, TR_CONFIG, "%s cannot be read: %s; check the "
                     "file and its disk", path, strerror(errno));
    else if (text->full)
        rc = tr_fail(err, TR_CONFIG, "%s: larger than %u bytes", path,
                     CONFIG_BYTES_MAX);
    else if (!tr_buf_ok(text))
        rc = tr_fail(err, TR_NOMEM, "%s: out of memory", path);
    fclose(f);
    return rc;
}

/* A list of values with commas between, as in a task file. */
static int join(struct tr_buf *out, const struct tr_option *opt,
                const struct tr_yaml *list, const char *where,
                struct tr_err *err)
{
    bool fits = list->kind == TR_YAML_LIST &&
                (opt->type == TR_OPT_LIST || opt->type == TR_OPT_WORDS ||
                 opt->type == TR_OPT_TEXT);

    for (const struct tr_yaml *n = list->first; fits && n; n = n->next) {
        fits = n->kind == TR_YAML_SCALAR;
        if (n != list->first)
            tr_buf_addc(out, ',');
        if (fits)
            tr_buf_adds(out, n->value);
    }
    if (!fits)
        return tr_fail(err, TR_CONFIG, "%s: %s: one value belongs here", where,
                       opt->name);
    return tr_buf_ok(out) ? TR_OK : tr_fail(err, TR_NOMEM, "out of memory");
}

/* One "name: value" of config.yaml. */
static int put_node(struct tr_config *cfg, const char *path,
                    const struct tr_yaml *node, struct tr_err *err)
{
    const struct tr_option *opt = tr_option_find(node->key);
    char where[300], name[80];
    struct tr_buf value;
    int rc = TR_OK;

    snprintf(where, sizeof where, "%.250s:%d:%d", path,
             opt ? node->line : node->key_line,
             opt ? node->column : node->key_column);
    snprintf(name, sizeof name, "%.*s",
             node->key.n > 70 ? 70 : (int)node->key.n, node->key.p);
    tr_buf_init(&value, CONFIG_BYTES_MAX);
    if (opt && tr_yaml_is_null(node))
        rc = tr_fail(err, TR_CONFIG, "%s: %s has no value; give it one, or "
                     "remove the line", where, name);
    else if (!opt || node->kind == TR_YAML_SCALAR)
        tr_buf_adds(&value, node->value);
    else
        rc = join(&value, opt, node, where, err);
    if (rc == TR_OK && !tr_buf_ok(&value))
        rc = tr_fail(err, TR_NOMEM, "out of memory");
    if (rc == TR_OK)
        rc = tr_config_put(cfg, TR_FROM_CONFIG, name, tr_buf_str(&value), where,
                           err);
    tr_buf_release(&value);
    return rc;
}

/* The user's config.yaml: options by name. */
static int load_file(struct tr_config *cfg, struct tr_err *err)
{
    struct tr_arena arena;
    struct tr_buf text, path;
    struct tr_yaml *root = NULL;
    int rc = TR_OK;

    tr_arena_init(&arena);
    tr_buf_init(&text, CONFIG_BYTES_MAX);
    tr_buf_init(&path, 8192);
    tr_buf_addf(&path, "%s/config.yaml", cfg->dir);
    if (!tr_buf_ok(&path))
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    TRY(read_file(path.p, &text, err));
    if (tr_str_trim(tr_buf_str(&text)).n == 0)
        goto out;
    TRY(tr_yaml_parse(&root, &arena, tr_buf_str(&text), path.p, err));
    if (!root || tr_yaml_is_null(root))
        goto out;
    if (root->kind != TR_YAML_MAP)
        TRY(tr_fail(err, TR_CONFIG,
                    "%s: options belong here, one a line, such as model: local",
                    path.p));
    for (const struct tr_yaml *n = root->first; n; n = n->next) {
        /* Tables of providers and models: the lane's affair. */
        if (!tr_str_eq_c(n->key, "providers") && !tr_str_eq_c(n->key, "models"))
            TRY(put_node(cfg, path.p, n, err));
    }
out:
    tr_buf_release(&path);
    tr_buf_release(&text);
    tr_arena_release(&arena);
    return rc;
}

static void drop(struct value *v)
{
    while (v->count)
        tr_free(v->texts[--v->count]);
}

static int set_default(struct value *v, const struct tr_option *opt)
{
    drop(v);
    v->rank = TR_FROM_DEFAULT;
    return opt->fallback ? keep(v, opt, TR_FROM_DEFAULT,
                                tr_str_c(opt->fallback), NULL)
                         : TR_OK;
}

/* What an earlier load took: a list would be there twice. */
static int unload(struct tr_config *cfg, struct tr_err *err)
{
    for (size_t i = 0; i < tr_option_count; i++) {
        struct value *v = &cfg->values[i];

        if ((v->rank == TR_FROM_ENV || v->rank == TR_FROM_CONFIG) &&
            set_default(v, &tr_options[i]) != TR_OK)
            return tr_fail(err, TR_NOMEM, "out of memory");
    }
    return TR_OK;
}

/* What Kubernetes puts into TROMMEL_METRICS_PORT for a service of the name
 * trommel-metrics; no option takes such a value. */
static bool is_service(const char *value)
{
    static const char *const begins[] = {"tcp://", "udp://", "sctp://"};

    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strncmp(value, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

/* A budget in a variable whose name is misspelt would be none, and whoever sets
 * TROMMEL_OFFLINE does not want to pay. Names that are like none of ours are
 * somebody else's: Kubernetes makes some for a service that has our name. */
static int check_variables(struct tr_config *cfg, struct tr_err *err)
{
    static const char ours[] = "TROMMEL_";

    for (char **e = environ; e && *e; e++) {
        const char *equals = strchr(*e, '=');
        const struct tr_option *opt;
        const char *meant;
        char name[80], spelt[80];
        size_t n = 0;

        if (strncmp(*e, ours, sizeof ours - 1) != 0 || !equals || !equals[1] ||
            is_service(equals + 1))
            continue;
        for (const char *c = *e + sizeof ours - 1;
             c < equals && n < sizeof name - 1; c++)
            name[n++] = *c == '_' ? '-' : *c >= 'A' && *c <= 'Z'
                                              ? (char)(*c - 'A' + 'a') : *c;
        name[n] = '\0';
        opt = tr_option_find(tr_str_c(name));
        meant = opt ? opt->name : nearest(TR_FROM_ENV, name);
        if (!meant)
            continue;
        spell(spelt, sizeof spelt, TR_FROM_ENV, meant);
        if (!tr_str_eq_c(tr_str(*e, (size_t)(equals - *e)), spelt))
            return tr_fail(err, TR_USAGE,
                           "unknown variable %.*s; did you mean %s?",
                           (int)(equals - *e), *e, spelt);
        if (opt && !(opt->where & E)) /* is refused, with what to do */
            return tr_config_put(cfg, TR_FROM_ENV, meant, tr_str_c(equals + 1),
                                 spelt, err);
    }
    return TR_OK;
}

int tr_config_load(struct tr_config *cfg, const char *(*env)(const char *),
                   struct tr_err *err)
{
    int rc = TR_OK;

    TRY(unload(cfg, err));
    if (!env)
        TRY(check_variables(cfg, err));
    if (!env)
        env = from_system;
    for (size_t i = 0; i < tr_option_count; i++) {
        const struct tr_option *opt = &tr_options[i];
        char name[80];
        const char *text;

        spell(name, sizeof name, TR_FROM_ENV, opt->name);
        text = opt->where & E ? env(name) : NULL;
        if (text && *text)
            TRY(tr_config_put(cfg, TR_FROM_ENV, opt->name, tr_str_c(text),
                              name, err));
    }
    TRY(find_dir(cfg, env, err));
    if (cfg->dir)
        TRY(load_file(cfg, err));
out:
    return rc;
}

const char *tr_config_dir(const struct tr_config *cfg)
{
    return cfg->dir ? cfg->dir : "";
}

/* ---- life ------------------------------------------------------------- */

struct tr_config *tr_config_new(void)
{
    struct tr_config *cfg = tr_alloc(sizeof *cfg);

    for (size_t i = 0; cfg && i < tr_option_count; i++) {
        if (set_default(&cfg->values[i], &tr_options[i]) != TR_OK) {
            tr_config_free(cfg);
            cfg = NULL;
        }
    }
    return cfg;
}

int tr_config_unset(struct tr_config *cfg, const char *name)
{
    const struct tr_option *opt = tr_option_find(tr_str_c(name));

    return opt ? set_default(&cfg->values[opt - tr_options], opt) : TR_OK;
}

void tr_config_free(struct tr_config *cfg)
{
    if (!cfg)
        return;
    for (size_t i = 0; i < tr_option_count; i++) {
        struct value *v = &cfg->values[i];

        drop(v);
        tr_free(v->texts);
    }
    tr_free(cfg->dir);
    tr_free(cfg);
}

struct tr_config *tr_config_dup(const struct tr_config *cfg)
{
    struct tr_config *copy = tr_alloc(sizeof *copy);
    int rc = copy ? TR_OK : TR_NOMEM;

    for (size_t i = 0; rc == TR_OK && i < tr_option_count; i++) {
        const struct value *v = &cfg->values[i];

        copy->values[i].rank = v->rank;
        for (size_t k = 0; rc == TR_OK && k < v->count; k++)
            rc = keep(&copy->values[i], &tr_options[i], v->rank,
                      tr_str_c(v->texts[k]), NULL);
    }
    if (rc == TR_OK && cfg->dir) {
        copy->dir = tr_dup(cfg->dir, strlen(cfg->dir));
        rc = copy->dir ? TR_OK : TR_NOMEM;
    }
    if (rc != TR_OK) {
        tr_config_free(copy);
        copy = NULL;
    }
    return copy;
}

/* ---- readers ---------------------------------------------------------- */

const char *tr_config_text(const struct tr_config *cfg, const char *name)
{
    const struct value *v = value_of(cfg, name);

    return v->count ? v->texts[0] : NULL;
}

bool tr_config_flag(const struct tr_config *cfg, const char *name)
{
    const char *text = tr_config_text(cfg, name);

    return text && strcmp(text, "yes") == 0;
}

int64_t tr_config_int(const struct tr_config *cfg, const char *name)
{
    int64_t n = 0;

    read_int(tr_str_c(tr_config_text(cfg, name)), &n);
    return n;
}

int32_t tr_config_small(const struct tr_config *cfg, const char *name)
{
    int64_t n = tr_config_int(cfg, name);

    return n < INT32_MAX ? (int32_t)n : INT32_MAX;
}

int64_t tr_config_ms(const struct tr_config *cfg, const char *name)
{
    int64_t ms = 0;

    read_time(tr_str_c(tr_config_text(cfg, name)), &ms);
    return ms;
}

int64_t tr_config_nano(const struct tr_config *cfg, const char *name)
{
    int64_t nano;

    return read_decimal(tr_str_c(tr_config_text(cfg, name)), &nano) ? nano : -1;
}

size_t tr_config_list(const struct tr_config *cfg, const char *name,
                      const char *const **values)
{
    const struct value *v = value_of(cfg, name);

    *values = (const char *const *)v->texts;
    return v->count;
}

enum tr_rank tr_config_rank(const struct tr_config *cfg, const char *name)
{
    return value_of(cfg, name)->rank;
}

bool tr_config_is_set(const struct tr_config *cfg, const char *name)
{
    return tr_config_rank(cfg, name) > TR_FROM_DEFAULT;
}
