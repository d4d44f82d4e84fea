#include "engine/eval.h"

#include "common/util.h"
#include "engine/monitor.h"
#include <limits.h>
#include <time.h>

#define FAULT_EVERY_MS 1000

/* A message on its way through one graph. */
struct pass {
	struct eval *ev;
	const struct tap_rec *rec;
	struct graph *graph;
	struct link *idf;
	size_t n_values; /* without the tag */
	struct val **tag;
	size_t n_tag;
	struct monitor monitor;
};

static const char *const drop_names[DROPS] = {
	[DROP_NO_LINK] = "no_link",           [DROP_NOT_JSON] = "not_json",
	[DROP_WRONG_LENGTH] = "wrong_length", [DROP_TOO_LARGE] = "too_large",
	[DROP_NO_MEMORY] = "no_memory",       [DROP_MONITOR_TOO_LARGE] = "monitor_too_large",
};

static const char *const kind_names[] = {[TAP_IDF] = "idf", [TAP_JOIN] = "join", [TAP_ODF] = "odf"};

const char *eval_drop_name(enum eval_drop d)
{
	return drop_names[d];
}

int eval_init(struct eval *ev, struct py *py, struct graphs *gs, const struct eval_sink *sink,
	      int qos, size_t max_payload, struct err *err)
{
	/* so that an esm_error fits into a message */
	size_t reason = max_payload / 3 < PY_REASON_MAX ? max_payload / 3 : PY_REASON_MAX;
	*ev = (struct eval){.py = py, .graphs = gs, .sink = *sink, .qos = qos};
	int rc = text_init(&ev->out, max_payload, err);
	if (rc == 0)
		rc = text_init(&ev->monitor, max_payload, err);
	if (rc == 0)
		rc = text_init(&ev->why, reason, err);
	if (rc < 0)
		eval_done(ev);
	return rc;
}

void eval_done(struct eval *ev)
{
	vals_done(&ev->values);
	vals_done(&ev->args);
	text_done(&ev->out);
	text_done(&ev->monitor);
	text_done(&ev->why);
}

static void val_dropp(struct val **v)
{
	*v = val_drop(*v);
}

/* ---- telling ---- */

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int publish(struct pass *p, uint32_t slot, const struct text *payload)
{
	struct eval *ev = p->ev;
	struct tap_rec rec = {
		.slot = slot,
		.qos = ev->qos >= 0 ? (uint8_t)ev->qos : p->rec->qos,
		.len = (uint32_t)payload->len,
	};
	return ev->sink.publish(ev->sink.arg, &rec, payload->data);
}

/* Send what stands in ev->monitor. */
static int publish_monitor(struct pass *p, bool fits)
{
	int rc = fits ? publish(p, p->graph->monitor_slot, &p->ev->monitor) : ERR_RANGE;
	if (rc == ERR_RANGE)
		p->ev->stats.drops[DROP_MONITOR_TOO_LARGE]++;
	return rc == ERR_RANGE ? 0 : rc;
}

/* An esm_error about what ev->why says. It is written over ev->out, which is sent or refused by
 * then. */
static int tell_error(struct pass *p, enum tap_kind kind, const struct fn_use *use)
{
	struct eval *ev = p->ev;
	if (!p->graph->monitored)
		return 0;
	struct text *out = &ev->out;
	bool fits = monitor_error(out, kind_names[kind], ev->why.data, ev->why.len, use);
	int rc = fits ? publish(p, p->graph->monitor_slot, out) : ERR_RANGE;
	if (rc == ERR_RANGE)
		ev->stats.drops[DROP_MONITOR_TOO_LARGE]++;
	return rc == ERR_RANGE ? 0 : rc;
}

/* A stage failed. raised: Python knows why, else ev->why does. */
static int stage_failed(struct pass *p, enum tap_kind kind, const struct link *link,
			const struct fn_use *use, int code, bool raised)
{
	struct eval *ev = p->ev;
	int64_t now = now_ms();
	bool report = now >= p->graph->fault_next_ms;
	ev->stats.failed++;
	if (code == ERR_NOMEM)
		ev->out_of_memory = true;
	if (raised && !report && !p->graph->monitored) {
		py_forget();
		return 0;
	}
	if (raised)
		py_explain(ev->py, &ev->why);
	if (report) {
		p->graph->fault_next_ms = now + FAULT_EVERY_MS;
		ev->sink.fault(ev->sink.arg, link, p->graph, kind, text_str(&ev->why), ev->why.len);
	}
	return tell_error(p, kind, use);
}

