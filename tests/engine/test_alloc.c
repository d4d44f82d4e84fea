/* engine: numeric messages take no memory from the C library, once everything has been seen. */
#include "tests/engine/world.h"
#include <stdlib.h>

/* ---- a C library that counts ---- */

static struct {
	bool counting;
	unsigned calls;
} heap;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
	!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define INTERPOSED true
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void __libc_free(void *p);

void *malloc(size_t bytes)
{
	heap.calls += heap.counting;
	return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
	heap.calls += heap.counting;
	return __libc_calloc(n, bytes);
}

void *realloc(void *p, size_t bytes)
{
	heap.calls += heap.counting;
	return __libc_realloc(p, bytes);
}

void free(void *p)
{
	heap.calls += heap.counting && p != NULL;
	__libc_free(p);
}
#else
#define INTERPOSED false
#endif

/* ---- an engine that only counts ---- */

static int count_result(void *arg, const struct tap_rec *rec, const char *payload)
{
	(void)rec;
	(void)payload;
	++*(unsigned *)arg;
	return 0;
}

static void ignore_doing(void *arg, uint64_t what)
{
	(void)arg;
	(void)what;
}

static void no_fault(void *arg, const struct link *link, const struct graph *graph,
		     enum tap_kind kind, const char *msg, size_t len, const char *strike)
{
	(void)arg;
	(void)link;
	(void)graph;
	(void)kind;
	(void)strike;
	fail_msg("%.*s", (int)len, msg);
}

#define ADD   "\"func\": \"def run(x, *more): return x + 0.1\\n\""
#define THIRD "\"func\": \"def run(x): return [x / 3, x]\\n\""

static void numeric_messages_take_no_memory(void **state)
{
	static const struct {
		const char *name, *doc;
		unsigned values; /* 0: any number */
	} graphs[] = {
		{"nothing", "{\"idf\": [{\"slot\": 1}], \"odf\": [{\"slot\": 2}]}", 0},
		{"lengths",
		 "{\"idf\": [{\"slot\": 1, \"param_no\": 1}], \"odf\": [{\"slot\": 2, "
		 "\"param_no\": "
		 "3}]}",
		 1},
		{"lengths and a tag",
		 "{\"idf\": [{\"slot\": 1, \"param_no\": 2, \"tag_param_no\": 1}], \"odf\": "
		 "[{\"slot\": 2, \"param_no\": 2, \"tag_param_no\": 1}]}",
		 3},
		{"functions",
		 "{\"idf\": [{\"slot\": 1, " ADD "}], \"join\": {" ADD
		 "}, \"odf\": [{\"slot\": 2, " THIRD "}]}",
		 0},
		{"functions and lengths",
		 "{\"idf\": [{\"slot\": 1, \"param_no\": 1, " ADD "}], \"join\": {" ADD
		 "}, \"odf\": [{\"slot\": 2, \"param_no\": 1, " THIRD "}]}",
		 1},
		{"differences",
		 "{\"idf\": [{\"slot\": 1, \"input_type\": [\"variant\"]}], \"odf\": [{\"slot\": "
		 "2}]}",
		 0},
		{"several links",
		 "{\"idf\": [{\"slot\": 1}, {\"slot\": 3}], \"odf\": [{\"slot\": 2}]}", 0},
		{"watched",
		 "{\"monitor_slot\": 9, \"idf\": [{\"slot\": 1, " ADD
		 "}], \"odf\": [{\"slot\": 2}]}",
		 0},
	};
	static const struct {
		const char *text;
		unsigned values;
	} payloads[] = {
		{"7", 1},
		{"[-1.5e3]", 1},
		{"[0.30000000000000004]", 1},
		{"9223372036854775807", 1},
		{"[1, 2.5, -3]", 3},
		{"[0.1,2e-9,12345678.9]", 3},
		{"[]", 0},
		{"[true,null]", 2},
	};
	struct world *w = *state;
	unsigned results = 0;
	if (!INTERPOSED) {
		print_message("skipped: a sanitizer has interposed the allocator itself\n");
		skip();
	}
	w->eval.sink.publish = count_result;
	w->eval.sink.doing = ignore_doing;
	w->eval.sink.fault = no_fault;
	w->eval.sink.arg = &results;
	for (size_t g = 0; g < ARRAY_LEN(graphs); g++) {
		graphs_drop(&w->graphs, "test/1");
		world_must_put(w, graphs[g].doc);
		bool functions = strstr(graphs[g].doc, "func") != NULL;
		for (unsigned round = 0; round < 100; round++) {
			for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
				struct tap_rec rec = {.slot = 1,
						      .len = (uint32_t)strlen(payloads[i].text)};
				if (graphs[g].values != 0 && payloads[i].values != graphs[g].values)
					continue;
				if (functions && payloads[i].values % 2 == 0)
					continue; /* they want numbers, and some */
				results = 0;
				heap.calls = 0;
				heap.counting = true;
				int rc = eval_message(&w->eval, &rec, payloads[i].text);
				heap.counting = false;
				assert_int_equal(rc, 0);
				assert_true(results >= 1);
				/* at first, buffers grow and the interpreter adapts its code */
				if (round >= 50 && heap.calls > 0)
					fail_msg("%s, %s: %u calls", graphs[g].name,
						 payloads[i].text, heap.calls);
			}
		}
	}
	/* the count counts: a text is not for the quick way */
	world_must_put(w, graphs[0].doc);
	struct tap_rec rec = {.slot = 1, .len = 5};
	heap.calls = 0;
	heap.counting = true;
	eval_message(&w->eval, &rec, "\"abc\"");
	heap.counting = false;
	assert_true(heap.calls > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(numeric_messages_take_no_memory, world_setup,
						world_teardown),
	};
	return cmocka_run_group_tests_name("alloc", tests, NULL, NULL);
}
