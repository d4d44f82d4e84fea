#include "engine/py_priv.h"

#include "common/util.h"
#include "engine/num.h"
#include <math.h>

#define SHOWN_TYPE_MAX 100 /* bytes of a type's name */

static void decrefp(PyObject **o)
{
	Py_CLEAR(*o);
}

struct val *val_keep(struct val *v)
{
	Py_INCREF(obj(v));
	return v;
}

struct val *val_drop(struct val *v)
{
	Py_XDECREF(obj(v));
	return NULL;
}

void val_drop_all(struct val *const *v, size_t n)
{
	while (n > 0)
		Py_DECREF(obj(v[--n]));
}

struct val *val_bool(bool b)
{
	return val_of(b ? Py_True : Py_False);
}

struct val *val_whole(int64_t n)
{
	PyObject *o = PyLong_FromLongLong(n);
	if (o == NULL)
		PyErr_Clear();
	return val_of(o);
}

struct val *val_real(double d)
{
	PyObject *o = PyFloat_FromDouble(d);
	if (o == NULL)
		PyErr_Clear();
	return val_of(o);
}

struct val *val_none(void)
{
	return val_of(Py_None);
}

bool val_is_none(const struct val *v)
{
	return obj(v) == Py_None;
}

bool val_is_seq(const struct val *v)
{
	return PyList_Check(obj(v)) || PyTuple_Check(obj(v));
}

size_t val_count(const struct val *seq)
{
	return (size_t)Py_SIZE(obj(seq));
}

struct val *val_item(struct val *seq, size_t i)
{
	if (i >= val_count(seq))
		return NULL;
	PyObject *o = obj(seq);
	return val_of(Py_NewRef(PyList_Check(o) ? PyList_GET_ITEM(o, i) : PyTuple_GET_ITEM(o, i)));
}

void val_items(struct val *seq, struct val **ret)
{
	PyObject **items = PySequence_Fast_ITEMS(obj(seq));
	for (Py_ssize_t i = 0; i < Py_SIZE(obj(seq)); i++)
		ret[i] = val_of(Py_NewRef(items[i]));
}

struct val *val_list(struct val *const *items, size_t n)
{
	PyObject *list = PyList_New((Py_ssize_t)n);
	if (list == NULL) {
		PyErr_Clear();
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		PyList_SET_ITEM(list, i, Py_NewRef(obj(items[i])));
	return val_of(list);
}

struct val *val_subtract(struct val *a, struct val *b)
{
	PyObject *d = PyNumber_Subtract(obj(a), obj(b));
	if (d == NULL)
		PyErr_Clear();
	return val_of(d);
}

/* ---- reading ---- */

/* ret: NULL with an exception pending. */
static PyObject *from_json(const json_t *json, unsigned depth)
{
	if (depth >= PY_DEPTH_MAX && (json_is_array(json) || json_is_object(json))) {
		PyErr_SetString(PyExc_ValueError, "nested too deeply");
		return NULL;
	}
	switch (json_typeof(json)) {
	case JSON_INTEGER:
		return PyLong_FromLongLong(json_integer_value(json));
	case JSON_REAL:
		return PyFloat_FromDouble(json_real_value(json));
	case JSON_STRING:
		return PyUnicode_DecodeUTF8(json_string_value(json),
					    (Py_ssize_t)json_string_length(json), NULL);
	case JSON_TRUE:
		return Py_NewRef(Py_True);
	case JSON_FALSE:
		return Py_NewRef(Py_False);
	case JSON_NULL:
		return Py_NewRef(Py_None);
	case JSON_ARRAY: {
		size_t n = json_array_size(json);
		CLEANUP(decrefp)
		PyObject *list = PyList_New((Py_ssize_t)n);
		for (size_t i = 0; list != NULL && i < n; i++) {
			PyObject *item = from_json(json_array_get(json, i), depth + 1);
			if (item == NULL)
				return NULL;
			PyList_SET_ITEM(list, i, item);
		}
		return TAKE(list);
	}
	case JSON_OBJECT: {
		CLEANUP(decrefp)
		PyObject *dict = PyDict_New();
		const char *key;
		json_t *value;
		json_object_foreach ((json_t *)(uintptr_t)json, key, value) {
			CLEANUP(decrefp)
			PyObject *item = dict != NULL ? from_json(value, depth + 1) : NULL;
			if (item == NULL || PyDict_SetItemString(dict, key, item) < 0)
				return NULL;
		}
		return TAKE(dict);
	}
	}
	PyErr_SetString(PyExc_ValueError, "unknown JSON type");
	return NULL;
}

int val_from_json(const json_t *json, unsigned depth, struct val **ret, struct err *err)
{
	PyObject *o = from_json(json, depth);
	if (o == NULL)
		return py_brief(err, ERR_SCHEMA, "payload");
	*ret = val_of(o);
	return 0;
}

/* ---- writing ---- */

struct writer {
	struct text *out;
	bool lenient; /* show what has no JSON instead of failing */
	struct err *err;
	PyObject *open[PY_DEPTH_MAX]; /* the containers we are in */
	unsigned depth;
};

static int write_value(struct writer *w, PyObject *o);

static int full(struct writer *w)
{
	return err_set(w->err, ERR_RANGE, "result is longer than %zu bytes", w->out->cap);
}

static int put(struct writer *w, const char *s, size_t n)
{
	return text_put(w->out, s, n) ? 0 : full(w);
}

static int type_name_len(PyObject *o)
{
	const char *name = Py_TYPE(o)->tp_name;
	return (int)text_whole(name, strlen(name), SHOWN_TYPE_MAX);
}

/* `o` has no JSON, because `why`. */
static int refuse(struct writer *w, PyObject *o, const char *why)
{
	char shown[SHOWN_TYPE_MAX + 4];
	PyErr_Clear();
	if (!w->lenient)
		return err_set(w->err, ERR_SCHEMA, "%s", why);
	int n = snprintf(shown, sizeof(shown), "<%.*s>", type_name_len(o), Py_TYPE(o)->tp_name);
	return n > 0 && text_put_json(w->out, shown, (size_t)n) ? 0 : full(w);
}

static int refuse_type(struct writer *w, PyObject *o)
{
	char why[SHOWN_TYPE_MAX + 64];
	snprintf(why, sizeof(why), "a value of type %.*s has no JSON", type_name_len(o),
		 Py_TYPE(o)->tp_name);
	return refuse(w, o, why);
}

/* Conversion called user code, which raised. */
static int refuse_raised(struct writer *w, PyObject *o, const char *what)
{
	struct err why;
	py_brief(&why, ERR_SCHEMA, what);
	return refuse(w, o, why.text);
}

static int write_str(struct writer *w, PyObject *o)
{
	Py_ssize_t n;
	const char *utf8 = PyUnicode_AsUTF8AndSize(o, &n);
	if (utf8 != NULL)
		return text_put_json(w->out, utf8, (size_t)n) ? 0 : full(w);
	if (PyErr_ExceptionMatches(PyExc_MemoryError) || !w->lenient)
		return refuse(w, o, "a string holds half of a surrogate pair (or memory is short)");
	PyErr_Clear();
	CLEANUP(decrefp)
	PyObject *bytes = PyUnicode_AsEncodedString(o, "utf-8", "backslashreplace");
	if (bytes == NULL)
		return refuse(w, o, "");
	return text_put_json(w->out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes))
		       ? 0
		       : full(w);
}