/* The same, with a reason of ours. */
static int stage_refused(struct pass *p, enum tap_kind kind, const struct link *link,
			 const struct fn_use *use, int code, const char *reason)
{
	text_set_bounded(&p->ev->why, reason, strlen(reason), 0);
	return stage_failed(p, kind, link, use, code, false);
}

static int no_memory(struct pass *p, enum tap_kind kind, const struct link *link,
		     const struct fn_use *use)
{
	p->ev->stats.drops[DROP_NO_MEMORY]++;
	return stage_refused(p, kind, link, use, ERR_NOMEM, "MemoryError");
}

/* The message cannot be taken: told, but nobody's fault here. */
static int drop(struct pass *p, enum eval_drop d, const char *reason)
{
	p->ev->stats.drops[d]++;
	text_set_bounded(&p->ev->why, reason, strlen(reason), 0);
	return tell_error(p, TAP_IDF, &p->idf->use);
}

/* ---- the stages ---- */

/* Call use's function, or make of the args what stands for it. *ret NULL: it failed, and that was
 * told. ret: 0 or what publish() failed with. */
static int call(struct pass *p, enum tap_kind kind, const struct link *link,
		const struct fn_use *use, struct val **ret)
{
	struct eval *ev = p->ev;
	*ret = NULL;
	ev->sink.doing(ev->sink.arg,
		       tap_doing_make(p->graph->number, kind, link != NULL ? link->lid : 0));
	int rc = pyfn_call(use->fn, ev->args.v, ev->args.n, ret);
	return rc < 0 ? stage_failed(p, kind, link, use, rc, true) : 0;
}

static bool is_variant(const struct link *l, size_t i)
{
	if (l->n_variant == 0)
		return false;
	return l->variant[i < l->n_variant ? i : l->n_variant - 1];
}

/* Step 3: the values as the IDF function gets them, in ev->args. */
static int prepare_values(struct pass *p)
{
	struct link *l = p->idf;
	struct vals *args = &p->ev->args;
	vals_clear(args);
	for (size_t i = 0; i < p->n_values; i++) {
		struct val *v = p->ev->values.v[i], *diff = NULL;
		if (i < l->n_before && is_variant(l, i))
			diff = val_subtract(v, l->before[i]);
		if (vals_add(args, diff != NULL ? diff : val_keep(v)) < 0)
			return ERR_NOMEM;
	}
	if (l->n_variant == 0)
		return 0;
	if (l->n_before < p->n_values) {
		struct val **grown = realloc(l->before, p->n_values * sizeof(*grown));
		if (grown == NULL)
			return ERR_NOMEM;
		memset(grown + l->n_before, 0, (p->n_values - l->n_before) * sizeof(*grown));
		l->before = grown;
	}
	for (size_t i = 0; i < p->n_values || i < l->n_before; i++) {
		if (i < l->n_before)
			val_drop(l->before[i]);
		if (i < p->n_values)
			l->before[i] = val_keep(p->ev->values.v[i]);
	}
	l->n_before = p->n_values;
	return 0;
}

/* Steps 3 and 4. *ret_on: the join buffer has something new. */
static int run_idf(struct pass *p, bool *ret_on)
{
	struct link *l = p->idf;
	struct vals *args = &p->ev->args;
	struct val *result;
	*ret_on = false;
	if (prepare_values(p) < 0)
		return no_memory(p, TAP_IDF, l, &l->use);
	monitor_input(&p->monitor, args->v, args->n);
	if (l->use.fn != NULL) {
		int rc = call(p, TAP_IDF, l, &l->use, &result);
		if (rc < 0 || result == NULL) {
			p->monitor.out = NULL;
			return rc;
		}
	} else {
		result = val_list(args->v, args->n);
		if (result == NULL)
			return no_memory(p, TAP_IDF, l, &l->use);
	}
	monitor_output(&p->monitor, result);
	if (val_is_none(result)) {
		val_drop(result);
		return 0;
	}
	val_drop(l->held);
	l->held = result;
	*ret_on = true;
	return 0;
}

/* The join's arguments in ev->args: a sequence of one counts as its value if a function gets it. */
static int gather_slots(struct pass *p, bool unwrap)
{
	struct vals *args = &p->ev->args;
	vals_clear(args);
	for (size_t i = 0; i < p->graph->n_idf; i++) {
		struct val *held = p->graph->idf[i].held, *v = NULL;
		if (held == NULL)
			held = val_none();
		if (unwrap && val_is_seq(held) && val_count(held) == 1)
			v = val_item(held, 0);
		if (vals_add(args, v != NULL ? v : val_keep(held)) < 0)
			return ERR_NOMEM;
	}
	return 0;
}

