/* exposition.h - parts of a page of metrics in Prometheus text (exposition format 0.0.4).
 * Histograms: histogram.h.
 */
#pragma once

#include <stdio.h>

/* HELP and TYPE of a family; type "counter", "gauge", "histogram". */
void exposition_head(FILE *out, const char *name, const char *type, const char *help);
/* A family of one value without labels. */
void exposition_one(FILE *out, const char *name, const char *type, const char *help, double value);
/* Of this process, under the names that every program with such a page has.
 * program: its name, for HELP. */
void exposition_process(FILE *out, const char *program);
