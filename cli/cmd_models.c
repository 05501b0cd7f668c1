/* cmd_models.c - trommel models: which models there are, what they cost, and
 * which key each provider needs.
 * SPDX-License-Identifier: MIT */
#include "commands.h"
#include "format.h"
#include "term.h"

#include "base/clock.h"
#include "config.h"
#include "wire/provider.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: trommel models [WORD]\n"
    "\n"
    "Lists providers with the variable that holds their key, and models with\n"
    "their prices in USD per million tokens (BATCH: share of them in one);\n"
    "with WORD only those whose name contains it. A model that is not listed\n"
    "can be asked all the same; only --budget needs a price. Exit code 1: none\n"
    "matches. Your own rows: providers in config.yaml, models in models.yaml,\n"
    "both in $XDG_CONFIG_HOME/trommel.\n";

/* "0.10", "12.50", or "-" when unknown; prices are pico-dollars a token. */
static const char *price(char *out, int64_t pico)
{
    if (pico < 0)
        snprintf(out, FORMAT_BYTES, "-");
    else if (pico % 10000)
        snprintf(out, FORMAT_BYTES, "%.4f", (double)pico / 1e6);
    else
        snprintf(out, FORMAT_BYTES, "%.2f", (double)pico / 1e6);
    return out;
}

/* One line of the table of providers, below its head; how many there are. */
static size_t put_provider(size_t shown, const char *name, const char *key,
                           const char *state, const char *where)
{
    static const char form[] = "%-22s %-22s %-8s %s\n";

    if (!shown)
        printf(form, "PROVIDER", "KEY", "", "WHERE");
    printf(form, name, key, state, where);
    return shown + 1;
}

/* How many have word in their names. */
static size_t put_providers(const struct tr_catalog *c, const char *word)
{
    const struct tr_provider *rows;
    size_t n = tr_catalog_providers(c, &rows), shown = 0;

    if (strstr("local", word))
        shown = put_provider(shown, "local", "-", "", "this machine");
    for (size_t i = 0; i < n; i++) {
        const struct tr_provider *p = &rows[i];
        const char *key = p->key_env ? p->key_env : p->key_file;
        const char *state = "";

        if (!strstr(p->name, word))
            continue;
        if (p->key_env && getenv(p->key_env) && *getenv(p->key_env))
            state = "set";
        else if (p->key_env)
            state = p->key_optional ? "optional" : "not set";
        shown = put_provider(shown, p->name, key ? key : "-", state,
                             p->base_url       ? p->base_url
                             : p->base_url_env ? p->base_url_env
                                               : "-");
    }
    return shown;
}

/* ", ends 2026-12-11 (in 16 days)", ", other prices from 2027-01-01"; empty
 * when no day is known. */
static const char *days_of(char *out, size_t size, const struct tr_model *m,
                          int64_t now_s)
{
    int days = m->shutdown ? tr_days_until(m->shutdown, now_s) : INT_MAX;
    size_t used;

    out[0] = '\0';
    if (days < 0)
        snprintf(out, size, ", ended %s", m->shutdown);
    else if (days <= TR_SHUTDOWN_NEAR)
        snprintf(out, size, ", ends %s (in %d day%s)", m->shutdown, days,
                 days == 1 ? "" : "s");
    else if (days < INT_MAX)
        snprintf(out, size, ", ends %s", m->shutdown);
    used = strlen(out);
    if (m->then_from && tr_days_until(m->then_from, now_s) > 0)
        snprintf(out + used, size - used, ", other prices from %s",
                 m->then_from);
    return out;
}

/* Behind above lines; how many have word in their names. */
static size_t put_models(const struct tr_catalog *c, const char *word,
                         int64_t now_s, size_t above)
{
    const struct tr_model *rows;
    size_t n = tr_catalog_models(c, &rows), shown = 0, near = 0;

    for (size_t i = 0; i < n; i++) {
        const struct tr_model *m = &rows[i];
        char in[FORMAT_BYTES], out[FORMAT_BYTES], cached[FORMAT_BYTES];
        char wrote[FORMAT_BYTES], context[FORMAT_BYTES], most[FORMAT_BYTES];
        char batch[16] = "-", days[100];

        if (!strstr(m->name, word))
            continue;
        if (!shown++)
            printf("%s%-36s %8s %8s %8s %8s %6s %9s %8s  %s\n",
                   above ? "\n" : "", "MODEL", "IN",
                   "CACHED", "WRITTEN", "OUT", "BATCH", "CONTEXT", "MOST OUT",
                   "AS OF");
        if (m->batch_pct)
            snprintf(batch, sizeof batch, "%d %%", m->batch_pct);
        printf("%-36s %8s %8s %8s %8s %6s %9s %8s  %s%s\n", m->name,
               price(in, m->facts.price_in),
               price(cached, m->facts.price_cached),
               price(wrote, m->facts.price_cache_write),
               price(out, m->facts.price_out), batch,
               m->facts.context ? format_count(context, m->facts.context) : "-",
               m->facts.max_output ? format_count(most, m->facts.max_output)
                                   : "-",
               m->as_of ? m->as_of : "-",
               days_of(days, sizeof days, m, now_s));
        near += m->shutdown &&
                tr_days_until(m->shutdown, now_s) <= TR_SHUTDOWN_NEAR;
    }
    if (near)
        printf("\n%zu of these models %s gone, or will be within %d days: "
               "choose another in time.\nAnswers that were paid for stay in "
               "the store.\n", near, near == 1 ? "is" : "are",
               TR_SHUTDOWN_NEAR);
    return shown;
}

int cmd_models(int argc, char **argv)
{
    struct tr_config *cfg = tr_config_new();
    struct tr_catalog *catalog = NULL;
    struct tr_lane_opts o = {.model = ""};
    const char *word = argc > 1 ? argv[1] : "";
    struct tr_err err;
    size_t shown = 1;
    int rc = cfg ? TR_OK : tr_fail(&err, TR_NOMEM, "out of memory");

    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        fputs(usage, stdout);
        goto out;
    }
    if (word[0] == '-')
        TRY(tr_fail(&err, TR_USAGE, "unknown option %s; see trommel help "
                    "models", word));
    if (argc > 2)
        TRY(tr_fail(&err, TR_USAGE, "one word at most; see trommel help "
                    "models"));
    TRY(rc);
    TRY(tr_config_load(cfg, NULL, &err));
    o.config_dir = tr_config_dir(cfg);
    TRY(tr_catalog_open(&catalog, &o, &err));
    shown = put_providers(catalog, word);
    shown += put_models(catalog, word, tr_clock_wall_s(), shown);
    if (!shown)
        tr_fail(&err, TR_OK, "no provider and no model has \"%.100s\" in its "
                "name; trommel models lists them all", word);
out:
    if (rc != TR_OK || !shown)
        fprintf(stderr, "trommel: %s\n", term_plain(err.text));
    tr_catalog_close(catalog);
    tr_config_free(cfg);
    return rc == TR_OK && !shown ? 1 : tr_exit_code(rc);
}
