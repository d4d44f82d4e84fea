/* fuzz: engine
 *
 * A payload is read by hand and by the JSON library: if the first way takes it, the second one must
 * too, and each value must be of the same type and, to the bit, the same. Half of the inputs are
 * payloads as they are; the other half are spelled from pieces of numbers, so that most of them are
 * near something valid. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
/* Python.h wants to be first */
#include "common/util.h"
#include "engine/payload.h"
#include "engine/py_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPELLED_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pieces[] = {
	"0",
	"1",
	"2",
	"3",
	"4",
	"5",
	"6",
	"7",
	"8",
	"9",
	".",
	"-",
	"e",
	"E",
	"+",
	",",
	"[",
	"]",
	" ",
	"e-2",
	"e1",
	"0000",
	"000000000",
	"99999",
	"\n",
	"true",
	"null",
	"false",
	".5",
	"9007199254740993",
	"922337203685477580",
	"1844674407370955161",
};

static size_t spell(const uint8_t *data, size_t size, char *out)
{
	size_t len = 0;
	for (size_t i = 0; i < size; i++) {
		const char *piece = pieces[data[i] % ARRAY_LEN(pieces)];
		size_t n = strlen(piece);
		if (len + n > SPELLED_MAX)
			break;
		memcpy(out + len, piece, n);
		len += n;
	}
	return len;
}

static bool same(struct val *a, struct val *b)
{
	PyObject *x = obj(a), *y = obj(b);
	if (Py_TYPE(x) != Py_TYPE(y))
		return false;
	if (PyFloat_CheckExact(x))
		return memcmp(&((PyFloatObject *)x)->ob_fval, &((PyFloatObject *)y)->ob_fval,
			      sizeof(double)) == 0;
	if (PyLong_CheckExact(x))
		return PyLong_AsLongLong(x) == PyLong_AsLongLong(y) && PyErr_Occurred() == NULL;
	return x == y; /* None, True, False */
}

static void compare(const char *text, size_t len)
{
	static struct vals quick, slow;
	struct payload p;
	struct err err;
	if (payload_read_quick(text, len, &quick)) {
		if (payload_read_json(&p, text, len, &slow, &err) < 0 || quick.n != slow.n)
			abort();
		for (size_t i = 0; i < slow.n; i++)
			if (!same(quick.v[i], slow.v[i]))
				abort();
		payload_done(&p);
	}
	vals_clear(&quick);
	vals_clear(&slow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct py *py;
	if (py == NULL && py_start(&py, NULL) < 0)
		abort();
	if (size == 0)
		return 0;
	/* exactly so long, so that reading past the end is seen */
	char spelled[SPELLED_MAX];
	bool as_it_is = data[0] % 2 == 0;
	size_t len = as_it_is ? size - 1 : spell(data + 1, size - 1, spelled);
	char *text = malloc(len > 0 ? len : 1);
	if (text == NULL)
		return 0;
	if (len > 0)
		memcpy(text, as_it_is ? (const char *)data + 1 : spelled, len);
	compare(text, len);
	free(text);
	return 0;
}
