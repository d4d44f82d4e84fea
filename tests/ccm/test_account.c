/* Accounts below the HTTP gate: operations, logins, tickets, on a store in memory. */
#include "ccm/ops/account.h"
#include "ccm/query.h"
#include "ccm/web/passwords.h"
#include "ccm/web/session.h"
#include "ccm/web/ticket.h"
#include "ccm/web/web.h"
#include "common/schema.h"
#include "common/util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define GUI	  "01234567-89ab-cdef-0123-456789abcdef"
#define OTHER_GUI "01234567-89ab-cdef-0123-456789abcdee"

struct site {
	struct ccm ccm;
	struct settings settings;
	/* of the last operation */
	bool done;
	int rc;
	json_t *data;
	char why[1000];
};

static int setup(void **state)
{
	struct site *t = test_calloc(1, sizeof(*t));
	struct err err = {0};
	assert_int_equal(settings_load(NULL, &t->settings, NULL, NULL, &err), 0);
	t->settings.gui.port = 0;
	free(t->settings.gui_db.url);
	t->settings.gui_db.url = strdup(":memory:");
	t->ccm.settings = &t->settings;
	if (loop_new(&t->ccm.loop, &err) < 0 || schema_open(&t->settings, SCHEMA_CCM, &t->ccm.db, &err) < 0 ||
	    web_new(&t->ccm, &t->ccm.web, &err) < 0)
		fail_msg("%s", err.text);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct site *t = *state;
	t->ccm.web = web_free(t->ccm.web);
	t->ccm.db = db_close(t->ccm.db);
	t->ccm.loop = loop_free(t->ccm.loop);
	settings_done(&t->settings);
	json_decref(t->data);
	test_free(t);
	return 0;
}

static void on_done(void *arg, struct op_call *c, int rc)
{
	struct site *t = arg;
	json_decref(t->data);
	t->done = true;
	t->rc = rc;
	t->data = TAKE(c->data);
	snprintf(t->why, sizeof(t->why), "%s", c->err.text);
}

static int run(struct site *t, const struct op *op, int64_t u_id, json_t *args)
{
	const struct caller who = {.u_id = u_id};
	t->done = false;
	op_start(&t->ccm, op, &who, args, on_done, t);
	while (!t->done)
		loop_turn(t->ccm.loop, 10000);
	return t->rc;
}

static json_t *new_account(const char *name)
{
	return json_pack("{s:s, s:s, s:s}", "username", name, "password", "secret", "peer", "127.0.0.1");
}

static int64_t create(struct site *t, const char *name)
{
	assert_int_equal(run(t, &op_account_create, 0, new_account(name)), 0);
	return json_integer_value(json_object_get(t->data, "id"));
}

static json_t *login_args(const char *name, const char *password, const char *session)
{
	return json_pack("{s:s, s:s, s:s, s:s}", "username", name, "password", password, "peer", "127.0.0.1", "session", session);
}

static int64_t count(struct site *t, const char *sql)
{
	int64_t n = 0;
	struct err err = {0};
	assert_true(q_int(t->ccm.db, &err, &n, sql) >= 0);
	return n;
}

static struct digest_text logged_in(struct site *t)
{
	const char *token = json_string_value(json_object_get(t->data, "session"));
	return sha256_hex(token, strlen(token));
}

static void a_login_is_found_by_its_digest_until_its_time(void **state)
{
	struct site *t = *state;
	struct caller who;
	struct err err = {0};
	int64_t u_id = create(t, "a");
	assert_int_equal(run(t, &op_account_login, 0, login_args("a", "secret", "")), 0);
	struct digest_text first = logged_in(t);
	assert_int_equal(session_find(t->ccm.db, &first, &who, &err), 1);
	assert_int_equal(who.u_id, u_id);
	assert_false(who.is_admin);
	/* the next one takes its place */
	assert_int_equal(run(t, &op_account_login, 0, login_args("a", "secret", first.s)), 0);
	struct digest_text second = logged_in(t);
	assert_int_equal(session_find(t->ccm.db, &first, &who, &err), 0);
	assert_int_equal(who.u_id, 0);
	assert_int_equal(q_exec(t->ccm.db, &err, "UPDATE Session SET expires_at = $1", DB_V_INT(time(NULL) - 1)), 0);
	assert_int_equal(session_find(t->ccm.db, &second, &who, &err), 0);
	assert_int_equal(session_sweep(t->ccm.db, &err), 0);
	assert_int_equal(count(t, "SELECT count(*) FROM Session"), 0);
}

