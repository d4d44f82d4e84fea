/* lines.c - the selected network application of each project, in a temporary table: transactions hold for it, too. */
#include "ccm/ops/project_int.h"

static int ready(struct op_call *c)
{
	return q_exec(c->db, &c->err,
		      "CREATE TEMP TABLE IF NOT EXISTS RedLines (p_id INTEGER PRIMARY KEY, na_id INTEGER NOT NULL)");
}

int lines_select(struct op_call *c, int64_t p_id, int64_t na_id)
{
	int rc = ready(c);
	if (rc < 0)
		return rc;
	if (na_id == 0)
		return q_exec(c->db, &c->err, "DELETE FROM RedLines WHERE p_id = $1", DB_V_INT(p_id));
	return q_exec(
		c->db, &c->err,
		"INSERT INTO RedLines (p_id, na_id) VALUES ($1, $2) ON CONFLICT (p_id) DO UPDATE SET na_id = excluded.na_id",
		DB_V_INT(p_id), DB_V_INT(na_id));
}

int lines_selected(struct op_call *c, int64_t p_id, int64_t *ret_na_id)
{
	int rc = ready(c);
	*ret_na_id = 0;
	if (rc == 0)
		rc = q_int(c->db, &c->err, ret_na_id, "SELECT na_id FROM RedLines WHERE p_id = $1", DB_V_INT(p_id));
	return rc < 0 ? rc : 0;
}
