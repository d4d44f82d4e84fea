#include "engine/py_priv.h"

#include "common/id.h"
#include "common/util.h"
#include "engine/py_mem.h"
#include <stdlib.h>

/* One text, however often it is used: kept for tracebacks and messages, compiled once. */
struct source {
	struct digest_text digest;
	unsigned refs;
	PyObject *filename;
	PyObject *code;
	size_t len;
	char text[]; /* len bytes and a NUL */
};

struct pyfn {
	PyObject *run; /* what a call needs comes first */
	vectorcallfunc call;
	struct py *py;
	uint32_t owner;     /* of its memory; that of its dependencies, too */
	bool is_dependency; /* somebody else's owner */
	unsigned refs;
	struct source *source;
	PyObject *globals;
	size_t n_depends;
	struct pyfn *depends[]; /* they live as long as the function that calls them */
};

static void decrefp(PyObject **o)
{
	Py_CLEAR(*o);
}

/* ---- the interpreter ---- */

/* What is there now is for ever: nothing for the collector to look at, nor for functions that walk
 * its objects. */
static int hide_all(struct err *err)
{
	CLEANUP(decrefp)
	PyObject *gc = PyImport_ImportModule("gc");
	PyGC_Collect();
	CLEANUP(decrefp)
	PyObject *done = gc != NULL ? PyObject_CallMethod(gc, "freeze", NULL) : NULL;
	return done != NULL ? 0 : py_brief(err, ERR_SYS, "preparing Python");
}

static int boot(struct py *py, struct err *err)
{
	CLEANUP(decrefp)
	PyObject *globals = PyDict_New();
	CLEANUP(decrefp)
	PyObject *tell = py_tell_new(py);
	if (globals == NULL || tell == NULL || PyDict_SetItemString(globals, "tell", tell) < 0 ||
	    PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins()) < 0)
		return py_brief(err, ERR_NOMEM, "starting Python");
	CLEANUP(decrefp)
	PyObject *done = PyRun_String(py_boot_source, Py_file_input, globals, globals);
	if (done == NULL)
		return py_brief(err, ERR_SYS, "preparing Python");
	py->explain = Py_XNewRef(PyDict_GetItemString(globals, "explain"));
	py->remember = Py_XNewRef(PyDict_GetItemString(globals, "remember"));
	py->forget = Py_XNewRef(PyDict_GetItemString(globals, "forget"));
	if (py->explain == NULL || py->remember == NULL || py->forget == NULL)
		return err_set(err, ERR_SYS, "preparing Python: its helpers are missing");
	int rc = guard_init(&py->guard, err);
	return rc == 0 ? hide_all(err) : rc;
}

int py_start(struct py **ret, struct err *err)
{
	PyPreConfig pre;
	PyConfig config;
	struct py *py = calloc(1, sizeof(*py));
	if (py == NULL || (py->sources = map_new()) == NULL) {
		free(py);
		return err_set(err, ERR_NOMEM, "out of memory for Python");
	}
	if (setenv("OPENBLAS_NUM_THREADS", "1", 1) <
	    0) /* numpy's; it would take them for threads */
		return err_sys(err, "the environment");
	mem_hook();
	PyPreConfig_InitIsolatedConfig(&pre);
	pre.utf8_mode = 1;
	PyStatus status = Py_PreInitialize(&pre);
	PyConfig_InitIsolatedConfig(&config);
	config.install_signal_handlers = 0;
	config.site_import = 0;
	config.user_site_directory = 0;
	config.write_bytecode = 0;
	config.parse_argv = 0;
	config.pathconfig_warnings = 0;
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(&config);
	PyConfig_Clear(&config);
	if (PyStatus_Exception(status)) {
		py->sources = map_free(py->sources, NULL);
		free(py);
		return err_set(err, ERR_SYS, "Python does not start: %s",
			       status.err_msg != NULL ? status.err_msg : "?");
	}
	int rc = boot(py, err);
	if (rc < 0) {
		py_stop(py);
		return rc;
	}
	*ret = py;
	return 0;
}