/* Where to write a number: in its place, or in `spare` if it may not fit there. */
static char *number_place(const struct writer *w, char *spare)
{
	const struct text *t = w->out;
	return t->cap - t->len >= NUM_TEXT_MAX ? t->data + t->len : spare;
}

/* It has been written at `at`. */
static int number_done(struct writer *w, const char *at, size_t len)
{
	struct text *t = w->out;
	if (at != t->data + t->len)
		return put(w, at, len);
	t->len += len;
	return 0;
}

static int write_int(struct writer *w, PyObject *o)
{
	int overflow;
	char spare[NUM_TEXT_MAX], *at = number_place(w, spare);
	long long n = PyLong_AsLongLongAndOverflow(o, &overflow);
	if (overflow != 0)
		return refuse(w, o, "an integer needs more than 64 bits");
	return number_done(w, at, num_write_whole(at, n));
}

static int write_real(struct writer *w, PyObject *o, double d)
{
	char spare[NUM_TEXT_MAX], *at = number_place(w, spare);
	if (!isfinite(d))
		return refuse(w, o, isnan(d) ? "NaN has no JSON" : "Infinity has no JSON");
	size_t len = num_write_real(at, d);
	if (len > 0)
		return number_done(w, at, len);
	char *repr = PyOS_double_to_string(d, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
	if (repr == NULL)
		return refuse(w, o, "out of memory");
	int rc = put(w, repr, strlen(repr));
	PyMem_Free(repr);
	return rc;
}

/* Keys as the json module makes them of numbers and constants. */
static int write_key(struct writer *w, PyObject *key)
{
	if (PyUnicode_Check(key))
		return write_str(w, key);
	if (!(key == Py_None || PyBool_Check(key) || PyLong_Check(key) || PyFloat_Check(key)))
		return refuse(w, key, "a key is not a string, number, boolean or None");
	size_t before = w->out->len;
	bool lenient = w->lenient;
	w->lenient = false; /* a stand-in would bring quotes of its own */
	int rc = put(w, "\"", 1);
	if (rc == 0)
		rc = write_value(w, key);
	if (rc == 0)
		rc = put(w, "\"", 1);
	w->lenient = lenient;
	if (rc == ERR_SCHEMA && lenient) {
		w->out->len = before;
		rc = refuse(w, key, "");
	}
	return rc;
}

/* Lists may change while we write them: conversions run user code. So everything is looked at
 * again, and held. */
static int write_seq(struct writer *w, PyObject *o)
{
	int rc = put(w, "[", 1);
	for (size_t i = 0; rc == 0; i++) {
		CLEANUP(decrefp)
		PyObject *item = obj(val_item(val_of(o), i));
		if (item == NULL)
			break;
		if (i > 0)
			rc = put(w, ",", 1);
		if (rc == 0)
			rc = write_value(w, item);
	}
	return rc == 0 ? put(w, "]", 1) : rc;
}

static int write_pair(struct writer *w, PyObject *key, PyObject *value, bool first)
{
	int rc = first ? 0 : put(w, ",", 1);
	if (rc == 0)
		rc = write_key(w, key);
	if (rc == 0)
		rc = put(w, ":", 1);
	return rc == 0 ? write_value(w, value) : rc;
}

static int write_items(struct writer *w, PyObject *o)
{
	CLEANUP(decrefp)
	PyObject *items = PyMapping_Items(o);
	if (items == NULL)
		return refuse_raised(w, o, "reading a mapping");
	size_t n = val_count(val_of(items));
	/* all of them before anything is written: a refusal must not leave half an object behind */
	for (size_t i = 0; i < n; i++) {
		CLEANUP(decrefp)
		PyObject *pair = obj(val_item(val_of(items), i));
		if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
			return refuse_type(w, o);
	}
	int rc = put(w, "{", 1);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		CLEANUP(decrefp)
		PyObject *pair = obj(val_item(val_of(items), i));
		rc = write_pair(w, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), i == 0);
	}
	return rc == 0 ? put(w, "}", 1) : rc;
}

