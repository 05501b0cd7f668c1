/* suspect.h - does a text look as if it spoke to the model? Pure.
 *
 * A hint that sends a row to be asked alone, no more: no row is dropped or
 * labelled by it, and a text that does not look so may still be hostile.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_SUSPECT_H
#define TR_PLAN_SUSPECT_H

#include "nouns.h"

enum tr_suspicion {
    TR_SUSPECT_NOT,
    TR_SUSPECT_OTHERS,    /* an order about all texts, or other ones */
    TR_SUSPECT_OVERRIDE,  /* rules that are to be forgotten */
    TR_SUSPECT_LABEL,     /* an order with a label's name */
    TR_SUSPECT_ID,        /* a number like an id, and a label's name */
    TR_SUSPECT_DELIMITER, /* as if the data ended here */
    TR_SUSPECT_INVISIBLE  /* characters that a reader does not see */
};

/* The first that is found. */
enum tr_suspicion tr_suspect(struct tr_str text, const struct tr_label *labels,
                             uint32_t label_count);

#endif
