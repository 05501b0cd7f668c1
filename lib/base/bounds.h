/* bounds.h - what decides how much memory a run takes, and how long connections
 * live. Maxima that concern one file only stand there.
 *
 * Memory in the worst case, without the local model:
 *   rows in memory      TR_WINDOW_BYTES
 *   requests            concurrency x (body + reply), shared TR_BODIES_BYTES
 *   SQLite cache        TR_STORE_CACHE_BYTES, or the larger read cache while
 *                       there are no requests
 *   seen-keys filter    TR_FILTER_BYTES
 *   saved answers       TR_STAGED_MAX
 *   label sets          TR_SETS_BYTES, of large ones
 *   output buffer       TR_SINK_BYTES
 * which stays within 64 MiB together with code and libraries. --batch holds
 * more rows (TR_BATCH_WINDOW_BYTES) and stays within 192 MiB.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_BASE_BOUNDS_H
#define TR_BASE_BOUNDS_H

#define TR_RECORD_BYTES_MAX (8u << 20)  /* one record: a page of text x 1000 */
#define TR_FIELDS_MAX 4096u             /* columns of a CSV file */
#define TR_BLOCK_ROWS 1024u             /* rows of a block */
#define TR_BLOCK_BYTES (256u << 10)     /* bytes of a block, unless one record
                                           is larger */
#define TR_WINDOW_BYTES (13u << 20)     /* rows in memory, structs included */
#define TR_BATCH_WINDOW_BYTES (96u << 20) /* the same with --batch: every row
                                 that a batch asks about is in memory */
#define TR_REPLY_BYTES_MAX (8u << 20)   /* one response body */
#define TR_HEADER_BYTES_MAX (64u << 10) /* all headers of one request's replies,
                                           1xx and trailers included */
#define TR_BODIES_BYTES (8u << 20)      /* request bodies planned or in flight:
                                           with more no pack is formed */
#define TR_STORE_CACHE_BYTES (16u << 20)
#define TR_STORE_READ_CACHE_BYTES (40u << 20) /* until the first answer is
                                 written: nothing else needs the memory yet */
#define TR_LOG_PAGES 12000              /* of 4 KiB, then the log is merged */
#define TR_LOG_BYTES (64 << 20)         /* beyond that it is cut when it begins
                                           anew: one commit may be larger */
#define TR_FILTER_BYTES (2u << 20)
#define TR_STAGED_MAX (64u << 10)       /* answers between two commits, 48
                                           bytes each in memory */
#define TR_ORIGINS_OWN 4096u  /* runs and models of a store that have a number
                                 each: a run a day for ten years. Later ones
                                 go on with the last */
#define TR_ORIGINS_LEAST 1024u /* numbers left for which nothing but a run
                                 with --fresh gets one of its own. All 65,535
                                 are 19 MB in memory */
#define TR_RESCUE_BYTES (2u << 20)      /* on disk, for what is under way when
                                 the store fails: 60,000 answers; a thousand
                                 requests with packs of 50 */
/* Of a connection, in seconds. Middleboxes forget one that is silent, some after
 * a minute, most after four; whoever sends on it then waits for nothing. */
#define TR_CONN_IDLE_S 60   /* unused so long, it is not used again: a new one
                               costs less than a request that is lost */
#define TR_CONN_LIFE_S 600  /* then its server's name is looked up again: it may
                               have moved. Counts between requests */
#define TR_NAME_S 10        /* what a name resolved to holds for new connections;
                               a server that has moved is gone no longer */
#define TR_CONN_PROBE_S 30  /* silent so long, the other side is asked ... */
#define TR_CONN_PROBES_S 10 /* ... and again: about two minutes until it is
                               known to be gone */
#define TR_SINK_BYTES (256u << 10)
#define TR_LABELS_MAX 10000u
#define TR_SETS_BYTES (8u << 20)        /* combinations of more labels than a
                                 number says (lib/task/combos.h): some 80,000.
                                 From half of it on nothing more is asked */
#define TR_TASK_BYTES_MAX (16u << 20)   /* task file with its examples */
#define TR_JSON_DEPTH_MAX 64

#endif