struct py *py_stop(struct py *py)
{
	if (py == NULL)
		return NULL;
	Py_CLEAR(py->explain);
	Py_CLEAR(py->remember);
	Py_CLEAR(py->forget);
	guard_done(&py->guard);
	map_free(py->sources, NULL);
	Py_FinalizeEx();
	free(py);
	return NULL;
}

void py_set_function_quota(size_t bytes)
{
	mem_set_quota(bytes);
}

void py_collect(struct py *py)
{
	PyGC_Collect();
	guard_check(&py->guard);
}

/* ---- what went wrong ---- */

int py_brief(struct err *err, int code, const char *what)
{
	PyObject *type = NULL, *value = NULL, *trace = NULL;
	if (PyErr_ExceptionMatches(PyExc_MemoryError))
		code = ERR_NOMEM;
	PyErr_Fetch(&type, &value, &trace);
	CLEANUP(decrefp)
	PyObject *text = value != NULL ? PyObject_Str(value) : NULL;
	Py_ssize_t len = 0;
	const char *utf8 = text != NULL ? PyUnicode_AsUTF8AndSize(text, &len) : NULL;
	if (utf8 == NULL)
		len = 0;
	const char *name =
		type != NULL && PyType_Check(type) ? ((PyTypeObject *)type)->tp_name : "error";
	int shown = (int)text_whole(utf8, (size_t)len, 400);
	err_set(err, code, "%s: %s%s%.*s", what, name, shown > 0 ? ": " : "", shown,
		utf8 != NULL ? utf8 : "");
	PyErr_Clear(); /* of the text itself */
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(trace);
	return code;
}

void py_explain(struct py *py, struct text *why)
{
	PyObject *type = NULL, *value = NULL, *trace = NULL;
	PyErr_Fetch(&type, &value, &trace);
	PyErr_NormalizeException(&type, &value, &trace);
	if (value != NULL && trace != NULL)
		PyException_SetTraceback(value, trace);

	CLEANUP(decrefp)
	PyObject *text = value != NULL ? PyObject_CallOneArg(py->explain, value) : NULL;
	CLEANUP(decrefp)
	PyObject *utf8 = NULL;
	if (text != NULL && PyUnicode_Check(text))
		utf8 = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (utf8 != NULL) {
		text_set_bounded(why, PyBytes_AS_STRING(utf8), (size_t)PyBytes_GET_SIZE(utf8),
				 PY_FRONT_MAX);
	} else {
		/* no memory for it, or some function has spoilt what it needs: at least name and
		 * text */
		struct err brief;
		PyErr_Restore(Py_XNewRef(type), Py_XNewRef(value), NULL);
		py_brief(&brief, ERR_PEER, "no traceback");
		text_set_bounded(why, brief.text, strlen(brief.text), PY_FRONT_MAX);
	}
	PyErr_Clear();
	Py_XDECREF(type);
	Py_XDECREF(value);
	Py_XDECREF(trace);
	if (py->refused) {
		char front[PY_FRONT_MAX];
		snprintf(front, sizeof(front), "memory quota of %zu MiB exceeded\n",
			 mem_quota() >> 20);
		text_prepend(why, front);
	}
	py->refused = false;
	guard_check(&py->guard);
}

void py_forget(void)
{
	PyErr_Clear();
}

/* ---- sources ---- */

static struct source *source_drop(struct py *py, struct source *s)
{
	if (s == NULL || --s->refs > 0)
		return NULL;
	map_remove(py->sources, s->digest.s);
	if (s->filename != NULL) {
		PyObject *done = PyObject_CallOneArg(py->forget, s->filename);
		Py_XDECREF(done);
		PyErr_Clear();
	}
	Py_XDECREF(s->filename);
	Py_XDECREF(s->code);
	free(s);
	return NULL;
}

/* What was raised is the function's fault (code), or the memory's. */
static int raised(struct py *py, int code)
{
	py->refused = mem_was_refused();
	if (py->refused)
		return ERR_LIMIT;
	return PyErr_ExceptionMatches(PyExc_MemoryError) ? ERR_NOMEM : code;
}

