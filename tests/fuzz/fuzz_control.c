/* fuzz: engine
 *
 * What comes on the control socket. First byte even: raw bytes in a frame. Odd: documents grown
 * from the input, of the keys and values that requests have, in all wrong places; several in a row
 * against the same graphs. Each request gets an answer. */
#include "common/id.h"
#include "common/util.h"
#include "engine/control.h"
#include "engine/request.h"
#include "tests/fuzz/input.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VALUES_MAX 200 /* in one document */

/* Harmless sources: what user code can do to a process is not the matter here. */
static const char *const sources[] = {
	"def run(*x): return x\n",
	"n = 0\ndef run(*x):\n  global n\n  n += 1\n  return n\n",
	"def run(:\n",
	"run = 1\n",
	"",
};

static json_t *grow_string(struct input *in)
{
	static const char *const known[] = {"graph", "drop",   "check",   "a",
					    "b",     "sample", "variant", ""};
	unsigned which = input_take(in);
	if (which < 128) {
		const char *source = sources[which % ARRAY_LEN(sources)];
		return json_string(which & 64 ? source : sha256_hex(source, strlen(source)).s);
	}
	return json_string(known[which % ARRAY_LEN(known)]);
}

static json_t *grow(struct input *in, unsigned depth)
{
	static const char *const keys[] = {
		"op",           "seq",        "doc",          "funcs",   "id",
		"idf",          "odf",        "join",         "func",    "depends",
		"lid",          "slot",       "da_id",        "feature", "param_no",
		"tag_param_no", "input_type", "monitor_slot", "codes",   "a",
	};
	unsigned what = input_take(in);
	if (depth > 8 || in->made++ > VALUES_MAX)
		return json_null();
	switch (what % 8) {
	case 0:
	case 1: {
		json_t *o = json_object();
		for (unsigned n = what / 8; n > 0; n--)
			json_object_set_new(o, keys[input_take(in) % ARRAY_LEN(keys)],
					    grow(in, depth + 1));
		return o;
	}
	case 2: {
		json_t *list = json_array();
		for (unsigned n = what / 64; n > 0; n--)
			json_array_append_new(list, grow(in, depth + 1));
		return list;
	}
	case 3:
		return json_integer((json_int_t)input_take(in) - 2);
	case 4:
		return json_null();
	case 5:
		return json_real(0.5);
	default:
		return grow_string(in);
	}
}

/* A link that may be right. */
static json_t *grow_link(struct input *in)
{
	json_t *func = grow_string(in);
	json_t *link = json_pack("{s:i, s:i, s:s, s:s, s:o, s:i}", "lid", input_take(in) % 4, "slot",
				 input_take(in) % 8, "da_id", "d", "feature", "f", "func",
				 input_take(in) & 1 ? func : json_null(), "param_no", input_take(in) % 3);
	if (json_object_get(link, "func") != func)
		json_decref(func);
	if (input_take(in) % 8 == 0)
		json_object_set_new(link, "input_type", grow(in, 4));
	if (input_take(in) % 8 == 0)
		json_object_set_new(link, "depends", grow(in, 4));
	return link;
}

/* A request to run a graph that may be right. */
static json_t *grow_graph(struct input *in)
{
	static const char *const ids[] = {"x", "y", "z"};
	json_t *funcs = json_object(), *idf = json_array(), *odf = json_array();
	for (size_t i = 0; i < ARRAY_LEN(sources); i++)
		json_object_set_new(funcs, sha256_hex(sources[i], strlen(sources[i])).s,
				    json_string(sources[i]));
	for (unsigned n = input_take(in) % 4; n > 0; n--)
		json_array_append_new(idf, grow_link(in));
	for (unsigned n = input_take(in) % 3; n > 0; n--)
		json_array_append_new(odf, grow_link(in));
	return json_pack("{s:s, s:o, s:{s:s, s:o, s:o, s:o}}", "op", "graph", "funcs", funcs, "doc",
			 "id", ids[input_take(in) % ARRAY_LEN(ids)], "idf", idf, "odf", odf, "join",
			 grow(in, 5));
}

static void answer(struct requests *r, struct control *c, json_t *frame)
{
	struct err err;
	json_t *reply = requests_handle(r, frame);
	if (reply == NULL || json_object_get(reply, "state") == NULL ||
	    control_write(c, reply, &err) < 0)
		abort();
	json_decref(frame);
}

static void grown(struct requests *r, struct control *c, struct input *in)
{
	while (in->left > 0) {
		in->made = 0;
		json_t *frame = input_take(in) & 1 ? grow_graph(in) : grow(in, 0);
		if (json_is_object(frame))
			answer(r, c, frame);
		else
			json_decref(frame);
	}
}

static void raw(struct requests *r, struct control *c, int fd, const uint8_t *data, size_t size)
{
	const unsigned char head[4] = {(unsigned char)size, (unsigned char)(size >> 8)};
	struct err err;
	json_t *frame = NULL;
	/* as a whole frame, then as it is */
	if (write(fd, head, sizeof(head)) != sizeof(head) ||
	    write(fd, data, size) != (ssize_t)size || write(fd, data, size) != (ssize_t)size)
		abort();
	while (control_read(c, &frame, &err) > 0) {
		json_object_del(frame, "funcs");
		json_object_del(frame, "codes");
		json_object_del(frame, "depends");
		answer(r, c, frame);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct py *py;
	struct graphs gs;
	struct requests r;
	struct control c;
	int fds[2];
	if (size < 2 || size > 2048)
		return 0;
	if (py == NULL && py_start(&py, NULL) < 0)
		abort();
	if (graphs_init(&gs, py, NULL) < 0 || requests_init(&r, &gs, NULL) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || control_init(&c, fds[0], NULL) < 0)
		abort();
	struct input in = {.data = data + 1, .left = size - 1};
	if (data[0] & 1)
		grown(&r, &c, &in);
	else
		raw(&r, &c, fds[1], data + 1, size - 1);
	control_done(&c);
	close(fds[0]);
	close(fds[1]);
	requests_done(&r);
	graphs_done(&gs);
	return 0;
}
