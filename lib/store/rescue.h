/* rescue.h - the file for what comes after the store has failed.
 *
 * Requests that are under way when a disk is full or fails will be paid for.
 * Their answers go here: DIGEST.rescue beside the store, room for which is
 * taken from the disk before the first request leaves. The next open puts them
 * where they belong. A run that ends well removes it.
 *
 * Records follow each other, each with a digest over what it holds; the first
 * one that is not whole ends them.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_STORE_RESCUE_H
#define TR_STORE_RESCUE_H

#include "base/buf.h"
#include "store/store.h"

enum { TR_RESCUE_PUT_BYTES = 40 }; /* more than an answer takes of a record */

struct tr_rescue {
    int fd;                /* -1: nothing is reserved */
    size_t at;             /* where the next record goes */
    struct tr_buf record;  /* in the making */
};

void tr_rescue_init(struct tr_rescue *r);
/* Takes the room, once. db_path as in tr_store_path(). TR_IO: the disk has not
 * got it. */
int tr_rescue_reserve(struct tr_rescue *r, const char *db_path,
                      struct tr_err *err);

/* What the record holds. Origins and sets stand before what names them. */
void tr_rescue_origin(struct tr_rescue *r, uint32_t index,
                      const struct tr_origin *o);
void tr_rescue_set(struct tr_rescue *r, uint32_t index, struct tr_str names);
void tr_rescue_put(struct tr_rescue *r, const struct tr_store_put *put);
void tr_rescue_outcome(struct tr_rescue *r, const struct tr_store_outcome *o);
/* The record is durable when it returns TR_OK. Else it is not there, and a
 * later one may be. */
int tr_rescue_write(struct tr_rescue *r, struct tr_err *err);

/* An item of an earlier process. Strings are borrowed. */
struct tr_rescued {
    enum { TR_RESCUED_ORIGIN = 'o', TR_RESCUED_SET = 's', TR_RESCUED_PUT = 'p',
           TR_RESCUED_OUTCOME = 'u' } kind;
    uint32_t index;        /* of an origin or a set */
    struct tr_origin origin;
    struct tr_str names;
    struct tr_store_put put;
    struct tr_store_outcome outcome;
};
/* Gives each to each(), in their order, until that fails. No file: nothing.
 * *any: there was an item. */
int tr_rescue_read(const char *db_path,
                   int (*each)(void *ctx, const struct tr_rescued *item,
                               struct tr_err *err),
                   void *ctx, bool *any, struct tr_err *err);
/* TR_CONFIG and the sentence for what names things that the store has not. */
int tr_rescue_foreign(const char *db_path, struct tr_err *err);
/* What was read stands in the store now. Before anything newer does: it must
 * never be read again. No file: nothing. */
int tr_rescue_clear(const char *db_path, struct tr_err *err);
/* A file that nothing was written to goes. */
void tr_rescue_close(struct tr_rescue *r, const char *db_path);

#endif