/* Step 5. *ret NULL: the path ends here. */
static int run_join(struct pass *p, struct val **ret)
{
	struct graph *g = p->graph;
	struct vals *args = &p->ev->args;
	struct val *result = NULL;
	if (gather_slots(p, g->join.fn != NULL) < 0)
		return no_memory(p, TAP_JOIN, NULL, &g->join);
	monitor_input(&p->monitor, args->v, args->n);
	if (g->join.fn != NULL) {
		int rc = call(p, TAP_JOIN, NULL, &g->join, &result);
		if (rc < 0)
			return rc;
	} else {
		result = g->n_idf == 1 ? val_keep(g->idf[0].held) : val_list(args->v, args->n);
		if (result == NULL)
			return no_memory(p, TAP_JOIN, NULL, &g->join);
	}
	monitor_output(&p->monitor, result);
	if (result != NULL && val_is_none(result))
		result = val_drop(result);
	*ret = result;
	return 0;
}

/* Step 7 with param_no: exactly so many values, then the tag. */
static int write_values(struct pass *p, const struct link *odf, struct val *result, struct err *err)
{
	struct text *out = &p->ev->out;
	bool seq = val_is_seq(result);
	bool fits = text_putc(out, '[');
	int total = odf->param_no + odf->tag_param_no;
	for (int i = 0; fits && i < total; i++) {
		CLEANUP(val_dropp)
		struct val *v = NULL;
		if (i < odf->param_no) {
			size_t n = seq ? val_count(result) : 1;
			size_t at = (size_t)i < n ? (size_t)i : n - 1;
			v = !seq ? val_keep(result) : n > 0 ? val_item(result, at) : NULL;
			if (v == NULL)
				return err_set(err, ERR_SCHEMA, "the result is empty");
		} else {
			size_t at = (size_t)(i - odf->param_no);
			v = val_keep(at < p->n_tag ? p->tag[at] : val_none());
		}
		fits = i == 0 || text_putc(out, ',');
		int rc = fits ? val_write(v, out, err) : 0;
		if (rc < 0)
			return rc;
	}
	if (!fits || !text_putc(out, ']'))
		return err_set(err, ERR_RANGE, "result is longer than %zu bytes", out->cap);
	return 0;
}

/* Step 7. */
static int send(struct pass *p, const struct link *odf, struct val *result)
{
	struct eval *ev = p->ev;
	struct err err = {0};
	text_clear(&ev->out);
	int rc = odf->param_no >= 0 ? write_values(p, odf, result, &err)
				    : val_write(result, &ev->out, &err);
	if (rc < 0)
		return stage_refused(p, TAP_ODF, odf, &odf->use, rc, err.text);
	rc = publish(p, odf->slot, &ev->out);
	if (rc == ERR_RANGE)
		return stage_refused(p, TAP_ODF, odf, &odf->use, rc,
				     "the result does not fit into the ring");
	if (rc == 0)
		monitor_odf(&p->monitor, odf, ev->out.data, ev->out.len,
			    odf->param_no < 0 && !val_is_seq(result));
	return rc;
}

/* Steps 6 and 7 for one ODF. */
static int run_odf(struct pass *p, const struct link *odf, struct val *joined)
{
	CLEANUP(val_dropp)
	struct val *result = NULL;
	if (odf->use.fn != NULL) {
		if (vals_spread(&p->ev->args, joined) < 0)
			return no_memory(p, TAP_ODF, odf, &odf->use);
		int rc = call(p, TAP_ODF, odf, &odf->use, &result);
		if (rc < 0 || result == NULL)
			return rc;
	} else {
		p->ev->sink.doing(p->ev->sink.arg,
				  tap_doing_make(p->graph->number, TAP_ODF, odf->lid));
		result = val_keep(joined);
	}
	if (val_is_none(result)) {
		monitor_odf(&p->monitor, odf, NULL, 0, false);
		return 0;
	}
	return send(p, odf, result);
}

static int run_stages(struct pass *p)
{
	CLEANUP(val_dropp)
	struct val *joined = NULL;
	bool on;
	int rc = run_idf(p, &on);
	if (rc == 0 && on)
		rc = run_join(p, &joined);
	for (size_t i = 0; rc == 0 && joined != NULL && i < p->graph->n_odf; i++)
		rc = run_odf(p, &p->graph->odf[i], joined);
	vals_clear(&p->ev->args);
	return rc;
}

