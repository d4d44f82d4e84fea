/* monitor.h - what a graph's monitor topic gets (spec iottalk-core 6): a monitor_info for a message
 * that went its way, an esm_error for what did not, an esm_print for what functions print.
 *
 * A monitor_info is written stage by stage, since functions may change the values they are given.
 * What does not fit into the text is noticed at the end.
 */
#pragma once

#include "engine/graph.h"

struct monitor {
	struct text *out; /* NULL: the graph is not monitored, nothing is done */
	bool fits;
	enum { MONITOR_IDF, MONITOR_JOIN, MONITOR_ODF } stage;
	bool any_odf;
};

void monitor_begin(struct monitor *m, struct text *out, const struct link *idf);
/* Input of the stage: n values. */
void monitor_input(struct monitor *m, struct val *const *values, size_t n);
/* Output of the stage, which ends it. */
void monitor_output(struct monitor *m, struct given g);
/* What was sent to an ODF: json, a list; NULL: nothing. `scalar`: put brackets around. */
void monitor_odf(struct monitor *m, const struct link *odf, const char *json, size_t len,
		 bool scalar);
/* Complete the message. ret: true if there is one to send. */
bool monitor_end(struct monitor *m);

/* Write an esm_print: what was printed by a function of a link, or of the join (link NULL); as much of
 * its beginning as fits. left_out: others before it were not told. ret: false if nothing fits. */
bool monitor_print(struct text *out, const char *stage, const struct link *link, uint64_t left_out,
		   const char *text, size_t len);

/* Write an esm_error: stage is "idf", "join" or "odf". ret: false if it does not fit even without
 * the source. */
bool monitor_error(struct text *out, const char *stage, const char *msg, size_t msg_len,
		   const struct fn_use *use);