static void a_user_that_may_not_log_in_does_not(void **state)
{
	struct site *t = *state;
	static const char *const states[] = {"is_active = 0", "is_active = 1, is_deleted = 1", "is_deleted = 0, passwd = ''", "passwd = 'x'"};
	char sql[200];
	create(t, "a");
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		snprintf(sql, sizeof(sql), "UPDATE User SET %s", states[i]);
		assert_int_equal(db_script(t->ccm.db, sql, NULL), 0);
		assert_int_equal(run(t, &op_account_login, 0, login_args("a", "secret", "")), ERR_ACCES);
		assert_string_equal(t->why, "invalid username or password");
		assert_int_equal(run(t, &op_account_login, 0, login_args("a", "", "")), ERR_ACCES);
	}
	assert_int_equal(count(t, "SELECT count(*) FROM Session"), 0);
}

static void the_oldest_of_too_many_logins_ends(void **state)
{
	struct site *t = *state;
	struct caller who;
	struct err err = {0};
	struct session_token first = session_token_new(), token;
	int64_t u_id = create(t, "a"), other = create(t, "b");
	assert_int_equal(session_add(t->ccm.db, u_id, &first, 10, &err), 0);
	token = session_token_new();
	assert_int_equal(session_add(t->ccm.db, other, &token, 5, &err), 0);
	for (int i = 0; i < SESSIONS_OF_USER; i++) {
		token = session_token_new();
		assert_int_equal(session_add(t->ccm.db, u_id, &token, 100, &err), 0);
	}
	assert_int_equal(count(t, "SELECT count(*) FROM Session"), SESSIONS_OF_USER + 1);
	struct digest_text digest = sha256_hex(first.s, strlen(first.s));
	assert_int_equal(session_find(t->ccm.db, &digest, &who, &err), 0);
}

static void a_ticket_is_for_one_client_and_ends_with_the_login(void **state)
{
	struct site *t = *state;
	int64_t u_id = create(t, "a");
	assert_int_equal(run(t, &op_account_login, 0, login_args("a", "secret", "")), 0);
	struct digest_text login = logged_in(t);
	assert_int_equal(run(t, &op_account_profile, u_id, json_pack("{s:s, s:s}", "gui", GUI, "session", login.s)), 0);
	CLEANUP(freep) char *ticket = strdup(json_string_value(json_object_get(t->data, "mqtt_ticket")));
	assert_int_equal(web_ticket_user(t->ccm.web, ticket, GUI), u_id);
	assert_int_equal(web_ticket_user(t->ccm.web, ticket, OTHER_GUI), 0);
	assert_int_equal(web_ticket_user(t->ccm.web, ticket, ""), 0);
	assert_int_equal(web_ticket_user(t->ccm.web, login.s, GUI), 0);
	assert_int_equal(web_ticket_user(t->ccm.web, "", GUI), 0);
	assert_int_equal(web_ticket_user(t->ccm.web, ".", GUI), 0);
	for (size_t i = 0; ticket[i] != '\0'; i++) {
		char kept = ticket[i];
		ticket[i] = kept == '1' ? '2' : '1';
		assert_int_equal(web_ticket_user(t->ccm.web, ticket, GUI), 0);
		ticket[i] = kept;
	}
	assert_int_equal(web_ticket_user(t->ccm.web, ticket, GUI), u_id);
	assert_int_equal(run(t, &op_account_logout, u_id, json_pack("{s:s}", "session", login.s)), 0);
	assert_int_equal(web_ticket_user(t->ccm.web, ticket, GUI), 0);
	assert_int_equal(run(t, &op_account_profile, u_id, json_pack("{s:s, s:s}", "gui", "x", "session", "")), ERR_INVAL);
}

static void one_name_is_one_user(void **state)
{
	struct site *t = *state;
	const struct caller nobody = {0};
	create(t, "a");
	assert_int_equal(run(t, &op_account_create, 0, new_account("a")), ERR_EXIST);
	assert_string_equal(t->why, "username already exists");
	assert_int_equal(run(t, &op_account_create, 0, new_account("a\nb")), ERR_INVAL);
	/* two at once: both names are free while they are hashed */
	t->done = false;
	op_start(&t->ccm, &op_account_create, &nobody, new_account("b"), on_done, t);
	assert_int_equal(run(t, &op_account_create, 0, new_account("b")), 0);
	t->done = false;
	while (!t->done)
		loop_turn(t->ccm.loop, 10000);
	assert_int_equal(t->rc, ERR_EXIST);
	assert_int_equal(count(t, "SELECT count(*) FROM User WHERE u_name = 'b'"), 1);
}

