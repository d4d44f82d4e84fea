#include "common/seal.h"

#include "common/util.h"
#include <stdbool.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC "IT1 "

int seal_key_create(const char *path, struct err *err)
{
	/* the key appears under its name complete or not at all */
	char temp[PATH_MAX], text[2 * sizeof(struct seal_key) + 2];
	struct seal_key key;
	if (access(path, F_OK) == 0)
		return 0;
	if (snprintf(temp, sizeof(temp), "%s.new-XXXXXX", path) >= (int)sizeof(temp))
		return err_set(err, ERR_INVAL, "path of the key is too long: %s", path);
	randombytes_buf(&key, sizeof(key));
	sodium_bin2hex(text, sizeof(text) - 1, key.bytes, sizeof(key.bytes));
	text[sizeof(text) - 2] = '\n';
	text[sizeof(text) - 1] = '\0';

	CLEANUP(closep) int fd = mkostemp(temp, O_CLOEXEC); /* mode 0600 */
	int rc = 1;
	if (fd < 0)
		rc = err_sys(err, "creating key %s", path);
	else if (write(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1 || fsync(fd) < 0)
		rc = err_sys(err, "writing key %s", temp);
	else if (link(temp, path) < 0) /* another process may have been faster */
		rc = errno == EEXIST ? 0 : err_sys(err, "creating key %s", path);
	if (fd >= 0)
		unlink(temp);
	sodium_memzero(&key, sizeof(key));
	sodium_memzero(text, sizeof(text));
	return rc;
}

int seal_key_load(const char *path, struct seal_key *ret, struct err *err)
{
	char text[2 * sizeof(struct seal_key) + 2];
	struct stat st;
	struct seal_key key;
	size_t len = 0;
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, "suite key %s (`iotctl initdb` makes it)", path);
	if (fstat(fd, &st) < 0)
		return err_sys(err, "suite key %s", path);
	if ((st.st_mode & 077) != 0)
		return err_set(err, ERR_ACCES, "suite key %s is open to others: chmod 600 it", path);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return err_sys(err, "reading suite key %s", path);
	text[n] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	if (sodium_hex2bin(key.bytes, sizeof(key.bytes), text, strlen(text), NULL, &len, NULL) != 0 ||
	    len != sizeof(key.bytes) || strlen(text) != 2 * sizeof(key.bytes))
		return err_set(err, ERR_PARSE,
			       "suite key %s is not %zu hex digits: delete it and run `iotctl initdb` (on the "
			       "machine of an agent alone: copy the key of csm)",
			       path, 2 * sizeof(key.bytes));
	*ret = key;
	return 0;
}

struct seal_nonce seal_nonce_new(void)
{
	unsigned char b[SEAL_NONCE_LEN / 2];
	struct seal_nonce n;
	randombytes_buf(b, sizeof(b));
	sodium_bin2hex(n.s, sizeof(n.s), b, sizeof(b));
	return n;
}

/* The tag covers topic NUL from SP to SP seq LF body. */
static void make_tag(const struct seal_key *key, const char *topic, const char *head, size_t head_len,
		     const char *body, size_t body_len, unsigned char tag[crypto_auth_BYTES])
{
	crypto_auth_hmacsha512256_state st;
	crypto_auth_hmacsha512256_init(&st, key->bytes, sizeof(key->bytes));
	crypto_auth_hmacsha512256_update(&st, (const unsigned char *)topic, strlen(topic) + 1);
	crypto_auth_hmacsha512256_update(&st, (const unsigned char *)head, head_len);
	crypto_auth_hmacsha512256_update(&st, (const unsigned char *)"\n", 1);
	crypto_auth_hmacsha512256_update(&st, (const unsigned char *)body, body_len);
	crypto_auth_hmacsha512256_final(&st, tag);
}

int seal_make(const struct seal_key *key, const char *topic, const struct seal_head *head,
	      const char *body, size_t body_len, char **ret_msg, size_t *ret_len, struct err *err)
{
	char text[SEAL_HEAD_MAX], hex[2 * crypto_auth_BYTES + 1];
	unsigned char tag[crypto_auth_BYTES];
	int n = snprintf(text, sizeof(text), "%s %s %llu", head->from.s, head->to.s,
			 (unsigned long long)head->seq);
	make_tag(key, topic, text, (size_t)n, body, body_len, tag);
	sodium_bin2hex(hex, sizeof(hex), tag, sizeof(tag));

	size_t size = strlen(MAGIC) + (size_t)n + 1 + sizeof(hex) + body_len + 1;
	char *msg = malloc(size);
	if (msg == NULL)
		return err_set(err, ERR_NOMEM, "message of %zu bytes", size);
	int front = snprintf(msg, size, MAGIC "%s %s\n", text, hex);
	memcpy(msg + front, body, body_len);
	msg[(size_t)front + body_len] = '\0';
	*ret_msg = msg;
	*ret_len = (size_t)front + body_len;
	return 0;
}

static bool take_nonce(const char **p, struct seal_nonce *ret)
{
	if (strspn(*p, "0123456789abcdef") != SEAL_NONCE_LEN || (*p)[SEAL_NONCE_LEN] != ' ')
		return false;
	memcpy(ret->s, *p, SEAL_NONCE_LEN);
	ret->s[SEAL_NONCE_LEN] = '\0';
	*p += SEAL_NONCE_LEN + 1;
	return true;
}

int seal_open(const struct seal_key *key, const char *topic, const char *msg, size_t len,
	      struct seal_head *ret_head, const char **ret_body, size_t *ret_body_len, struct err *err)
{
	char line[SEAL_HEAD_MAX];
	struct seal_head head = {0};
	unsigned char tag[crypto_auth_BYTES], given[crypto_auth_BYTES];
	const char *end = memchr(msg, '\n', len < sizeof(line) ? len : sizeof(line) - 1);
	size_t line_len = end != NULL ? (size_t)(end - msg) : 0, tag_len = 0;
	if (end == NULL || memchr(msg, '\0', line_len) != NULL)
		return err_set(err, ERR_PARSE, "not a sealed message");
	memcpy(line, msg, line_len);
	line[line_len] = '\0';

	const char *p = line;
	if (strncmp(p, MAGIC, strlen(MAGIC)) != 0)
		return err_set(err, ERR_PARSE, "not a sealed message");
	p += strlen(MAGIC);
	const char *signed_from = p;
	if (!take_nonce(&p, &head.from) || !take_nonce(&p, &head.to))
		return err_set(err, ERR_PARSE, "sealed message: nonce");
	size_t digits = strspn(p, "0123456789");
	if (digits == 0 || digits > 19 || p[digits] != ' ')
		return err_set(err, ERR_PARSE, "sealed message: sequence number");
	head.seq = strtoull(p, NULL, 10);
	p += digits;
	size_t signed_len = (size_t)(p - signed_from);
	p++;
	if (strlen(p) != 2 * sizeof(given) ||
	    sodium_hex2bin(given, sizeof(given), p, 2 * sizeof(given), NULL, &tag_len, NULL) != 0 ||
	    tag_len != sizeof(given))
		return err_set(err, ERR_PARSE, "sealed message: tag");

	const char *body = end + 1;
	size_t body_len = len - line_len - 1;
	make_tag(key, topic, signed_from, signed_len, body, body_len, tag);
	if (sodium_memcmp(tag, given, sizeof(tag)) != 0)
		return err_set(err, ERR_ACCES, "sealed message: the tag does not fit");
	*ret_head = head;
	*ret_body = body;
	*ret_body_len = body_len;
	return 0;
}