/* Loading raised. */
static int not_loaded(struct py *py, struct text *why)
{
	int rc = raised(py, ERR_SCHEMA);
	uint32_t owner = mem_enter(0); /* whoever is at its limit shall still be told */
	py_explain(py, why);
	mem_enter(owner);
	return rc;
}

static int source_compile(struct py *py, struct source *s, struct text *why)
{
	PyCompilerFlags flags = {.cf_flags = PyCF_IGNORE_COOKIE,
				 .cf_feature_version = PY_MINOR_VERSION};
	CLEANUP(decrefp)
	PyObject *text = NULL;
	CLEANUP(decrefp)
	PyObject *done = NULL;
	text = PyUnicode_DecodeUTF8(s->text, (Py_ssize_t)s->len, "strict");
	s->filename = PyUnicode_FromFormat("<function %.12s>", s->digest.s);
	if (text == NULL || s->filename == NULL)
		return not_loaded(py, why);
	done = PyObject_CallFunctionObjArgs(py->remember, s->filename, text, NULL);
	if (done == NULL)
		PyErr_Clear(); /* tracebacks without source lines, because some function has spoilt
				  linecache: no reason to refuse this one */
	if (memchr(s->text, '\0', s->len) != NULL)
		PyErr_SetString(PyExc_ValueError, "source code cannot contain null bytes");
	else
		s->code = Py_CompileStringObject(s->text, s->filename, Py_file_input, &flags, -1);
	return s->code != NULL ? 0 : not_loaded(py, why);
}

static int source_get(struct py *py, const struct pyfn_source *from, struct source **ret,
		      struct text *why)
{
	struct digest_text digest = sha256_hex(from->source, from->len);
	struct source *s = map_find(py->sources, digest.s);
	if (s != NULL) {
		s->refs++;
		*ret = s;
		return 0;
	}
	s = calloc(1, sizeof(*s) + from->len + 1);
	if (s == NULL) {
		text_set_bounded(why, "out of memory", strlen("out of memory"), 0);
		return ERR_NOMEM;
	}
	s->digest = digest;
	s->refs = 1;
	s->len = from->len;
	memcpy(s->text, from->source, from->len);
	int rc = map_add(py->sources, s->digest.s, s);
	if (rc < 0) {
		free(s);
		text_set_bounded(why, "out of memory", strlen("out of memory"), 0);
		return ERR_NOMEM;
	}
	rc = source_compile(py, s, why);
	if (rc < 0) {
		source_drop(py, s);
		return rc;
	}
	*ret = s;
	return 0;
}

/* ---- functions ---- */

/* The globals of one use: builtins, and the dependencies as attributes of `iot`. */
static PyObject *globals_new(struct py *py, const struct pyfn_source *depends,
			     struct pyfn *const *fns, size_t n)
{
	CLEANUP(decrefp)
	PyObject *globals = PyDict_New();
	CLEANUP(decrefp)
	PyObject *iot = PyModule_New("iot");
	CLEANUP(decrefp)
	PyObject *name = PyUnicode_FromString("iot_function");
	if (globals == NULL || iot == NULL || name == NULL ||
	    PyDict_SetItemString(globals, "__builtins__", py->guard.builtins) < 0 ||
	    PyDict_SetItemString(globals, "__name__", name) < 0 ||
	    PyDict_SetItemString(globals, "iot", iot) < 0)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (PyObject_SetAttrString(iot, depends[i].alias, fns[i]->run) < 0)
			return NULL;
	return TAKE(globals);
}

static int say(struct text *why, int code, const char *reason)
{
	text_set_bounded(why, reason, strlen(reason), 0);
	return code;
}

