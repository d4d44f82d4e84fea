#include "common/seal.h"
#include "common/util.h"
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define TOPIC "iottalk/agent/a/req"

struct files {
	char dir[64], key[128];
};

static int setup(void **state)
{
	struct files *f = test_calloc(1, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), P_tmpdir "/test_seal.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->key, sizeof(f->key), "%s/key", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct files *f = *state;
	unlink(f->key);
	assert_int_equal(rmdir(f->dir), 0); /* nothing else was left there */
	test_free(f);
	return 0;
}

static struct seal_key some_key(void)
{
	struct seal_key k;
	for (size_t i = 0; i < sizeof(k.bytes); i++)
		k.bytes[i] = (unsigned char)(i * 7);
	return k;
}

static struct seal_head some_head(void)
{
	struct seal_head h = {.from = seal_nonce_new(), .to = seal_nonce_new(), .seq = 42};
	return h;
}

static void what_was_sealed_opens(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		size_t len;
	} cases[] = {{"{}", 2}, {"", 0}, {"a\0b", 3}, {"line\nline\n", 10}};
	struct seal_key key = some_key();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seal_head h = some_head(), got;
		CLEANUP(freep)
		char *msg = NULL;
		const char *body;
		size_t len, body_len;
		h.seq = i == 0 ? 0 : UINT64_MAX / 4;
		assert_int_equal(
			seal_make(&key, TOPIC, &h, cases[i].body, cases[i].len, &msg, &len, NULL),
			0);
		assert_int_equal(msg[len], '\0');
		assert_memory_equal(msg, "IT1 ", 4);
		assert_int_equal(seal_open(&key, TOPIC, msg, len, &got, &body, &body_len, NULL), 0);
		assert_string_equal(got.from.s, h.from.s);
		assert_string_equal(got.to.s, h.to.s);
		assert_int_equal(got.seq, h.seq);
		assert_int_equal(body_len, cases[i].len);
		assert_memory_equal(body, cases[i].body, body_len);
	}
}

static void any_changed_byte_is_refused(void **state)
{
	(void)state;
	struct seal_key key = some_key();
	struct seal_head h = some_head(), got;
	const char *body;
	char *msg;
	size_t len, body_len;
	assert_int_equal(seal_make(&key, TOPIC, &h, "{\"op\":\"put\"}", 12, &msg, &len, NULL), 0);
	for (size_t i = 0; i < len; i++) {
		for (int bit = 0; bit < 8; bit++) {
			struct err err = {0};
			msg[i] = (char)(msg[i] ^ 1 << bit);
			int rc = seal_open(&key, TOPIC, msg, len, &got, &body, &body_len, &err);
			/* the tag itself may be written in capitals: the same number */
			if (rc == 0 && !(bit == 5 && i > 70 && i < len - 12))
				fail_msg("byte %zu, bit %d", i, bit);
			assert_true(rc == 0 ||
				    ((rc == ERR_PARSE || rc == ERR_ACCES) && err.text[0] != '\0'));
			msg[i] = (char)(msg[i] ^ 1 << bit);
		}
	}
	for (size_t cut = 0; cut < len; cut++)
		assert_true(seal_open(&key, TOPIC, msg, cut, &got, &body, &body_len, NULL) < 0);
	free(msg);
}

static void topic_and_key_belong_to_the_tag(void **state)
{
	(void)state;
	struct seal_key key = some_key(), other = some_key();
	struct seal_head h = some_head(), got;
	const char *body;
	CLEANUP(freep)
	char *msg = NULL;
	size_t len, body_len;
	other.bytes[31] ^= 1;
	assert_int_equal(seal_make(&key, TOPIC, &h, "x", 1, &msg, &len, NULL), 0);
	assert_int_equal(
		seal_open(&key, "iottalk/agent/b/req", msg, len, &got, &body, &body_len, NULL),
		ERR_ACCES);
	assert_int_equal(seal_open(&other, TOPIC, msg, len, &got, &body, &body_len, NULL),
			 ERR_ACCES);
	assert_int_equal(seal_open(&key, TOPIC, msg, len, &got, &body, &body_len, NULL), 0);
}

