#include "world.h"

static char order[400];

static void say(const char *what, int64_t id)
{
	size_t end = strlen(order);
	snprintf(order + end, sizeof(order) - end, "%s%lld ", what, (long long)id);
}

static void first(struct ccm *app, int64_t id)
{
	assert_false(db_in_transaction(app->db)); /* after the commit */
	say("first", id);
}

static void second(struct ccm *app, int64_t id)
{
	(void)app;
	say("second", id);
}

static int add_unit(struct op_call *c)
{
	int64_t id = 0;
	int rc = q_int(c->db, &c->err, &id, "INSERT INTO Unit (unit_name) VALUES ($1) RETURNING unit_id",
		       DB_V_TEXT(op_str(c, "name")));
	return rc < 0 ? rc : op_result_int(c, "id", id);
}

static int with_effects(struct op_call *c)
{
	int rc = add_unit(c);
	op_effect_fn *const fns[] = {first, second, first, first, second, first, first};
	static const int64_t ids[] = {2, 1, 1, 2, 1, 3, 4};
	for (size_t i = 0; i < ARRAY_LEN(ids) && rc == 0; i++)
		rc = op_then(c, fns[i], ids[i]);
	return rc;
}

static int fails_late(struct op_call *c)
{
	int rc = with_effects(c);
	return rc < 0 ? rc : err_set(&c->err, ERR_CONFLICT, "in use");
}

static int fails_without_words(struct op_call *c)
{
	(void)c;
	return ERR_NOENT;
}

static int hands_a_count_on(struct op_call *c)
{
	int rc = add_unit(c);
	return rc < 0 ? rc : 1;
}

static int ends_the_transaction(struct op_call *c)
{
	int rc = add_unit(c);
	return rc < 0 ? rc : db_run(c->db, &c->err, NULL, NULL, "ROLLBACK");
}

static int breaks_a_rule_of_the_store(struct op_call *c)
{
	int rc = add_unit(c);
	return rc < 0 ? rc : q_exec(c->db, &c->err, "INSERT INTO Unit (unit_name) VALUES ('None')");
}

static int reads_prepared(struct op_call *c)
{
	say("run", *(int *)c->prepared);
	return op_result(c, json_null());
}

static struct op_call *held;
static void holds(struct op_call *c)
{
	held = c;
	c->prepared = calloc(1, sizeof(int));
	*(int *)c->prepared = 7;
}

static int the_rc;
static char the_text[1000], the_data[200];
static void done(void *arg, struct op_call *c, int rc)
{
	assert_string_equal(arg, "arg");
	say("done", 0);
	the_rc = rc;
	snprintf(the_text, sizeof(the_text), "%s", c->err.text);
	CLEANUP(freep) char *data = c->data != NULL ? json_dumps(c->data, JSON_ENCODE_ANY) : strdup("");
	snprintf(the_data, sizeof(the_data), "%s", data);
	assert_int_equal(c->who.u_id, BOB);
	assert_false(db_in_transaction(ccm.db));
}

static char arg[] = "arg";
static void start(const struct op *op)
{
	const struct caller who = {.u_id = BOB};
	order[0] = the_text[0] = the_data[0] = '\0';
	the_rc = 1;
	op_start(&ccm, op, &who, json_pack("{s:s, s:i, s:n}", "name", "K", "n", 3, "nothing"), done, arg);
}

static void effects_come_after_the_commit_in_order_each_once(void **state)
{
	static const struct op op = {"test", .run = with_effects};
	(void)state;
	start(&op);
	assert_int_equal(the_rc, 0);
	assert_string_equal(order, "first2 second1 first1 first3 first4 done0 ");
	assert_string_equal(the_data, "{\"id\": 2}");
}

static void a_failure_changes_nothing_and_has_no_effects(void **state)
{
	static const struct {
		struct op op;
		int rc;
		const char *text;
	} cases[] = {
		{{"test", .run = fails_late}, ERR_CONFLICT, "in use"},
		{{"test", .run = breaks_a_rule_of_the_store}, ERR_DB, "UNIQUE"},
		{{"test", .run = fails_without_words}, ERR_NOENT, "NOENT"},
		{{"test", .run = ends_the_transaction}, ERR_DB, "the transaction was given up"},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		start(&cases[i].op);
		assert_int_equal(the_rc, cases[i].rc);
		if (strstr(the_text, cases[i].text) == NULL)
			fail_msg("'%s' is not in '%s'", cases[i].text, the_text);
		assert_string_equal(order, "done0 ");
		assert_int_equal(number("SELECT count(*) FROM Unit"), 1);
	}
}

static void a_count_is_no_failure(void **state)
{
	static const struct op op = {"test", .run = hands_a_count_on};
	(void)state;
	start(&op);
	assert_int_equal(the_rc, 0);
	assert_int_equal(number("SELECT count(*) FROM Unit"), 2);
}

static void what_takes_time_runs_before_the_transaction(void **state)
{
	static const struct op op = {"test", .run = reads_prepared, .prepare = holds};
	(void)state;
	start(&op);
	assert_string_equal(order, "");
	assert_false(db_in_transaction(ccm.db));
	op_go_on(held);
	assert_string_equal(order, "run7 done0 ");
	assert_int_equal(the_rc, 0);
	assert_string_equal(the_data, "null");
	start(&op);
	op_fail(held, err_set(&held->err, ERR_AGAIN, "later"));
	assert_string_equal(order, "done0 ");
	assert_int_equal(the_rc, ERR_AGAIN);
	assert_string_equal(the_text, "later");
}

