/* render.h - the bytes of the output: raw records and their companions.
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_RENDER_H
#define TR_ROWS_RENDER_H

#include "base/arena.h"
#include "rows/source.h"

#define TR_COMPANIONS 4

/* How the output is written; decided once, after the header. */
struct tr_style {
    enum tr_format format;
    char delimiter;
    bool bom, crlf;
    bool guard;  /* cells that look like formulas get a ' in front */
    struct tr_str names[TR_COMPANIONS];   /* NAME, NAME_by, ...; plain */
    struct tr_str members[TR_COMPANIONS]; /* the same as JSON with a colon */
};

/* Fills names and members from name; the arena owns them. False: no memory. */
bool tr_style_name(struct tr_style *style, struct tr_arena *arena,
                   struct tr_str name);

/* header NULL: there is none, only a byte order mark may be. */
void tr_render_head(const struct tr_style *style, const struct tr_str *header,
                    struct tr_buf *out);
void tr_render_record(const struct tr_style *style, struct tr_str raw,
                      const struct tr_companions *c, struct tr_buf *out);

#endif
