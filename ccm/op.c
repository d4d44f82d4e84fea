/* op.c - running an operation: prepare, transaction, commit, effects, answer. */
#include "ccm/op.h"

#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"

struct effect {
	op_effect_fn *fn;
	int64_t id;
};

struct running {
	struct op_call call; /* first */
	const struct op *op;
	op_done_fn *done;
	void *arg;
	struct effect *effects;
	size_t n_effects;
};

static void finish(struct running *r, int rc)
{
	struct op_call *c = &r->call;
	struct ccm *ccm = c->ccm;
	if (rc < 0 && c->err.text[0] == '\0')
		err_set(&c->err, rc, "%s", err_name(rc));
	if (rc == ERR_DB || rc == ERR_NOMEM)
		log_warn("op.failed", KV("op", r->op->name), KV("why", c->err.text));
	for (size_t i = 0; rc == 0 && i < r->n_effects; i++)
		r->effects[i].fn(ccm, r->effects[i].id);
	if (rc == 0 && r->op->after != NULL)
		r->op->after(c);
	r->done(r->arg, c, rc);
	json_decref(c->args);
	json_decref(c->data);
	free(c->prepared);
	free(r->effects);
	free(r);
}

void op_start(struct ccm *ccm, const struct op *op, const struct caller *who, json_t *args, op_done_fn *done, void *arg)
{
	struct running *r = args != NULL ? calloc(1, sizeof(*r)) : NULL;
	if (r == NULL) {
		struct op_call none = {.ccm = ccm, .who = *who};
		json_decref(args);
		done(arg, &none, err_set(&none.err, ERR_NOMEM, "out of memory"));
		return;
	}
	*r = (struct running){
		.call = {.ccm = ccm, .db = ccm->db, .who = *who, .args = args}, .op = op, .done = done, .arg = arg};
	if (op->prepare != NULL)
		op->prepare(&r->call);
	else
		op_go_on(&r->call);
}

void op_fail(struct op_call *c, int rc)
{
	finish((struct running *)c, rc);
}

void op_go_on(struct op_call *c)
{
	struct running *r = (struct running *)c;
	/* a ROLLBACK that lacked memory left one open */
	int rc = db_in_transaction(c->db) ? db_script(c->db, "ROLLBACK", &c->err) : 0;
	if (rc == 0)
		rc = db_run(c->db, &c->err, NULL, NULL, r->op->reads ? "BEGIN" : "BEGIN IMMEDIATE");
	unsigned long shortages = shortage_count();
	if (rc == 0 && (rc = r->op->run(c)) > 0) /* a count of rows that was handed on */
		rc = 0;
	if (rc == 0 && shortage_count() != shortages) /* what was read or made may lack something */
		rc = err_set(&c->err, ERR_NOMEM, "out of memory");
	/* the store ends a transaction by itself when it lacks memory or room: then nothing holds that was done in it */
	if (rc == 0 && !db_in_transaction(c->db))
		rc = err_set(&c->err, ERR_DB, "store: the transaction was given up: no memory or no room");
	if (rc == 0)
		rc = db_run(c->db, &c->err, NULL, NULL, "COMMIT");
	if (rc < 0 && db_in_transaction(c->db))
		db_run(c->db, NULL, NULL, NULL, "ROLLBACK");
	finish(r, rc);
}

int op_then(struct op_call *c, op_effect_fn *fn, int64_t id)
{
	struct running *r = (struct running *)c;
	for (size_t i = 0; i < r->n_effects; i++)
		if (r->effects[i].fn == fn && r->effects[i].id == id)
			return 0;
	if ((r->n_effects & (r->n_effects - 1)) == 0) {
		size_t room = r->n_effects == 0 ? 1 : r->n_effects * 2;
		struct effect *more = realloc(r->effects, room * sizeof(*more));
		if (more == NULL)
			return err_set(&c->err, ERR_NOMEM, "effects");
		r->effects = more;
	}
	r->effects[r->n_effects++] = (struct effect){fn, id};
	return 0;
}

struct then {
	struct op_call *c;
	op_effect_fn *fn;
};

static int on_then(void *arg, const struct db_value *v, size_t n)
{
	const struct then *t = arg;
	(void)n;
	return op_then(t->c, t->fn, v[0].num);
}

int op_then_each(struct op_call *c, op_effect_fn *fn, const char *sql, int64_t id)
{
	struct then then = {c, fn};
	return db_run(c->db, &c->err, on_then, &then, sql, DB_V_INT(id));
}

int64_t op_int(const struct op_call *c, const char *name)
{
	return json_integer_value(json_object_get(c->args, name));
}

const char *op_str(const struct op_call *c, const char *name)
{
	return json_string_value(json_object_get(c->args, name));
}

bool op_has(const struct op_call *c, const char *name)
{
	const json_t *value = json_object_get(c->args, name);
	return value != NULL && !json_is_null(value);
}

int op_result(struct op_call *c, json_t *data)
{
	json_decref(c->data);
	c->data = data;
	return data != NULL ? 0 : err_set(&c->err, ERR_NOMEM, "result");
}

int op_result_int(struct op_call *c, const char *name, int64_t value)
{
	return op_result(c, json_pack("{s:I}", name, (json_int_t)value));
}
