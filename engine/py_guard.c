#include "engine/py_guard.h"

#include "common/util.h"
#include "engine/py_priv.h"
#include <string.h>

/* What functions may import, and the public modules in them. */
static const char *const allowed[] = {
	"base64",    "bisect",     "collections", "copy",      "dataclasses", "datetime",
	"decimal",   "enum",       "fractions",   "functools", "hashlib",     "heapq",
	"itertools", "json",       "math",        "numpy",     "operator",    "random",
	"re",        "statistics", "string",      "struct",    "time",        "typing",
};

/* What the interpreter imports on behalf of a function that calls it: strptime(), "\N{...}",
 * warnings. Such a call differs from a statement by its list of names, which is an empty list. */
static const char *const behind[] = {"_io", "_strptime",   "copyreg",
				     "io",  "unicodedata", "warnings"};

/* Items of the tuple that is the guarded __import__'s self. */
enum { ALLOWED, BEHIND, NAMES, ITEMS };

static void decrefp(PyObject **o)
{
	Py_CLEAR(*o);
}

/* ret: NULL with an exception pending. */
static PyObject *refuse(PyObject *self, PyObject *name)
{
	CLEANUP(decrefp)
	PyObject *why =
		PyUnicode_FromFormat("module '%U' may not be imported; a function may import: %U",
				     name, PyTuple_GET_ITEM(self, NAMES));
	return why != NULL ? PyErr_SetImportError(why, name, NULL) : NULL;
}

/* ret: 1 yes, 0 no, -1 with an exception pending. */
static int may_import(PyObject *self, PyObject *name, PyObject *from)
{
	PyObject *set = PyTuple_GET_ITEM(self, ALLOWED);
	int rc = PySet_Contains(set, name);
	if (rc == 0 && from != NULL && PyList_CheckExact(from) && PyList_GET_SIZE(from) == 0)
		rc = PySet_Contains(PyTuple_GET_ITEM(self, BEHIND), name);
	if (rc != 0)
		return rc;
	const char *text = PyUnicode_AsUTF8(name), *dot = text != NULL ? strchr(text, '.') : NULL;
	if (text == NULL)
		return -1;
	if (dot == NULL)
		return 0;
	CLEANUP(decrefp)
	PyObject *root = PyUnicode_FromStringAndSize(text, dot - text);
	rc = root != NULL ? PySet_Contains(set, root) : -1;
	/* numpy is full of modules that it calls private, and imports late */
	if (rc == 1 && PyUnicode_CompareWithASCIIString(root, "numpy") != 0 &&
	    strstr(text, "._") != NULL)
		return 0;
	return rc;
}

static PyObject *guarded_import(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static const char *const keys[] = {"name", "globals", "locals", "fromlist", "level", NULL};
	PyObject *name, *globals = NULL, *locals = NULL, *from = NULL;
	int level = 0;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "U|OOOi:__import__",
					 (char **)(uintptr_t)keys, &name, &globals, &locals, &from,
					 &level))
		return NULL;
	if (level != 0) {
		PyErr_SetString(PyExc_ImportError, "a function is in no package");
		return NULL;
	}
	int rc = may_import(self, name, from);
	if (rc <= 0)
		return rc == 0 ? refuse(self, name) : NULL;
	return PyImport_ImportModuleLevelObject(name, globals, locals, from, 0);
}

/* ---- making it ---- */

static PyObject *set_of(const char *const *names, size_t n)
{
	CLEANUP(decrefp)
	PyObject *set = PyFrozenSet_New(NULL);
	for (size_t i = 0; set != NULL && i < n; i++) {
		CLEANUP(decrefp)
		PyObject *name = PyUnicode_InternFromString(names[i]);
		if (name == NULL || PySet_Add(set, name) < 0)
			return NULL;
	}
	return TAKE(set);
}

/* "base64, bisect, ..." */
static PyObject *list_of(const char *const *names, size_t n)
{
	char text[1000] = "";
	size_t len = 0;
	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i > 0 ? ", " : "",
					names[i]);
	return PyUnicode_FromString(text);
}

static PyObject *import_new(void)
{
	static PyMethodDef method = {
		.ml_name = "__import__",
		.ml_meth = (PyCFunction)(void (*)(void))guarded_import,
		.ml_flags = METH_VARARGS | METH_KEYWORDS,
		.ml_doc = "Import a module of the list that functions may use.",
	};
	const char *names[ARRAY_LEN(allowed)];
	size_t n = 0;
	PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
	for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
		if (PyDict_GetItemString(modules, allowed[i]) != NULL) /* numpy need not be there */
			names[n++] = allowed[i];
	CLEANUP(decrefp)
	PyObject *self = PyTuple_New(ITEMS);
	if (self == NULL)
		return NULL;
	PyTuple_SET_ITEM(self, ALLOWED, set_of(names, n));
	PyTuple_SET_ITEM(self, BEHIND, set_of(behind, ARRAY_LEN(behind)));
	PyTuple_SET_ITEM(self, NAMES, list_of(names, n));
	for (int i = 0; i < ITEMS; i++)
		if (PyTuple_GET_ITEM(self, i) == NULL)
			return NULL;
	return PyCFunction_New(&method, self);
}

int guard_init(struct guard *g, struct err *err)
{
	*g = (struct guard){.library = PyEval_GetBuiltins(), .import = import_new()};
	g->builtins = PyDict_Copy(g->library);
	g->spare = PyDict_Copy(g->library);
	if (g->import == NULL || g->builtins == NULL || g->spare == NULL ||
	    PyDict_SetItemString(g->builtins, "__import__", g->import) < 0)
		return py_brief(err, ERR_NOMEM, "making the builtins of functions");
	g->builtins_version = ((PyDictObject *)g->builtins)->ma_version_tag;
	g->library_version = ((PyDictObject *)g->library)->ma_version_tag;
	return 0;
}

void guard_done(struct guard *g)
{
	Py_CLEAR(g->builtins);
	Py_CLEAR(g->spare);
	Py_CLEAR(g->import);
	g->library = NULL;
}

/* What was added stays: others may use it by now. import: NULL: as in the spare ones. */
static void repair(PyObject *dict, PyObject *from, PyObject *import, uint64_t *version)
{
	if (PyDict_Update(dict, from) < 0 ||
	    (import != NULL && PyDict_SetItemString(dict, "__import__", import) < 0))
		PyErr_Clear(); /* no memory: the next call tries again */
	else
		*version = ((PyDictObject *)dict)->ma_version_tag;
}

void guard_repair(struct guard *g)
{
	PyObject *type, *value, *trace;
	PyErr_Fetch(&type, &value, &trace);
	repair(g->library, g->spare, NULL, &g->library_version);
	repair(g->builtins, g->spare, g->import, &g->builtins_version);
	PyErr_Restore(type, value, trace);
}
