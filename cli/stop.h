/* stop.h - signals that stop a run: the first politely, the second at once.
 * SPDX-License-Identifier: MIT */
#ifndef CLI_STOP_H
#define CLI_STOP_H

#include "term.h"

#include <trommel.h>

/* From here on SIGINT, SIGTERM and SIGHUP wait for stop_pass_on(). One that was
 * ignored stays so: nohup keeps its meaning. */
void stop_catch(void);
/* From here on they end the program, as they do with any other. For when
 * nothing is under way. */
void stop_leave(void);

/* Before every step of a run: tells it what has come. *told: how often it was
 * told, 0 at first. */
void stop_pass_on(int *told, struct term *term, trommel_run *run);
/* The exit code of who was told to stop; 0: nobody was. */
int stop_code(void);
/* The last words on a run that was stopped; the run's or static. */
const char *stop_words(const trommel_run *run);

#endif
