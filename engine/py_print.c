#include "engine/py_priv.h"

static const char cut[] = "\n...";

/* Room for the mark is kept: where there is less, it has been set. */
static void hear(struct text *out, const char *utf8, size_t n)
{
	size_t mark = sizeof(cut) - 1, room = out->cap - out->len;

	if (room < mark)
		return;
	size_t put = text_whole(utf8, n, room - mark);
	text_put(out, utf8, put);
	if (put < n)
		text_puts(out, cut);
}

static PyObject *tell(PyObject *self, PyObject *text)
{
	struct py *py = PyCapsule_GetPointer(self, NULL);

	if (py == NULL)
		return NULL;
	if (py->heard == NULL)
		Py_RETURN_NONE;
	PyObject *utf8 = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
	if (utf8 == NULL)
		return NULL;
	hear(py->heard, PyBytes_AS_STRING(utf8), (size_t)PyBytes_GET_SIZE(utf8));
	Py_DECREF(utf8);
	Py_RETURN_NONE;
}

PyObject *py_tell_new(struct py *py)
{
	static PyMethodDef def = {"tell", tell, METH_O, NULL};
	PyObject *self = PyCapsule_New(py, NULL, NULL);
	PyObject *ret = self != NULL ? PyCFunction_New(&def, self) : NULL;

	Py_XDECREF(self);
	return ret;
}

void py_listen(struct py *py, struct text *out)
{
	py->heard = out;
}