static void a_user_goes_with_all_that_is_its_own_and_nothing_else(void **state)
{
	struct site *t = *state;
	int64_t a = create(t, "a"), b = create(t, "b");
	char sql[2000];
	snprintf(sql, sizeof(sql),
		 "INSERT INTO Function (fn_id, fn_name) VALUES (1, 'own'), (2, 'shared'), (3, 'general');"
		 "INSERT INTO FunctionVersion (fn_id, u_id, date, code) VALUES (1, %d, '', ''), (2, %d, '', ''), (2, %d, '', ''), (3, NULL, '', '');"
		 "INSERT INTO DeviceModel (dm_id, dm_name) VALUES (1, 'M');"
		 "INSERT INTO Device (d_id, mac_addr, d_name, u_id, dm_id, register_time) VALUES (1, 'm', 'd', %d, 1, '');"
		 "INSERT INTO Project (p_id, p_name, u_id) VALUES (1, 'p', %d), (2, 'p', %d);"
		 "INSERT INTO NetworkApplication (na_id, na_name, na_idx, p_id) VALUES (1, 'n', 0, 1), (2, 'n', 0, 2);"
		 "INSERT INTO DeviceObject (do_id, dm_id, p_id, d_id) VALUES (1, 1, 1, 1), (2, 1, 2, 1);",
		 (int)a, (int)a, (int)b, (int)a, (int)a, (int)b);
	assert_int_equal(db_script(t->ccm.db, sql, NULL), 0);
	assert_int_equal(run(t, &op_account_delete, a, json_object()), 0);
	assert_int_equal(count(t, "SELECT count(*) FROM Project"), 1);
	assert_int_equal(count(t, "SELECT count(*) FROM NetworkApplication"), 1);
	assert_int_equal(count(t, "SELECT sum(fn_id) FROM Function"), 2 + 3);
	assert_int_equal(count(t, "SELECT count(*) FROM Device WHERE u_id IS NULL"), 1);
	assert_int_equal(count(t, "SELECT d_id FROM DeviceObject WHERE do_id = 2"), 1);
	assert_int_equal(run(t, &op_account_delete, a, json_object()), ERR_NOENT);
	assert_int_equal(run(t, &op_admin_user_delete, b, json_pack("{s:I}", "id", (json_int_t)a)), ERR_NOENT);
}

/* ---- passwords ---- */

struct heard {
	unsigned n;
	int last;
};

static void on_verified(void *arg, int rc, const char *hash)
{
	struct heard *h = arg;
	assert_null(hash);
	h->n++;
	h->last = rc;
}

static void what_the_queue_cannot_hold_is_refused_at_once(void **state)
{
	struct site *t = *state;
	struct passwords *p = NULL;
	struct heard h = {0};
	unsigned taken = 0;
	(void)state;
	assert_int_equal(passwords_new(t->ccm.loop, &p, NULL), 0);
	for (int i = 0; i < 1000; i++) {
		int rc = passwords_verify(p, "x", "", on_verified, &h);
		assert_true(rc == 0 || rc == ERR_AGAIN);
		taken += rc == 0;
	}
	assert_in_range(taken, PASSWORDS_QUEUE, PASSWORDS_QUEUE + 10); /* and those that were done meanwhile */
	assert_int_equal(h.n, 0);
	while (h.n < 3)
		loop_turn(t->ccm.loop, 10000);
	assert_int_equal(h.last, ERR_ACCES);
	p = passwords_free(p);
	assert_int_equal(h.n, taken); /* nobody is forgotten */
	assert_int_equal(h.last, ERR_AGAIN);
}

static void a_hash_fits_its_password_only(void **state)
{
	struct site *t = *state;
	char hash[PASSWORD_HASH_MAX];
	static const struct {
		const char *password;
		int rc;
	} cases[] = {{"secret", 0}, {"Secret", ERR_ACCES}, {"", ERR_ACCES}, {"secret ", ERR_ACCES}};
	assert_int_equal(password_hash_now("secret", hash), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct heard h = {0};
		assert_int_equal(passwords_verify(web_passwords(t->ccm.web), cases[i].password, hash, on_verified, &h), 0);
		while (h.n == 0)
			loop_turn(t->ccm.loop, 10000);
		assert_int_equal(h.last, cases[i].rc);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_login_is_found_by_its_digest_until_its_time),
		T(a_user_that_may_not_log_in_does_not),
		T(the_oldest_of_too_many_logins_ends),
		T(a_ticket_is_for_one_client_and_ends_with_the_login),
		T(one_name_is_one_user),
		T(a_user_goes_with_all_that_is_its_own_and_nothing_else),
		T(what_the_queue_cannot_hold_is_refused_at_once),
		T(a_hash_fits_its_password_only),
	};
	return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