/* Run the module level and find `run`. */
static int load(struct py *py, struct pyfn *f, const struct pyfn_source *depends, struct text *why)
{
	f->globals = globals_new(py, depends, f->depends, f->n_depends);
	if (f->globals == NULL)
		return not_loaded(py, why);
	PyObject *done = PyEval_EvalCode(f->source->code, f->globals, f->globals);
	guard_check(&py->guard);
	if (done == NULL)
		return not_loaded(py, why);
	Py_DECREF(done);
	PyObject *run = PyDict_GetItemString(f->globals, "run");
	if (run == NULL)
		return say(why, ERR_SCHEMA, "`run` not found");
	if (!PyFunction_Check(run))
		return say(why, ERR_SCHEMA, "`run` must be a function");
	f->run = Py_NewRef(run);
	f->call = PyVectorcall_Function(run);
	return 0;
}

static void pyfn_dropp(struct pyfn **f)
{
	*f = pyfn_drop(*f);
}

static int fn_new(struct py *py, const struct pyfn_source *fn, const struct pyfn_source *depends,
		  size_t n_depends, uint32_t owner, struct pyfn **ret, struct text *why)
{
	CLEANUP(pyfn_dropp)
	struct pyfn *f = calloc(1, sizeof(*f) + n_depends * sizeof(f->depends[0]));
	if (f == NULL)
		return say(why, ERR_NOMEM, "out of memory");
	f->refs = 1;
	f->py = py;
	f->owner = owner;
	f->is_dependency = true; /* until it is done: the owner is the caller's */
	int rc = 0;
	for (; f->n_depends < n_depends; f->n_depends++) {
		rc = fn_new(py, &depends[f->n_depends], NULL, 0, owner, &f->depends[f->n_depends],
			    why);
		if (rc < 0) {
			char front[PY_FRONT_MAX];
			snprintf(front, sizeof(front),
				 "dependency %.80s: ", depends[f->n_depends].alias);
			text_prepend(why, front);
			return rc;
		}
	}
	rc = source_get(py, fn, &f->source, why);
	if (rc == 0)
		rc = load(py, f, depends, why);
	if (rc < 0)
		return rc;
	*ret = TAKE(f);
	return 0;
}

int pyfn_new(struct py *py, const struct pyfn_source *fn, const struct pyfn_source *depends,
	     size_t n_depends, struct pyfn **ret, struct text *why)
{
	uint32_t owner;
	text_clear(why);
	if (mem_owner_new(&owner) < 0)
		return say(why, ERR_NOMEM, "out of memory");
	mem_enter(owner);
	int rc = fn_new(py, fn, depends, n_depends, owner, ret, why);
	mem_enter(0);
	if (rc < 0)
		mem_owner_free(owner);
	else
		(*ret)->is_dependency = false;
	return rc;
}

struct pyfn *pyfn_keep(struct pyfn *f)
{
	f->refs++;
	return f;
}

struct pyfn *pyfn_drop(struct pyfn *f)
{
	if (f == NULL || --f->refs > 0)
		return NULL;
	uint32_t before = mem_enter(f->owner); /* there may be finalizers */
	Py_CLEAR(f->run);
	if (f->globals != NULL)
		PyDict_Clear(f->globals); /* functions refer to their globals and these to them:
					     nobody else would break that */
	Py_CLEAR(f->globals);
	PyErr_Clear();
	for (size_t i = 0; i < f->n_depends; i++)
		pyfn_drop(f->depends[i]);
	source_drop(f->py, f->source);
	guard_check(&f->py->guard);
	mem_enter(before);
	if (!f->is_dependency)
		mem_owner_free(f->owner);
	free(f);
	return NULL;
}

const char *pyfn_text(const struct pyfn *f, size_t *ret_len)
{
	*ret_len = f->source->len;
	return f->source->text;
}

size_t pyfn_memory(const struct pyfn *f)
{
	return mem_held(f->owner);
}

int pyfn_call(struct pyfn *f, struct val *const *args, size_t n, struct val **ret)
{
	mem_enter(f->owner);
	PyObject *result = f->call(f->run, (PyObject *const *)args, n, NULL);
	mem_enter(0);
	guard_check(&f->py->guard);
	if (result == NULL)
		return raised(f->py, ERR_PEER);
	*ret = val_of(result);
	return 0;
}

void pyfn_enter(const struct pyfn *f)
{
	mem_enter(f != NULL ? f->owner : 0);
}

void py_leave(void)
{
	mem_enter(0);
}
