#include "common/util.h"
#include "engine/pass.h"

static void val_dropp(struct val **v)
{
	*v = val_drop(*v);
}

static void given_done(struct given *g)
{
	val_drop(g->v);
}

static struct given given_keep(struct given g)
{
	return (struct given){.v = val_keep(g.v), .alone = g.alone};
}

/* Make a list of the one item. ret: 0 or ERR_NOMEM. */
static int given_as_list(struct given *g)
{
	if (!g->alone)
		return 0;
	struct val *list = val_list(&g->v, 1);
	if (list == NULL)
		return ERR_NOMEM;
	val_drop(g->v);
	*g = (struct given){.v = list};
	return 0;
}

static void say_doing(struct pass *p, enum tap_kind kind, const struct link *link)
{
	p->ev->sink.doing(p->ev->sink.arg,
			  tap_doing_make(p->graph->number, kind, link != NULL ? link->lid : 0));
}

static int quarantined(struct pass *p, enum tap_kind kind, const struct fn_use *use)
{
	return pass_drop(p, kind, use, DROP_QUARANTINED,
			 "message dropped: the function is in quarantine");
}

/* pyfn_call() for a graph that has a monitor, which gets what is printed. *ret_sent: 0, or what
 * publish() failed with. */
static int call_listening(struct pass *p, enum tap_kind kind, const struct link *link,
			  struct pyfn *fn, struct val *const *args, size_t n, struct val **ret,
			  int *ret_sent)
{
	struct eval *ev = p->ev;
	text_clear(&ev->printed);
	py_listen(ev->py, &ev->printed);
	int rc = pyfn_call(fn, args, n, ret);
	py_listen(ev->py, NULL);
	*ret_sent = ev->printed.len > 0 ? pass_printed(p, kind, link) : 0;
	return rc;
}

/* Call use's function. *ret NULL: it failed, and that was told. ret: 0 or what publish() failed
 * with. */
static int call(struct pass *p, enum tap_kind kind, const struct link *link,
		const struct fn_use *use, struct val *const *args, size_t n, struct val **ret)
{
	int sent = 0;
	*ret = NULL;
	say_doing(p, kind, link);
	p->ran = use->fn;
	int rc = p->graph->monitored ? call_listening(p, kind, link, use->fn, args, n, ret, &sent)
				     : pyfn_call(use->fn, args, n, ret);
	if (rc < 0)
		rc = pass_raised(p, kind, link, use, rc);
	if (sent < 0)
		*ret = val_drop(*ret);
	return sent < 0 ? sent : rc;
}

static bool is_variant(const struct link *l, size_t i)
{
	if (l->n_variant == 0)
		return false;
	return l->variant[i < l->n_variant ? i : l->n_variant - 1];
}

/* Keep the values, for the differences of the next message. */
static int remember_values(struct pass *p)
{
	struct vals *before = &p->idf->before;
	vals_clear(before);
	for (size_t i = 0; i < p->n_values; i++)
		if (vals_add(before, val_keep(p->ev->values.v[i])) < 0)
			return ERR_NOMEM;
	return 0;
}

/* Step 3 where it has something to do: the values as the IDF function gets them, in ev->args. */
static int make_differences(struct pass *p)
{
	struct link *l = p->idf;
	struct vals *args = &p->ev->args;
	vals_clear(args);
	for (size_t i = 0; i < p->n_values; i++) {
		struct val *v = p->ev->values.v[i], *diff = NULL;
		if (i < l->before.n && is_variant(l, i))
			diff = val_subtract(v, l->before.v[i]);
		if (vals_add(args, diff != NULL ? diff : val_keep(v)) < 0)
			return ERR_NOMEM;
	}
	return remember_values(p);
}

