/* Thousands of operations on models, features and functions by three users, right and wrong, and the rules that hold after each.
 */
#include "world.h"

#define ROUNDS 4
#define STEPS  3000

static uint64_t seed;

static unsigned any(unsigned below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 33) % below;
}

/* One that is there, mostly. */
static unsigned id_of(const char *ids)
{
	static const struct column column[] = {{"id", COL_INT}, {0}};
	json_auto_t *rows = NULL;
	struct err err;
	int64_t id = 0;
	if (any(10) == 0)
		return 1000;
	if (q_rows(ccm.db, &err, column, &rows, ids) < 0)
		fail_msg("%s", err.text);
	if (json_array_size(rows) > 0)
		id = json_integer_value(json_object_get(json_array_get(rows, any((unsigned)json_array_size(rows))), "id"));
	return (unsigned)id;
}
#define DF id_of("SELECT df_id FROM DeviceFeature")
#define DM id_of("SELECT dm_id FROM DeviceModel")
#define MF id_of("SELECT mf_id FROM DM_DF")
#define FN id_of("SELECT fn_id FROM Function")

static const char *params(void)
{
	static char text[400];
	static const char *const one[] = {"{}", "{'max':1}", "{'param_type':'string','fn_id':%u}", "{'fn_id':null}",
					  "{'unit_id':%u}"};
	unsigned n = any(4), len = 0;
	len += (unsigned)snprintf(text, sizeof(text), "[");
	for (unsigned i = 0; i < n; i++) {
		const char *p = one[any(ARRAY_LEN(one))];
		for (; *p != '\0'; p++)
			text[len++] = *p == '%' ? (char)('0' + any(7)) : *p == 'u' && p[-1] == '%' ? ' ' : *p;
		text[len++] = i + 1 < n ? ',' : ' ';
	}
	snprintf(text + len, sizeof(text) - len, "]");
	return text;
}

static void model_features(char *text, size_t cap)
{
	unsigned n = any(4);
	size_t len = (size_t)snprintf(text, cap, "[");
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, cap - len, "%s{'df_id':%u,'df_parameter':%s%s}", i > 0 ? "," : "", DF,
					params(), any(4) == 0 ? ",'tags':[{'tag_id':1}]" : "");
	snprintf(text + len, cap - len, "]");
}

static void step(void)
{
	int64_t u = 1 + any(3);
	unsigned id = any(9);
	const char *kind = any(2) ? "input" : "output";
	char list[1500];
	model_features(list, sizeof(list));
	switch (any(20)) {
	case 0:
	case 1:
		call(u, "create_device_feature", "{'df_name':'f%u','df_type':'%s','df_parameter':%s}", id, kind, params());
		break;
	case 2:
	case 3:
		call(u, "update_device_feature", "{'df_id':%u,'df_type':'%s','df_parameter':%s}", DF, kind, params());
		break;
	case 4:
		call(u, "delete_device_feature", "{'df_name':'f%u'}", id);
		break;
	case 5:
	case 6:
		call(u, "create_device_model", "{'dm_name':'m%u','df_list':%s}", id, list);
		break;
	case 7:
	case 8:
		call(u, "update_device_model", "{'dm_name':'m%u','df_list':%s}", id, list);
		break;
	case 9:
		call(u, "delete_device_model", "{'dm_id':%u}", DM);
		break;
	case 10:
		call(u, "update_device_feature_parameter", "{'dm_id':%u,'df_id':%u,'df_parameter':%s}", DM, DF, params());
		break;
	case 11:
		call(u, "create_device_feature_parameter", "{'df_id':%u,'df_parameter':%s}", DF, params());
		break;
	case 12:
		if (any(2))
			call(u, "delete_device_feature_parameter", "{'df_id':%u}", DF);
		else
			call(u, "delete_device_feature_parameter", "{'mf_id':%u}", MF);
		break;
	case 13:
	case 14:
		call(u, "create_function", "{'fn_name':'g%u','code':'%s','df_id':%u}", id, any(5) ? "def run" : "x",
		     any(2) ? DF : 0);
		break;
	case 15:
		call(u, "update_function", "{'fn_id':%u,'code':'def run','fnvt_idx':%s}", FN, any(2) ? "null" : "3");
		break;
	case 16:
		call(u, "delete_function", "{'fn_id':%u}", FN);
		break;
	case 17:
		call(u, "create_functionSDF", "{'fn_id':%u,'df_id':%u}", FN, DF);
		break;
	case 18:
		call(u, "delete_functionSDF", "{'fn_id':%u,'df_id':%u}", FN, DF);
		break;
	default:
		call(u, "save_dm_df_tag", "{'mf_id':%u,'tags':[%s]}", MF, any(2) ? "{'tag_id':1}" : "");
	}
	if (answer_rc == ERR_DB || answer_rc == ERR_NOMEM) /* it was for the operation to refuse it */
		fail_msg("%s", answer_err.text);
}

