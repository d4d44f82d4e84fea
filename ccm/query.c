/* query.c - questions to the store whose answers are numbers and JSON rows. */
#include "ccm/query.h"

#include "common/util.h"
#include <string.h>

struct wanted {
	const struct column *columns;
	int64_t *num;
	char **text;
	json_t **row;
	json_t *rows;
	bool seen;  /* the first row */
	bool found; /* and it has something */
	struct err *err;
};

static json_t *cell(const struct column *column, const struct db_value *v)
{
	switch (v->type) {
	case DB_INT:
		return column->kind == COL_BOOL	  ? json_boolean(v->num != 0)
		       : column->kind == COL_REAL ? json_real((double)v->num)
						  : json_integer(v->num);
	case DB_REAL:
		return json_real(v->real);
	case DB_TEXT:
		return json_string(v->text);
	case DB_NULL:
		break;
	}
	return json_null();
}

/* ret: NULL: out of memory, or text of the store that is no UTF-8 */
static json_t *object_of(const struct column *columns, const struct db_value *v, size_t n)
{
	json_t *row = json_object();
	for (size_t i = 0; i < n && columns[i].name != NULL; i++) {
		if (json_object_set_new(row, columns[i].name, cell(&columns[i], &v[i])) < 0) {
			json_decref(row);
			return NULL;
		}
	}
	return row;
}

static int on_row(void *arg, const struct db_value *v, size_t n)
{
	struct wanted *w = arg;
	if (w->rows != NULL)
		return json_array_append_new(w->rows, object_of(w->columns, v, n)) < 0 ? err_set(w->err, ERR_NOMEM, "rows") : 0;
	if (w->seen)
		return 0;
	w->seen = true;
	w->found = v[0].type != DB_NULL || w->row != NULL;
	if (!w->found)
		return 0;
	if (w->num != NULL)
		*w->num = v[0].type == DB_INT ? v[0].num : 0;
	else if (w->text != NULL && (*w->text = strdup(v[0].type == DB_TEXT ? v[0].text : "")) == NULL)
		return err_set(w->err, ERR_NOMEM, "text");
	else if (w->row != NULL && (*w->row = object_of(w->columns, v, n)) == NULL)
		return err_set(w->err, ERR_NOMEM, "row");
	return 0;
}

static int ask(struct wanted *w, struct db *db, const char *sql, const struct db_value *args, size_t n)
{
	int rc = db->ops->run(db, sql, on_row, w, args, n, w->err);
	return rc < 0 ? rc : w->found;
}

int q_int_of(struct db *db, struct err *err, int64_t *ret, const char *sql, const struct db_value *args, size_t n)
{
	return ask(&(struct wanted){.num = ret, .err = err}, db, sql, args, n);
}

int q_text_of(struct db *db, struct err *err, char **ret, const char *sql, const struct db_value *args, size_t n)
{
	*ret = NULL;
	int rc = ask(&(struct wanted){.text = ret, .err = err}, db, sql, args, n);
	if (rc < 0) {
		free(*ret);
		*ret = NULL;
	}
	return rc;
}

int q_row_of(struct db *db, struct err *err, const struct column *columns, json_t **ret, const char *sql,
	     const struct db_value *args, size_t n)
{
	*ret = NULL;
	int rc = ask(&(struct wanted){.columns = columns, .row = ret, .err = err}, db, sql, args, n);
	if (rc < 0) {
		json_decref(*ret);
		*ret = NULL;
	}
	return rc;
}

int q_rows_of(struct db *db, struct err *err, const struct column *columns, json_t **ret, const char *sql,
	      const struct db_value *args, size_t n)
{
	struct wanted w = {.columns = columns, .rows = json_array(), .err = err};
	*ret = NULL;
	int rc = w.rows != NULL ? ask(&w, db, sql, args, n) : err_set(err, ERR_NOMEM, "rows");
	if (rc < 0)
		json_decref(w.rows);
	else
		*ret = w.rows;
	return rc;
}
