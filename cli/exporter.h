/* exporter.h - serves a run's numbers over HTTP: /metrics, /status.json.
 *
 * A thread of libmicrohttpd answers from the last snapshot; the run's own
 * thread only renews it. So a slow or hostile client never touches the run.
 *
 * SPDX-License-Identifier: MIT */
#ifndef CLI_EXPORTER_H
#define CLI_EXPORTER_H

#include <trommel.h>

#include <stdbool.h>
#include <stddef.h>

struct exporter;

/* where: ADDR:PORT, [ADDR]:PORT or :PORT (127.0.0.1); port 0 is any free one.
 * 0 or a negative TROMMEL_E code with a sentence in why. */
int exporter_open(struct exporter **out, const char *where, char *why,
                  size_t why_n);
/* "http://127.0.0.1:9464/metrics" */
const char *exporter_url(const struct exporter *e);
/* Other machines can reach it. */
bool exporter_is_public(const struct exporter *e);
/* Call often; takes a snapshot when it is time, or now_please. */
void exporter_tick(struct exporter *e, trommel_run *run, bool now_please);
void exporter_close(struct exporter *e); /* accepts NULL */

#endif
