#include "agent/device/file.h"
#include "common/shortage.h"
#include "common/util.h"
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

void file_digest(const char *text, size_t len, char *buf)
{
	unsigned char digest[FILE_DIGEST_LEN / 2];

	crypto_generichash(digest, sizeof(digest), (const unsigned char *)text, len, NULL, 0);
	sodium_bin2hex(buf, FILE_DIGEST_LEN + 1, digest, sizeof(digest));
}

struct place file_place(const char *text, size_t at)
{
	struct place place = {.line = 1};

	for (size_t i = 0; i < at; i++) {
		place.column += ((unsigned char)text[i] & 0xc0) != 0x80;
		if (text[i] == '\n')
			place = (struct place){.line = place.line + 1};
	}
	return place;
}

bool file_is_before(struct place a, struct place b)
{
	return a.line < b.line || (a.line == b.line && a.column < b.column);
}

struct place file_place_within(struct place start, struct place inner)
{
	return (struct place){start.line + inner.line - 1,
			      inner.line == 1 ? start.column + inner.column : inner.column};
}

void file_tell_place(struct place place, struct err *err)
{
	err_wrap(err, ERR_PARSE, "line %zu, column %zu", place.line, place.column);
}

int file_parse_json(const char *text, size_t len, json_t **ret, struct place *ret_place,
		    struct err *err)
{
	unsigned long before = shortage_count();
	json_error_t why;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);

	if (shortage_count() != before ||
	    (json == NULL && json_error_code(&why) == json_error_out_of_memory)) {
		json_decref(json);
		return err_set(err, ERR_NOMEM, "%zu bytes of JSON", len);
	}
	if (json == NULL) {
		*ret_place = (struct place){(size_t)why.line, (size_t)why.column};
		return err_set(err, ERR_PARSE, "%s", why.text);
	}
	*ret = json;
	return 0;
}

static int read_all(int fd, const char *path, char *text, size_t size, struct err *err)
{
	size_t got = 0;

	while (got < size) {
		ssize_t n = read(fd, text + got, size - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, "%s", path);
		if (n == 0)
			return err_set(err, ERR_SYS, "%s: became shorter while it was read", path);
		got += (size_t)n;
	}
	return 0;
}

int file_load(const char *path, size_t max, char **ret, size_t *ret_len, struct err *err)
{
	CLEANUP(closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	CLEANUP(freep)
	char *text = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_INVAL, "%s: is no file", path);
	if ((size_t)st.st_size > max)
		return err_set(err, ERR_LIMIT, "%s: is larger than %zu bytes", path, max);
	size_t size = (size_t)st.st_size;

	text = malloc(size + 1);
	if (text == NULL)
		return err_set(err, ERR_NOMEM, "%s", path);
	int rc = read_all(fd, path, text, size, err);

	if (rc < 0)
		return rc;
	text[size] = '\0';
	*ret = TAKE(text);
	*ret_len = size;
	return 0;
}

int file_load_json(const char *path, json_t **ret, char *digest, struct err *err)
{
	CLEANUP(freep)
	char *text = NULL;
	size_t len = 0;
	struct place place;
	int rc = file_load(path, FILE_BYTES_MAX, &text, &len, err);

	if (rc < 0)
		return rc;
	file_digest(text, len, digest);
	rc = file_parse_json(text, len, ret, &place, err);
	if (rc == ERR_PARSE)
		file_tell_place(place, err);
	return rc < 0 ? err_wrap(err, rc, "%s", path) : 0;
}