static const char *const rules[][2] = {
	{"a feature has as many parameters as it says", "SELECT count(*) FROM DeviceFeature f WHERE param_no <> (SELECT count(*) "
							"FROM DF_Parameter p WHERE p.df_id = f.df_id AND u_id IS NULL)"},
	{"so has everybody's own of it", "SELECT count(*) FROM (SELECT df_id, u_id, count(*) AS n FROM DF_Parameter WHERE df_id "
					 "IS NOT NULL GROUP BY 1, 2) JOIN DeviceFeature"
					 " USING (df_id) WHERE n <> param_no"},
	{"so has a model's feature", "SELECT count(*) FROM DM_DF JOIN DeviceFeature USING (df_id) WHERE param_no <> (SELECT "
				     "count(*) FROM DF_Parameter p WHERE p.mf_id ="
				     " DM_DF.mf_id AND u_id IS NULL)"},
	{"and everybody's own of that", "SELECT count(*) FROM (SELECT mf_id, u_id, count(*) AS n FROM DF_Parameter WHERE mf_id "
					"IS NOT NULL GROUP BY 1, 2) JOIN DM_DF USING"
					" (mf_id) JOIN DeviceFeature USING (df_id) WHERE n <> param_no"},
	{"they are counted from 0", "SELECT count(*) FROM (SELECT max(param_i) + 1 <> count(*) AS gap FROM DF_Parameter GROUP BY "
				    "ifnull(df_id, 0), ifnull(mf_id, 0),"
				    " ifnull(u_id, 0)) WHERE gap"},
	{"a model has a feature", "SELECT count(*) FROM DeviceModel WHERE dm_id NOT IN (SELECT dm_id FROM DM_DF)"},
	{"a function has a version", "SELECT count(*) FROM Function WHERE fn_id NOT IN (SELECT fn_id FROM FunctionVersion)"},
	{"every version is somebody's", "SELECT count(*) FROM FunctionVersion WHERE u_id IS NULL"},
};

static void rules_hold(void)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		int64_t broken = 0;
		struct err err;
		if (q_int(ccm.db, &err, &broken, rules[i][1]) != 1)
			fail_msg("%s", err.text);
		if (broken != 0)
			fail_msg("%s: not any more", rules[i][0]);
	}
}

static void rules_hold_after_each_operation(void **state)
{
	unsigned done = 0;
	for (unsigned round = 1; round <= ROUNDS; round++) {
		seed = 88172645463325252ULL * round;
		ok(ANN, "create_tag", "{'tag_name':'t','param_no':1}");
		for (unsigned i = 0; i < STEPS; i++) {
			step();
			done += answer_rc == 0;
			rules_hold();
		}
		teardown(state);
		setup(state);
	}
	assert_true(done > ROUNDS * STEPS / 10); /* not all of it was nonsense */
	print_message("%u of %u were taken\n", done, ROUNDS * STEPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {T(rules_hold_after_each_operation)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
