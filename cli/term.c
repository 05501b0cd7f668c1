/* term.c - standard error: what it is, and one way to say a line on it.
 *
 * The conventions of NO_COLOR, CLICOLOR_FORCE, TERM=dumb and CI stand here
 * and nowhere else.
 *
 * SPDX-License-Identifier: MIT */
#include "term.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool env_set(const char *name)
{
    const char *value = getenv(name);

    return value && *value;
}

/* As env_set(), but 0 says no. */
static bool env_forced(const char *name)
{
    return env_set(name) && strcmp(getenv(name), "0") != 0;
}

void term_init(struct term *t)
{
    const char *name = getenv("TERM");
    bool tty = isatty(2) && !(name && strcmp(name, "dumb") == 0);

    *t = (struct term){.tty = tty && !env_set("CI"), .color = tty};
    if (env_set("NO_COLOR"))
        t->color = false;
    else if (env_forced("CLICOLOR_FORCE") || env_forced("FORCE_COLOR"))
        t->color = true;
    setlocale(LC_CTYPE, "");
    t->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

void term_options(struct term *t, bool no_color, bool quiet, bool json)
{
    t->color = t->color && !no_color && !json;
    t->quiet = quiet;
    t->json = json;
}

int term_columns(void)
{
    const char *env = getenv("COLUMNS");
    long n = env ? strtol(env, NULL, 10) : 0;
    struct winsize size;

    if (n >= 10 && n <= 1000)
        return (int)n;
    if (ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col >= 10)
        return size.ws_col;
    return 80;
}

void term_clear(struct term *t)
{
    if (t->drawn)
        fputs("\r\033[K", stderr);
    t->drawn = false;
}

/* Bytes at p that are no text to be shown but orders to the terminal: controls
 * (C0, DEL, C1), and Unicode's marks that turn the direction of writing. */
static size_t order_at(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;

    if ((u[0] && u[0] < 0x20) || u[0] == 0x7f)
        return 1;
    if (u[0] == 0xc2 && u[1] >= 0x80 && u[1] < 0xa0)
        return 2;
    if (u[0] == 0xe2 && ((u[1] == 0x80 && u[2] >= 0xaa && u[2] <= 0xae) ||
                         (u[1] == 0x81 && u[2] >= 0xa6 && u[2] <= 0xa9)))
        return 3;
    return 0;
}

char *term_plain(char *text)
{
    for (char *p = text; *p;) {
        size_t n = order_at(p);

        memset(p, '?', n);
        p += n ? n : 1;
    }
    return text;
}

void term_put(FILE *out, const char *text)
{
    while (*text) {
        size_t n = order_at(text);

        if (!n)
            putc(*text++, out);
        for (; n; n--)
            fprintf(out, "\\x%02x", (unsigned)(unsigned char)*text++);
    }
}

/* Text as a JSON string; control bytes other than the line end are dropped,
 * they have no place in a message. */
static void put_json(const char *text)
{
    putc('"', stderr);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(stderr, "\\%c", *text);
        else if (*text == '\n')
            fputs("\\n", stderr);
        else if ((unsigned char)*text >= 0x20)
            putc(*text, stderr);
    }
    putc('"', stderr);
}

void term_say(struct term *t, int level, const char *text)
{
    static const struct {
        const char *word, *prefix, *color;
    } levels[] = {
        [SAY_ERROR] = {"error", "trommel: ", "\033[1;31m"},
        [SAY_WARNING] = {"warning", "warning: ", "\033[33m"},
        [SAY_NOTE] = {"note", "", ""},
        [SAY_LOG] = {"log", "", ""},
    };

    if (level < SAY_ERROR || level > SAY_LOG)
        level = SAY_NOTE;
    if (t->quiet && level > SAY_ERROR)
        return;
    term_clear(t);
    if (t->json) {
        fprintf(stderr, "{\"level\":\"%s\",\"message\":", levels[level].word);
        put_json(text);
        fputs("}\n", stderr);
        return;
    }
    fprintf(stderr, "%s%s%s", t->color ? levels[level].color : "",
            levels[level].prefix,
            t->color && *levels[level].color ? "\033[0m" : "");
    term_put(stderr, text);
    putc('\n', stderr);
}
