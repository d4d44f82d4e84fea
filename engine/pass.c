#include "engine/pass.h"

#include <time.h>

#define FAULT_EVERY_MS 1000
/* Of what is printed, to the monitor of a graph: results wait for the same ring. */
#define PRINT_BYTES_PER_S 65536

static const char *const kind_names[] = {[TAP_IDF] = "idf", [TAP_JOIN] = "join", [TAP_ODF] = "odf"};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void count_drop(struct pass *p, enum eval_drop d)
{
	p->ev->stats.drops[d]++;
	p->graph->stats->drops[d]++;
}

int pass_publish(struct pass *p, uint32_t slot, const struct text *payload)
{
	struct eval *ev = p->ev;
	struct tap_rec rec = {
		.slot = slot,
		.qos = ev->qos >= 0 ? (uint8_t)ev->qos : p->rec->qos,
		.len = (uint32_t)payload->len,
	};
	return ev->sink.publish(ev->sink.arg, &rec, payload->data);
}

int pass_publish_monitor(struct pass *p, const struct text *message, bool fits)
{
	int rc = fits ? pass_publish(p, p->graph->monitor_slot, message) : ERR_RANGE;
	if (rc == ERR_RANGE)
		count_drop(p, DROP_MONITOR_TOO_LARGE);
	return rc == ERR_RANGE ? 0 : rc;
}

/* An esm_error about what ev->why says. It is written over ev->out, which is sent or refused by
 * then. */
static int tell_error(struct pass *p, enum tap_kind kind, const struct fn_use *use)
{
	struct eval *ev = p->ev;
	if (!p->graph->monitored)
		return 0;
	return pass_publish_monitor(
		p, &ev->out,
		monitor_error(&ev->out, kind_names[kind], ev->why.data, ev->why.len, use));
}

static bool may_print(struct prints *prints, size_t bytes)
{
	int64_t second = now_ms() / 1000;

	if (second != prints->second)
		*prints = (struct prints){.second = second, .left_out = prints->left_out};
	if (prints->bytes + bytes > PRINT_BYTES_PER_S) {
		prints->left_out++;
		return false;
	}
	prints->bytes += bytes;
	return true;
}

int pass_printed(struct pass *p, enum tap_kind kind, const struct link *link)
{
	struct eval *ev = p->ev;
	struct prints *prints = &p->graph->prints;

	if (!may_print(prints, ev->printed.len))
		return 0;
	bool fits = monitor_print(&ev->out, kind_names[kind], link, prints->left_out,
				  ev->printed.data, ev->printed.len);
	prints->left_out = 0;
	return pass_publish_monitor(p, &ev->out, fits);
}

/* Whether the time has come, and then when it comes again. */
static bool is_due(int64_t *next_ms)
{
	int64_t now = now_ms();
	if (now < *next_ms)
		return false;
	*next_ms = now + FAULT_EVERY_MS;
	return true;
}

/* A stage failed. raised: Python knows why, else ev->why does. */
static int failed(struct pass *p, enum tap_kind kind, const struct link *link,
		  const struct fn_use *use, int code, bool raised)
{
	struct eval *ev = p->ev;
	const char *strike = code == ERR_LIMIT ? "memory" : NULL;
	bool report = is_due(strike != NULL ? &p->graph->strike_next_ms : &p->graph->fault_next_ms);
	ev->stats.failed++;
	p->graph->stats->failed++;
	if (code == ERR_NOMEM)
		ev->out_of_memory = true;
	if (raised && !report && !p->graph->monitored) {
		py_forget();
		return 0;
	}
	if (raised)
		py_explain(ev->py, &ev->why);
	if (report)
		ev->sink.fault(ev->sink.arg, link, p->graph, kind, text_str(&ev->why), ev->why.len,
			       strike);
	return tell_error(p, kind, use);
}

int pass_raised(struct pass *p, enum tap_kind kind, const struct link *link,
		const struct fn_use *use, int code)
{
	return failed(p, kind, link, use, code, true);
}

int pass_refused(struct pass *p, enum tap_kind kind, const struct link *link,
		 const struct fn_use *use, int code, const char *reason)
{
	text_set_bounded(&p->ev->why, reason, strlen(reason), 0);
	return failed(p, kind, link, use, code, false);
}

int pass_no_memory(struct pass *p, enum tap_kind kind, const struct link *link,
		   const struct fn_use *use)
{
	count_drop(p, DROP_NO_MEMORY);
	return pass_refused(p, kind, link, use, ERR_NOMEM, "MemoryError");
}

int pass_drop(struct pass *p, enum tap_kind kind, const struct fn_use *use, enum eval_drop d,
	      const char *reason)
{
	count_drop(p, d);
	text_set_bounded(&p->ev->why, reason, strlen(reason), 0);
	return tell_error(p, kind, use);
}

int pass_drop_shared(struct pass *p, enum eval_drop d, const char *reason)
{
	p->graph->stats->drops[d]++;
	text_set_bounded(&p->ev->why, reason, strlen(reason), 0);
	return tell_error(p, TAP_IDF, &p->idf->use);
}
