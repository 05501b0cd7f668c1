/* fuzz_args.c - a command line: it is refused in one sentence, or the
 * settings it makes, written out one by one, make the same settings again.
 *
 * Input: the words, one a line.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "args.h"
#include "config.h"

enum { WORDS_MAX = 60 };

static int said; /* sentences; term_say() is wrapped */

void __wrap_term_say(struct term *t, int level, const char *text);

void __wrap_term_say(struct term *t, int level, const char *text)
{
    (void)t;
    CHECK(level == SAY_ERROR && text[0] && fuzz_is_plain(text));
    said++;
}

/* What the handle holds first (api.c). */
static const struct tr_config *inner(const trommel_config *cfg)
{
    return *(const struct tr_config *const *)(const void *)cfg;
}

static void check_same(const trommel_config *a, const trommel_config *b)
{
    for (size_t i = 0; i < tr_option_count; i++) {
        const char *name = tr_options[i].name;
        const char *const *x, *const *y;
        size_t n = tr_config_list(inner(a), name, &x);

        CHECK(tr_config_list(inner(b), name, &y) == n);
        CHECK(tr_config_is_set(inner(a), name) ==
              tr_config_is_set(inner(b), name));
        for (size_t k = 0; k < n; k++)
            CHECK(strcmp(x[k], y[k]) == 0);
    }
}

/* What a value that was taken may be. */
static void check_values(const struct tr_config *cfg)
{
    for (size_t i = 0; i < tr_option_count; i++) {
        const struct tr_option *o = &tr_options[i];

        if (!tr_config_text(cfg, o->name))
            continue;
        switch (o->type) {
        case TR_OPT_INT:
        case TR_OPT_COUNT: /* the default of these is 0, a said one is not */
            CHECK(tr_config_int(cfg, o->name) >=
                  (o->type == TR_OPT_COUNT &&
                   tr_config_is_set(cfg, o->name)));
            break;
        case TR_OPT_TIME:
            CHECK(tr_config_ms(cfg, o->name) >= 0);
            CHECK(tr_config_ms(cfg, o->name) <=
                  INT64_C(366) * 86400000); /* times 10^6 is still a number */
            break;
        case TR_OPT_MONEY:
            CHECK(tr_config_nano(cfg, o->name) >= 0);
            break;
        default:
            break;
        }
    }
}

static void check_again(const trommel_config *cfg, struct term *term)
{
    trommel_config *again = trommel_config_new();
    char **words = NULL, name[] = "trommel";
    int n = 0;
    bool help;

    CHECK(again);
    for (size_t i = 0; i < tr_option_count; i++) {
        const char *const *values;
        size_t count = tr_config_list(inner(cfg), tr_options[i].name, &values);

        if (!tr_config_is_set(inner(cfg), tr_options[i].name))
            continue;
        for (size_t k = 0; k < count; k++) {
            size_t size = strlen(values[k]) + 100;

            words = realloc(words, (size_t)(n + 3) * sizeof *words);
            CHECK(words);
            if (n == 0)
                words[n++] = name;
            words[n] = malloc(size);
            CHECK(words[n]);
            snprintf(words[n++], size, "--%s=%s", tr_options[i].name,
                     values[k]);
            words[n] = NULL;
        }
    }
    CHECK(args_read(n, words, again, term, &help) == 0 && !help);
    check_same(cfg, again);
    while (n > 1)
        free(words[--n]);
    free(words);
    trommel_config_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1), name[] = "trommel";
    char *words[WORDS_MAX + 2] = {name};
    int count = 1, rc;
    trommel_config *cfg = trommel_config_new();
    struct term term = {0};
    bool help = false;

    CHECK(text && cfg);
    memcpy(text, data, n);
    text[n] = '\0';
    for (char *p = text; p < text + n && count <= WORDS_MAX;) {
        char *end = strchr(p, '\n');

        words[count++] = p;
        if (!end)
            break;
        *end = '\0';
        p = end + 1;
    }
    said = 0;
    rc = args_read(count, words, cfg, &term, &help);
    CHECK(said == (rc != 0));
    CHECK(rc == 0 || rc == 2);
    CHECK(!help || rc == 0);
    check_values(inner(cfg));
    if (rc == 0 && !help)
        check_again(cfg, &term);
    trommel_config_free(cfg);
    free(text);
    return 0;
}