static int write_dict(struct writer *w, PyObject *o)
{
	Py_ssize_t at = 0;
	PyObject *k, *v;
	if (!PyDict_CheckExact(o))
		return write_items(w, o);
	int rc = put(w, "{", 1);
	for (bool first = true; rc == 0 && PyDict_Next(o, &at, &k, &v); first = false) {
		CLEANUP(decrefp)
		PyObject *key = Py_NewRef(k);
		CLEANUP(decrefp)
		PyObject *value = Py_NewRef(v);
		rc = write_pair(w, key, value, first);
	}
	return rc == 0 ? put(w, "}", 1) : rc;
}

static int write_container(struct writer *w, PyObject *o)
{
	for (unsigned i = 0; i < w->depth; i++)
		if (w->open[i] == o)
			return refuse(w, o, "a value contains itself");
	if (w->depth == PY_DEPTH_MAX)
		return refuse(w, o, "values are nested more than 100 deep");
	size_t before = w->out->len;
	w->open[w->depth++] = o;
	int rc = PyDict_Check(o) ? write_dict(w, o) : write_seq(w, o);
	w->depth--;
	if (rc == ERR_SCHEMA && w->lenient) {
		w->out->len = before;
		return refuse(w, o, "");
	}
	return rc;
}

/* What is no basic type but says what number it is: numpy scalars, Fraction, Decimal. */
static int write_number_like(struct writer *w, PyObject *o)
{
	if (PyIndex_Check(o)) {
		CLEANUP(decrefp)
		PyObject *n = PyNumber_Index(o);
		return n != NULL ? write_int(w, n) : refuse_raised(w, o, "__index__ of a value");
	}
	if (Py_TYPE(o)->tp_as_number == NULL || Py_TYPE(o)->tp_as_number->nb_float == NULL)
		return refuse_type(w, o);
	double d = PyFloat_AsDouble(o);
	if (d == -1.0 && PyErr_Occurred() != NULL)
		return refuse_raised(w, o, "__float__ of a value");
	return write_real(w, o, d);
}

static int write_value(struct writer *w, PyObject *o)
{
	if (PyLong_CheckExact(o))
		return write_int(w, o);
	if (PyFloat_Check(o))
		return write_real(w, o, PyFloat_AS_DOUBLE(o));
	if (o == Py_True)
		return put(w, "true", 4);
	if (o == Py_False)
		return put(w, "false", 5);
	if (PyLong_Check(o))
		return write_int(w, o);
	if (PyUnicode_Check(o))
		return write_str(w, o);
	if (o == Py_None)
		return put(w, "null", 4);
	if (PyList_Check(o) || PyTuple_Check(o) || PyDict_Check(o))
		return write_container(w, o);
	return write_number_like(w, o);
}

static int write_all(struct val *v, bool lenient, struct text *out, struct err *err)
{
	struct writer w; /* not all of it set to zero: this is done for each result */
	w.out = out;
	w.lenient = lenient;
	w.err = err;
	w.depth = 0;
	size_t before = out->len;
	int rc = write_value(&w, obj(v));
	if (rc < 0)
		out->len = before;
	return rc;
}

int val_write(struct val *v, struct text *out, struct err *err)
{
	return write_all(v, false, out, err);
}

int val_show(struct val *v, struct text *out)
{
	return write_all(v, true, out, NULL);
}
