/* args.c - the command line into settings, and the table into help.
 *
 * Options stand anywhere; "--name value", "--name=value", "-n value",
 * "-nvalue", "-n=value", flags in one word ("-qv"); "--" ends them. What a
 * value may be is the library's affair: only which options take one is known
 * here.
 *
 * SPDX-License-Identifier: MIT */
#include "args.h"

#include <string.h>

enum type {
    HEADING, FLAG, TEXT, LIST, INT, COUNT, MONEY, TIME, CHOICE, WORDS
};
enum { C = 1, E = 2, T = 4, U = 8 };

struct option {
    const char *name; /* of a HEADING: its words */
    char letter;
    enum type type;
    const char *fallback;
    int where;
    const char *argument, *help;
};

static const struct option options[] = {
#define GROUP(heading) {heading, 0, HEADING, NULL, 0, NULL, NULL},
#define OPT(name, letter, type, fallback, where, argument, help)               \
    {#name, letter, type, fallback, where, argument, help},
#include "options.def"
};
enum { OPTION_COUNT = sizeof options / sizeof options[0] };

static const struct option *find(const char *name, size_t n, char letter)
{
    for (const struct option *o = options; o < options + OPTION_COUNT; o++) {
        if (o->type == HEADING || !(o->where & C))
            continue;
        if (letter ? o->letter == letter
                   : strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    }
    return NULL;
}

/* The library's sentence, which names the option and what it wants. */
static int refuse(struct term *term, const trommel_config *cfg, int rc)
{
    term_say(term, SAY_ERROR, trommel_config_error(cfg));
    return trommel_exit_code(rc);
}

/* Letters of one word, such as -v, -qv, -ofile or "-o file". */
static int read_letters(const char *word, const char *next,
                        trommel_config *cfg, struct term *term, int *used)
{
    for (const char *c = word + 1; *c; c++) {
        const struct option *o = find(NULL, 0, *c);
        const char *value = "yes";
        char text[80];
        int rc;

        if (!o) {
            bool letter = *c > ' ' && *c < 0x7f; /* else it may be half a
                                                    character, or worse */

            snprintf(text, sizeof text,
                     "unknown option %s%c; see trommel help classify",
                     letter ? "-" : "after ", letter ? *c : '-');
            term_say(term, SAY_ERROR, text);
            return 2;
        }
        if (o->type != FLAG) {
            value = !c[1] ? next : c[1] == '=' && c[2] ? c + 2 : c + 1;
            *used = c[1] ? 0 : 1;
            if (!value) {
                snprintf(text, sizeof text, "-%c needs a value: %s", *c,
                         o->argument);
                term_say(term, SAY_ERROR, text);
                return 2;
            }
        }
        rc = trommel_config_set(cfg, o->name, value);
        if (rc != 0)
            return refuse(term, cfg, rc);
        if (o->type != FLAG)
            break;
    }
    return 0;
}

/* "--name value" or "--name=value". */
static int read_word(const char *word, const char *next, trommel_config *cfg,
                     struct term *term, int *used)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *o = find(name, n, 0);
    const char *value = equals ? equals + 1 : next;
    char text[120];
    int rc;

    if (!o) { /* the library knows the nearest name */
        snprintf(text, sizeof text, "%.*s", n > 100 ? 100 : (int)n, name);
        rc = trommel_config_set(cfg, text, value ? value : "");
        return refuse(term, cfg, rc == 0 ? TROMMEL_EUSAGE : rc);
    }
    if (o->type == FLAG && !equals)
        value = "yes";
    else if (!equals)
        *used = 1;
    if (!value) {
        snprintf(text, sizeof text, "--%s needs a value: %s", o->name,
                 o->argument);
        term_say(term, SAY_ERROR, text);
        return 2;
    }
    rc = trommel_config_set(cfg, o->name, value);
    return rc == 0 ? 0 : refuse(term, cfg, rc);
}

int args_read(int argc, char **argv, trommel_config *cfg, struct term *term,
              bool *help)
{
    bool ended = false; /* by "--" */

    *help = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        int used = 0, rc;

        if (!ended && strcmp(word, "--") == 0) {
            ended = true;
            continue;
        }
        if (!ended &&
            (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            *help = true;
            return 0;
        }
        if (ended || word[0] != '-' || word[1] == 0) {
            rc = trommel_config_set(cfg, "input", word);
            rc = rc == 0 ? 0 : refuse(term, cfg, rc);
        } else if (word[1] == '-') {
            rc = read_word(word, argv[i + 1], cfg, term, &used);
        } else {
            rc = read_letters(word, argv[i + 1], cfg, term, &used);
        }
        if (rc != 0)
            return rc;
        i += used;
    }
    return 0;
}

bool args_is(const trommel_config *cfg, const char *name, const char *word)
{
    const char *value = trommel_config_get(cfg, name);

    return value && strcmp(value, word) == 0;
}

void args_tell(const trommel_config *cfg, struct term *term)
{
    term_options(term, args_is(cfg, "no-color", "yes"),
                 args_is(cfg, "quiet", "yes"),
                 args_is(cfg, "progress", "json"));
}

/* ---- help ------------------------------------------------------------- */

enum { COLUMN = 27, WIDTH = 79 }; /* where help begins and lines end */

/* Words of text from column COLUMN on; the pen stands at column at. */
static void put_wrapped(FILE *out, const char *text, int at)
{
    if (at > COLUMN - 2) {
        putc('\n', out);
        at = 0;
    }
    fprintf(out, "%*s", COLUMN - at, "");
    at = COLUMN;
    while (*text) {
        int n = (int)strcspn(text, " ");

        if (at > COLUMN && at + 1 + n > WIDTH) {
            fprintf(out, "\n%*s", COLUMN, "");
            at = COLUMN;
        } else if (at > COLUMN) {
            putc(' ', out);
            at++;
        }
        fwrite(text, 1, (size_t)n, out);
        at += n;
        text += n + (text[n] == ' ');
    }
    putc('\n', out);
}

void args_help(FILE *out)
{
    for (const struct option *o = options; o < options + OPTION_COUNT; o++) {
        char left[120], right[400];
        bool says_default;

        if (o->type == HEADING) {
            fprintf(out, "\n%s:\n", o->name);
            continue;
        }
        if (!(o->where & C))
            continue;
        if (strcmp(o->name, "input") == 0)
            snprintf(left, sizeof left, "  %s...", o->argument);
        else
            snprintf(left, sizeof left, "  %c%c%s--%s%s%s",
                     o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                     o->letter ? ", " : "  ", o->name, o->argument ? " " : "",
                     o->argument ? o->argument : "");
        fputs(left, out);
        says_default = strstr(o->help, "(default") != NULL;
        snprintf(right, sizeof right,
                 o->fallback && strcmp(o->fallback, "0") != 0 && !says_default
                     ? "%s (default: %s)"
                     : "%s",
                 o->help, o->fallback);
        put_wrapped(out, right, (int)strlen(left));
    }
}
