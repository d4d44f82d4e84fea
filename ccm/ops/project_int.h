/* project_int.h - what the operations on projects share: whose a thing is, and changes that several of them make.
 *
 * All run inside an operation. ret, where nothing else is said: 0 or negative with c->err set.
 */
#pragma once

#include "ccm/ops/project.h"
#include "ccm/ops/rows.h"

static inline int64_t row_int(const json_t *row, const char *name) /* null: 0 */
{
	return json_integer_value(json_object_get(row, name));
}

static inline const char *row_str(const json_t *row, const char *name) /* null: NULL */
{
	return json_string_value(json_object_get(row, name));
}

/* The row of a parameter; borrowed; NULL: there is none. */
static inline json_t *params_row(const json_t *rows, int64_t param_i)
{
	size_t i;
	json_t *row;
	json_array_foreach (rows, i, row)
		if (row_int(row, "param_i") == param_i)
			return row;
	return NULL;
}

/* ---- whose it is (own.c). ERR_NOENT: not there, not of the arguments' p_id or do_id, or another user's ---- */

struct object {
	int64_t do_id, p_id, dm_id, d_id; /* d_id 0: nothing is bound */
};

struct dfobject {
	int64_t dfo_id, do_id, p_id, df_id, dm_id, mf_id, d_id, param_no;
	bool is_output;
};

int own_project(struct op_call *c, int64_t p_id);
int own_object(struct op_call *c, int64_t do_id, struct object *ret);
int own_dfobject(struct op_call *c, int64_t dfo_id, struct dfobject *ret);
int own_na(struct op_call *c, int64_t na_id, int64_t *ret_p_id);
/* A function is there for the caller if a general version or one of its own is. */
int own_function(struct op_call *c, int64_t fn_id);
int sees_function(struct op_call *c, int64_t fn_id); /* ret: 1, 0 or negative */
/* ERR_EXIST with that text if the caller has a project of that name, other than p_id. */
int project_name_is_free(struct op_call *c, const char *name, int64_t p_id, const char *text);

/* ---- projects ---- */

int project_insert(struct op_call *c, const char *name, int64_t *ret_p_id);
/* With all that is in it, whoever asks; its graphs and simulators are looked at afterwards. */
int project_remove(struct op_call *c, int64_t p_id);
/* [na summary] by na_idx; yours. */
int na_summaries(struct op_call *c, int64_t p_id, json_t **ret);

/* ---- objects (object.c). Who calls one of them has something to simulate anew: sim_touch() is theirs ---- */

int dfobject_insert(struct op_call *c, int64_t do_id, int64_t df_id, const char *alias_name, int64_t *ret_dfo_id);
/* With its links. */
int dfobject_remove(struct op_call *c, int64_t dfo_id);
int object_remove(struct op_call *c, const struct object *o);
/* After a change of what is bound: the graphs of its links, the simulation. */
int object_touch(struct op_call *c, const struct object *o);
/* The bound device must be the caller's if there are outputs. */
int object_allows_output(struct op_call *c, int64_t d_id);

/* ---- network applications and links (link.c). The graph is touched ---- */

/* All of one project; at least one input and one output, all with the same tags. Twice the same: once. */
int links_check(struct op_call *c, const struct dfobject *list, size_t n);
int na_insert(struct op_call *c, int64_t p_id, const char *name, int64_t na_idx, const struct dfobject *list, size_t n,
	      int64_t *ret_na_id);
/* A link that is there: nothing happens. */
int link_add(struct op_call *c, int64_t na_id, const struct dfobject *o);
/* A link that is not there: nothing happens. A side that is empty then: the application goes, too; *ret_gone may be NULL. */
int link_remove(struct op_call *c, int64_t na_id, int64_t dfo_id, bool *ret_gone);
/* Write into a link's parameter what `values` has of idf_type, fn_id, min, max, normalization; null or absent: as it is, except
 * that fn_id null, or below 1, is no function. ret: 1, 0 (there is no such parameter), negative. */
int link_set(struct op_call *c, int64_t na_id, int64_t dfo_id, int64_t param_i, const json_t *values);
int join_set(struct op_call *c, int64_t na_id, int64_t fn_id); /* 0: none */

/* ---- which lines an editor shows in red (lines.c) ---- */

/* At most one application of a project is selected. It is not data: it is kept beside the store and goes with the process, so
 * that a question that selects does not wait for a disk. */
int lines_select(struct op_call *c, int64_t p_id, int64_t na_id); /* na_id 0: none */
int lines_selected(struct op_call *c, int64_t p_id, int64_t *ret_na_id);
