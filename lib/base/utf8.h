/* utf8.h - is it UTF-8, and if not, what does it look like; trimmed and tamed.
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_UTF8_H
#define TR_BASE_UTF8_H

#include "base/str.h"

/* Bytes of the longest valid prefix; s.n when all of s is valid UTF-8
 * (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */
size_t tr_utf8_valid(struct tr_str s);

/* Bytes of the valid character that s begins with; 0: there is none. */
size_t tr_utf8_first(struct tr_str s);

/* Characters in valid UTF-8; every stray byte of other text counts as one. */
size_t tr_utf8_count(struct tr_str s);

/* Bytes above 0x7f stand alone and mean something in Windows-1252. */
bool tr_utf8_looks_1252(struct tr_str s);

/* The longest prefix of at most n bytes that does not split a character. */
size_t tr_utf8_cut(struct tr_str s, size_t n);

/* Without blanks at both ends: ASCII ones, no-break, narrow, zero width and
 * ideographic spaces, BOM. */
struct tr_str tr_utf8_trim(struct tr_str s);

/* Bytes of the blank that s begins with, one of those; 0: none. *wide: it takes
 * up room on a line. */
size_t tr_utf8_blank(struct tr_str s, bool *wide);

/* A text for people, made fit to be shown: what is no UTF-8 and control
 * characters, which could steer a terminal or begin a line of a log, become
 * '?'; a character that was cut at the end goes. Never longer than before. */
void tr_utf8_tame(char *text);

#endif