/* What an earlier operation could not even roll back. */
static void a_transaction_that_was_left_open_is_given_up(void **state)
{
	static const struct op op = {"test", .run = add_unit};
	(void)state;
	sql("BEGIN; INSERT INTO Unit (unit_name) VALUES ('left');");
	start(&op);
	assert_int_equal(the_rc, 0);
	assert_int_equal(number("SELECT count(*) FROM Unit WHERE unit_name = 'left'"), 0);
	assert_int_equal(number("SELECT count(*) FROM Unit WHERE unit_name = 'K'"), 1);
}

static int looks_at_arguments(struct op_call *c)
{
	assert_int_equal(op_int(c, "n"), 3);
	assert_int_equal(op_int(c, "nothing"), 0);
	assert_int_equal(op_int(c, "absent"), 0);
	assert_string_equal(op_str(c, "name"), "K");
	assert_null(op_str(c, "nothing"));
	assert_null(op_str(c, "n"));
	assert_true(op_has(c, "n"));
	assert_false(op_has(c, "nothing"));
	assert_false(op_has(c, "absent"));
	return 0;
}

static void arguments_are_there_or_not(void **state)
{
	static const struct op op = {"test", .run = looks_at_arguments, .reads = true};
	(void)state;
	start(&op);
	assert_int_equal(the_rc, 0);
	assert_string_equal(the_data, "");
}

static void without_memory_for_arguments_it_is_refused(void **state)
{
	static const struct op op = {"test", .run = looks_at_arguments};
	const struct caller who = {.u_id = BOB};
	(void)state;
	op_start(&ccm, &op, &who, NULL, done, arg);
	assert_int_equal(the_rc, ERR_NOMEM);
}

/* ---- questions to the store ---- */

static const struct column columns[] = {{"i", COL_INT}, {"r", COL_REAL}, {"b", COL_BOOL}, {"t", COL_TEXT}, {"z", COL_TEXT}, {0}};

static void rows_become_json_by_their_columns(void **state)
{
	struct err err;
	json_auto_t *row = NULL;
	json_auto_t *rows = NULL;
	(void)state;
	assert_int_equal(q_row(ccm.db, &err, columns, &row,
			       "SELECT 9223372036854775807, 2, 1, 'a', NULL UNION ALL SELECT 1, 1, 1, 'b', 'b'"),
			 1);
	json_auto_t *want = json_pack("{s:I, s:f, s:b, s:s, s:n}", "i", INT64_MAX, "r", 2.0, "b", 1, "t", "a", "z");
	assert_true(json_equal(row, want));
	json_t *none = (json_t *)1;
	assert_int_equal(q_row(ccm.db, &err, columns, &none, "SELECT 1, 1, 1, 1, 1 WHERE 0"), 0);
	assert_null(none);
	assert_int_equal(q_rows(ccm.db, &err, columns, &rows, "SELECT 1, 1.5, 0, 'a', 'b' UNION ALL SELECT 2, $1, $2, $3, $4",
				DB_V_REAL(0.5), DB_V_INT(1), DB_V_TEXT("c"), DB_V_NULL),
			 0);
	assert_int_equal(json_array_size(rows), 2);
	assert_true(json_is_null(json_object_get(json_array_get(rows, 1), "z")));
	assert_true(json_real_value(json_object_get(json_array_get(rows, 1), "r")) == 0.5);
	assert_int_equal(q_rows(ccm.db, &err, columns, &none, "SELECT 1 FROM nowhere"), ERR_DB);
	assert_null(none);
	assert_int_equal(q_row(ccm.db, &err, columns, &none, "SELECT 1 FROM nowhere"), ERR_DB);
	assert_null(none);
}

static void a_number_is_that_of_the_first_row(void **state)
{
	struct err err;
	int64_t n = 42;
	(void)state;
	assert_int_equal(q_int(ccm.db, &err, &n, "SELECT 7 UNION ALL SELECT 8"), 1);
	assert_int_equal(n, 7);
	assert_int_equal(q_int(ccm.db, &err, &n, "SELECT NULL UNION ALL SELECT 8"), 0);
	assert_int_equal(q_int(ccm.db, &err, &n, "SELECT 8 WHERE 0"), 0);
	assert_int_equal(n, 7);
	assert_int_equal(q_int(ccm.db, &err, &n, "SELECT 8 FROM nowhere"), ERR_DB);
}

static void a_text_is_a_copy(void **state)
{
	struct err err;
	char *text = (char *)1;
	(void)state;
	assert_int_equal(q_text(ccm.db, &err, &text, "SELECT 'a' UNION ALL SELECT 'b'"), 1);
	assert_string_equal(text, "a");
	free(text);
	assert_int_equal(q_text(ccm.db, &err, &text, "SELECT NULL"), 0);
	assert_null(text);
	assert_int_equal(q_text(ccm.db, &err, &text, "SELECT x FROM nowhere"), ERR_DB);
	assert_null(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(effects_come_after_the_commit_in_order_each_once),
		T(a_failure_changes_nothing_and_has_no_effects),
		T(a_count_is_no_failure),
		T(what_takes_time_runs_before_the_transaction),
		T(a_transaction_that_was_left_open_is_given_up),
		T(arguments_are_there_or_not),
		T(without_memory_for_arguments_it_is_refused),
		T(rows_become_json_by_their_columns),
		T(a_number_is_that_of_the_first_row),
		T(a_text_is_a_copy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