/* Steps 3 and 4. *ret_on: the join buffer has something new. */
static int run_idf(struct pass *p, bool *ret_on)
{
	struct link *l = p->idf;
	struct val *const *args = p->ev->values.v;
	struct given out = {0};
	*ret_on = false;
	if (l->use.blocked) {
		p->monitor.out = NULL;
		return quarantined(p, TAP_IDF, &l->use);
	}
	if (l->n_variant > 0) {
		if (make_differences(p) < 0)
			return pass_no_memory(p, TAP_IDF, l, &l->use);
		args = p->ev->args.v;
	}
	monitor_input(&p->monitor, args, p->n_values);
	if (l->use.fn != NULL) {
		int rc = call(p, TAP_IDF, l, &l->use, args, p->n_values, &out.v);
		if (rc < 0 || out.v == NULL) {
			p->monitor.out = NULL;
			return rc;
		}
	} else if (p->n_values == 1) {
		out = (struct given){.v = val_keep(args[0]), .alone = true};
	} else {
		out.v = val_list(args, p->n_values);
		if (out.v == NULL)
			return pass_no_memory(p, TAP_IDF, l, &l->use);
	}
	monitor_output(&p->monitor, out);
	if (!out.alone && val_is_none(out.v)) {
		val_drop(out.v);
		return 0;
	}
	struct given before = l->held;
	l->held = out;
	val_drop(before.v);
	*ret_on = true;
	return 0;
}

/* The join's arguments in ev->args: a sequence of one counts as its value if a function gets it. */
static int gather_slots(struct pass *p, bool unwrap)
{
	struct vals *args = &p->ev->args;
	vals_clear(args);
	for (size_t i = 0; i < p->graph->n_idf; i++) {
		struct given *held = &p->graph->idf[i].held;
		struct val *v = held->v != NULL ? held->v : val_none(), *item = NULL;
		if (!unwrap && given_as_list(held) < 0)
			return ERR_NOMEM;
		if (!unwrap && held->v != NULL)
			v = held->v;
		if (unwrap && !held->alone && val_is_seq(v) && val_count(v) == 1)
			item = val_item(v, 0);
		if (vals_add(args, item != NULL ? item : val_keep(v)) < 0)
			return ERR_NOMEM;
	}
	return 0;
}

/* Step 5 with a function, or for a monitor, or with several slots. */
static int join_slots(struct pass *p, struct given *ret)
{
	struct graph *g = p->graph;
	struct vals *args = &p->ev->args;
	if (gather_slots(p, g->join.fn != NULL) < 0)
		return pass_no_memory(p, TAP_JOIN, NULL, &g->join);
	monitor_input(&p->monitor, args->v, args->n);
	if (g->join.fn != NULL) {
		int rc = call(p, TAP_JOIN, NULL, &g->join, args->v, args->n, &ret->v);
		if (rc < 0)
			return rc;
	} else {
		ret->v = g->n_idf == 1 ? val_keep(g->idf[0].held.v) : val_list(args->v, args->n);
		if (ret->v == NULL)
			return pass_no_memory(p, TAP_JOIN, NULL, &g->join);
	}
	monitor_output(&p->monitor, *ret);
	return 0;
}

/* Step 5. Nothing in *ret: the path ends here. */
static int run_join(struct pass *p, struct given *ret)
{
	struct graph *g = p->graph;
	if (g->join.blocked)
		return quarantined(p, TAP_JOIN, &g->join);
	if (g->join.fn == NULL && g->n_idf == 1 && p->monitor.out == NULL) {
		*ret = given_keep(g->idf[0].held);
		return 0;
	}
	int rc = join_slots(p, ret);
	if (ret->v != NULL && val_is_none(ret->v))
		ret->v = val_drop(ret->v);
	return rc;
}

/* Value number i of the output; NULL: the result is empty. ret: a new reference. */
static struct val *output_value(const struct pass *p, const struct link *odf, struct given result,
				size_t i)
{
	if (i >= (size_t)odf->param_no) {
		i -= (size_t)odf->param_no;
		return val_keep(i < p->n_tag ? p->tag[i] : val_none());
	}
	if (result.alone || !val_is_seq(result.v))
		return val_keep(result.v);
	size_t n = val_count(result.v);
	return n > 0 ? val_item(result.v, i < n ? i : n - 1) : NULL;
}