static void what_is_no_sealed_message_does_not_parse(void **state)
{
	(void)state;
	struct seal_key key = some_key();
	struct seal_head got;
	const char *body;
	size_t body_len;
	char nonces[80], text[700];
	snprintf(nonces, sizeof(nonces), "%032d %032d", 1, 2);
	static const char *const bad[] = {
		"",
		"\n",
		"IT1 \n",
		"{\"op\":\"x\"}",
		"IT2 %s 1 %064d\n{}",
		"IT1 %s  %064d\n{}",
		"IT1 %s -1 %064d\n{}",
		"IT1 %s 1x %064d\n{}",
		"IT1 %s 99999999999999999999 %064d\n{}",
		"IT1 %s 1 %063d\n{}",
		"IT1 %s 1 %065d\n{}",
		"IT1 %s 1 %064d",
		"IT1 %s 1 %064dx\n",
		"IT1  %s 1 %064d\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(text, sizeof(text), bad[i], nonces, 0);
#pragma GCC diagnostic pop
		assert_int_equal(
			seal_open(&key, TOPIC, text, strlen(text), &got, &body, &body_len, NULL),
			ERR_PARSE);
	}
	memset(text, 'I', sizeof(text));
	assert_int_equal(seal_open(&key, TOPIC, text, sizeof(text), &got, &body, &body_len, NULL),
			 ERR_PARSE);
	/* formally right, but nobody sealed it */
	int n = snprintf(text, sizeof(text), "IT1 %s 1 %064d\n{}", nonces, 0);
	assert_int_equal(seal_open(&key, TOPIC, text, (size_t)n, &got, &body, &body_len, NULL),
			 ERR_ACCES);
}

static void the_key_is_made_once_and_private(void **state)
{
	struct files *f = *state;
	struct seal_key a, b;
	struct stat st;
	assert_int_equal(seal_key_load(f->key, &a, NULL), ERR_NOENT);
	assert_int_equal(seal_key_create(f->key, NULL), 1);
	assert_int_equal(stat(f->key, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(seal_key_load(f->key, &a, NULL), 0);
	assert_int_equal(seal_key_create(f->key, NULL), 0);
	assert_int_equal(seal_key_load(f->key, &b, NULL), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	struct seal_key none = {0};
	assert_memory_not_equal(&a, &none, sizeof(a));
}

static void a_key_open_to_others_is_refused(void **state)
{
	struct files *f = *state;
	struct seal_key k;
	struct err err = {0};
	assert_int_equal(seal_key_create(f->key, NULL), 1);
	assert_int_equal(chmod(f->key, 0640), 0);
	assert_int_equal(seal_key_load(f->key, &k, &err), ERR_ACCES);
	assert_non_null(strstr(err.text, f->key));
}

static void a_file_that_is_no_key_is_refused(void **state)
{
	struct files *f = *state;
	static const char *const bad[] = {
		"",
		"\n",
		"00",
		"zz",
		"0000000000000000000000000000000000000000000000000000000000000",
		"000000000000000000000000000000000000000000000000000000000000000000000000000000",
		"00:00000000000000000000000000000000000000000000000000000000000000",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct seal_key k;
		int fd = open(f->key, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(write(fd, bad[i], strlen(bad[i])), strlen(bad[i]));
		close(fd);
		assert_int_equal(seal_key_load(f->key, &k, NULL), ERR_PARSE);
	}
}

static void a_key_cannot_be_made_where_nobody_may_write(void **state)
{
	(void)state;
	struct err err = {0};
	assert_true(seal_key_create("/proc/nowhere/key", &err) < 0);
	assert_true(err.text[0] != '\0');
}

struct racer {
	const char *path;
	pthread_barrier_t *start;
	int rc;
};

static void *race(void *arg)
{
	struct racer *r = arg;
	pthread_barrier_wait(r->start);
	r->rc = seal_key_create(r->path, NULL);
	return NULL;
}

/* `iotctl initdb` twice at once: one key, and it is complete. */
static void makers_at_once_make_one_key(void **state)
{
	struct files *f = *state;
	for (int round = 0; round < 20; round++) {
		pthread_t threads[4];
		struct racer racers[ARRAY_LEN(threads)];
		pthread_barrier_t start;
		struct seal_key k;
		int made = 0;
		pthread_barrier_init(&start, NULL, ARRAY_LEN(threads));
		for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
			racers[i] = (struct racer){.path = f->key, .start = &start};
			assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
		}
		for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
			pthread_join(threads[i], NULL);
			assert_true(racers[i].rc >= 0);
			made += racers[i].rc;
		}
		assert_int_equal(made, 1);
		assert_int_equal(seal_key_load(f->key, &k, NULL), 0);
		assert_int_equal(unlink(f->key), 0);
		pthread_barrier_destroy(&start);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_sealed_opens),
		T(any_changed_byte_is_refused),
		T(topic_and_key_belong_to_the_tag),
		T(what_is_no_sealed_message_does_not_parse),
		T(the_key_is_made_once_and_private),
		T(a_key_open_to_others_is_refused),
		T(a_file_that_is_no_key_is_refused),
		T(a_key_cannot_be_made_where_nobody_may_write),
		T(makers_at_once_make_one_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
