/* spill.h - settled blocks that wait behind a stuck row, on disk.
 *
 * An unlinked temporary file (beside the output, else $TMPDIR): it is gone
 * with the process, whatever ends it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_ROWS_SPILL_H
#define TR_ROWS_SPILL_H

#include "base/err.h"
#include "nouns.h"

struct tr_spill {
    int fd;            /* -1: not opened yet */
    int64_t end;       /* bytes used */
    uint32_t blocks;   /* blocks inside; at 0 the file is cut back */
    const char *folder; /* NULL: $TMPDIR, else /tmp; borrowed */
};

void tr_spill_init(struct tr_spill *s, const char *folder);
/* Writes rows and bytes and sets block->spilled_at; memory stays. */
int tr_spill_put(struct tr_spill *s, struct tr_block *block,
                 struct tr_err *err);
/* Reads them back into block->rows and block->bytes (allocated by the
 * caller with the same capacities). */
int tr_spill_get(struct tr_spill *s, struct tr_block *block,
                 struct tr_err *err);
void tr_spill_release(struct tr_spill *s);

#endif