/* Step 7 with param_no: exactly so many values, then the tag. */
static int write_values(struct pass *p, const struct link *odf, struct given result,
			struct err *err)
{
	struct text *out = &p->ev->out;
	size_t total = (size_t)odf->param_no + (size_t)odf->tag_param_no;
	bool fits = text_putc(out, '[');
	for (size_t i = 0; fits && i < total; i++) {
		CLEANUP(val_dropp)
		struct val *v = output_value(p, odf, result, i);
		if (v == NULL)
			return err_set(err, ERR_SCHEMA, "the result is empty");
		fits = i == 0 || text_putc(out, ',');
		int rc = fits ? val_write(v, out, err) : 0;
		if (rc < 0)
			return rc;
	}
	if (!fits || !text_putc(out, ']'))
		return err_set(err, ERR_RANGE, "result is longer than %zu bytes", out->cap);
	return 0;
}

/* Step 7 without. */
static int write_result(struct pass *p, struct given result, struct err *err)
{
	struct text *out = &p->ev->out;
	if (!result.alone)
		return val_write(result.v, out, err);
	text_putc(out, '['); /* max_payload is more than that */
	int rc = val_write(result.v, out, err);
	if (rc == 0 && !text_putc(out, ']'))
		rc = err_set(err, ERR_RANGE, "result is longer than %zu bytes", out->cap);
	return rc;
}

/* Step 7. */
static int send(struct pass *p, const struct link *odf, struct given result)
{
	struct eval *ev = p->ev;
	struct err err; /* set where one is made */
	text_clear(&ev->out);
	pyfn_enter(p->ran); /* conversions may be user code */
	int rc = odf->param_no >= 0 ? write_values(p, odf, result, &err)
				    : write_result(p, result, &err);
	py_leave();
	if (rc < 0)
		return pass_refused(p, TAP_ODF, odf, &odf->use, rc, err.text);
	rc = pass_publish(p, odf->slot, &ev->out);
	if (rc == ERR_RANGE)
		return pass_refused(p, TAP_ODF, odf, &odf->use, rc,
				    "the result does not fit into the ring");
	if (rc == 0)
		monitor_odf(&p->monitor, odf, ev->out.data, ev->out.len,
			    odf->param_no < 0 && !result.alone && !val_is_seq(result.v));
	return rc;
}

/* Steps 6 and 7 for one ODF. */
static int run_odf(struct pass *p, const struct link *odf, struct given joined)
{
	CLEANUP(given_done)
	struct given result = {0};
	if (odf->use.blocked)
		return quarantined(p, TAP_ODF, &odf->use);
	if (odf->use.fn == NULL) {
		say_doing(p, TAP_ODF, odf);
		result = given_keep(joined);
	} else {
		struct val *const *args = &joined.v;
		size_t n = 1;
		if (!joined.alone && val_is_seq(joined.v)) {
			if (vals_spread(&p->ev->args, joined.v) < 0)
				return pass_no_memory(p, TAP_ODF, odf, &odf->use);
			args = p->ev->args.v;
			n = p->ev->args.n;
		}
		int rc = call(p, TAP_ODF, odf, &odf->use, args, n, &result.v);
		if (rc < 0 || result.v == NULL)
			return rc;
	}
	if (!result.alone && val_is_none(result.v)) {
		monitor_odf(&p->monitor, odf, NULL, 0, false);
		return 0;
	}
	return send(p, odf, result);
}

int pass_run(struct pass *p)
{
	CLEANUP(given_done)
	struct given joined = {0};
	bool on;
	int rc = run_idf(p, &on);
	if (rc == 0 && on)
		rc = run_join(p, &joined);
	const struct pyfn *ran = p->ran;
	for (size_t i = 0; rc == 0 && joined.v != NULL && i < p->graph->n_odf; i++) {
		p->ran = ran;
		rc = run_odf(p, &p->graph->odf[i], joined);
	}
	vals_clear(&p->ev->args);
	return rc;
}