/* Steps 2 to 8 in one graph. */
static int run_graph(struct eval *ev, const struct tap_rec *rec, struct link *idf)
{
	struct pass p = {
		.ev = ev, .rec = rec, .graph = idf->graph, .idf = idf, .n_values = ev->values.n};
	if (idf->param_no >= 0) {
		size_t want = (size_t)idf->param_no + (size_t)idf->tag_param_no;
		if (ev->values.n != want) {
			char why[120];
			snprintf(why, sizeof(why),
				 "message dropped: it has %zu values, not %d and a tag of %d",
				 ev->values.n, idf->param_no, idf->tag_param_no);
			return drop(&p, DROP_WRONG_LENGTH, why);
		}
		p.n_values = (size_t)idf->param_no;
		p.tag = ev->values.v + p.n_values;
		p.n_tag = (size_t)idf->tag_param_no;
	}
	ev->stats.evaluated++;
	monitor_begin(&p.monitor, p.graph->monitored ? &ev->monitor : NULL, idf);
	int rc = run_stages(&p);
	if (rc == 0 && p.monitor.out != NULL)
		rc = publish_monitor(&p, monitor_end(&p.monitor));
	ev->sink.doing(ev->sink.arg, 0);
	return rc;
}

/* ---- messages ---- */

/* Step 1. ret_flat: no value can be changed by a function. */
static int read_values(struct eval *ev, const json_t *json, bool *ret_flat, struct err *err)
{
	size_t n = json_is_array(json) ? json_array_size(json) : 1;
	*ret_flat = true;
	vals_clear(&ev->values);
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_is_array(json) ? json_array_get(json, i) : json;
		struct val *v;
		int rc = val_from_json(item, json_is_array(json), &v, err);
		if (rc == 0 && vals_add(&ev->values, v) < 0)
			rc = err_set(err, ERR_NOMEM, "out of memory");
		if (rc < 0)
			return rc;
		*ret_flat = *ret_flat && !json_is_array(item) && !json_is_object(item);
	}
	return 0;
}

/* The message is unusable for everybody. */
static int drop_everywhere(struct eval *ev, const struct tap_rec *rec, const struct feeds *feeds,
			   enum eval_drop d, const char *reason)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < feeds->n; i++) {
		struct pass p = {.ev = ev,
				 .rec = rec,
				 .graph = feeds->link[i]->graph,
				 .idf = feeds->link[i]};
		text_set_bounded(&ev->why, reason, strlen(reason), 0);
		rc = tell_error(&p, TAP_IDF, &p.idf->use);
	}
	ev->stats.drops[d]++;
	return rc;
}

static int drop_unread(struct eval *ev, const struct tap_rec *rec, const struct feeds *feeds,
		       int code, const char *why)
{
	char reason[300];
	if (code == ERR_NOMEM)
		return drop_everywhere(ev, rec, feeds, DROP_NO_MEMORY,
				       "message dropped: out of memory");
	snprintf(reason, sizeof(reason), "message dropped: it is not JSON: %.200s", why);
	for (char *c = reason; *c != '\0'; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?'; /* the parser quotes what it could not read, in pieces */
	return drop_everywhere(ev, rec, feeds, DROP_NOT_JSON, reason);
}

int eval_message(struct eval *ev, const struct tap_rec *rec, const char *payload)
{
	json_error_t why;
	struct err err = {0};
	bool flat;
	const struct feeds *feeds = graphs_feeds(ev->graphs, rec->slot);
	if (feeds == NULL) {
		ev->stats.drops[DROP_NO_LINK]++;
		return 0;
	}
	if (payload == NULL)
		return drop_everywhere(ev, rec, feeds, DROP_TOO_LARGE,
				       "message dropped: it is too long");
	/* the parser would read over it */
	if (memchr(payload, '\0', rec->len) != NULL)
		return drop_unread(ev, rec, feeds, ERR_SCHEMA, "it holds a NUL byte");
	json_auto_t *json = json_loadb(payload, rec->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
	if (json == NULL) {
		bool memory = json_error_code(&why) == json_error_out_of_memory;
		return drop_unread(ev, rec, feeds, memory ? ERR_NOMEM : ERR_SCHEMA, why.text);
	}
	int rc = read_values(ev, json, &flat, &err);
	if (rc < 0)
		return drop_unread(ev, rec, feeds, rc, err.text);
	for (size_t i = 0; rc == 0 && i < feeds->n; i++) {
		/* what one graph's functions may have changed is not shown to the next one's */
		if (i > 0 && !flat && (rc = read_values(ev, json, &flat, &err)) < 0) {
			rc = drop_unread(ev, rec, feeds, rc, err.text);
			break;
		}
		rc = run_graph(ev, rec, feeds->link[i]);
	}
	vals_clear(&ev->values);
	return rc;
}
