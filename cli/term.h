/* term.h - standard error: what it is, and one way to say a line on it.
 *
 * Data goes to standard output, everything said here to standard error.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stdbool.h>
#include <stdio.h>

/* As trommel_run_message() counts them. */
enum { SAY_ERROR, SAY_WARNING, SAY_NOTE, SAY_LOG };

struct term {
    bool tty;    /* a terminal that can redraw a line */
    bool color;
    bool utf8;
    bool json;   /* every line is one JSON object */
    bool quiet;  /* errors only */
    bool drawn;  /* a live line stands and must go before others */
};

void term_init(struct term *t);
/* --no-color, --quiet and --progress are known now. */
void term_options(struct term *t, bool no_color, bool quiet, bool json);
int term_columns(void); /* COLUMNS, the terminal's word, or 80 */
void term_clear(struct term *t); /* takes the live line away */
/* One line, and one line only: what would move the pen, colour it or turn the
 * direction of writing is shown as \xNN. */
void term_say(struct term *t, int level, const char *text);
/* The same for a piece of text that goes to out. */
void term_put(FILE *out, const char *text);
/* And in place: such bytes become '?'. Returns it. */
char *term_plain(char *text);

#endif
