/* da.c - files of device applications that run in browsers, below /da/: [gui] web-da-dir. */
#include "ccm/web/web_int.h"
#include "common/util.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define FILE_MAX (16 * 1024 * 1024)

static const struct {
	const char *end, *type;
} types[] = {
	{".html", "text/html; charset=utf-8"},
	{".htm", "text/html; charset=utf-8"},
	{".js", "text/javascript; charset=utf-8"},
	{".mjs", "text/javascript; charset=utf-8"},
	{".css", "text/css; charset=utf-8"},
	{".json", "application/json; charset=utf-8"},
	{".txt", "text/plain; charset=utf-8"},
	{".svg", "image/svg+xml"},
	{".png", "image/png"},
	{".jpg", "image/jpeg"},
	{".jpeg", "image/jpeg"},
	{".gif", "image/gif"},
	{".ico", "image/x-icon"},
	{".mp3", "audio/mpeg"},
	{".wasm", "application/wasm"},
};

static const char *type_of(const char *path)
{
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		size_t n = strlen(types[i].end);
		if (strlen(path) > n && strcasecmp(path + strlen(path) - n, types[i].end) == 0)
			return types[i].type;
	}
	return "application/octet-stream";
}

/* The kernel sees to it that nothing outside of the directory is opened, whatever the path or a link in it says. A name that begins
 * with a dot is nobody's business. ret: descriptor or negative. */
static int open_below(int dir, const char *path)
{
	const struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	if (path[0] == '.' || path[0] == '/' || strstr(path, "/.") != NULL)
		return -1;
	return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

/* Of a directory its index.html. ret: NULL: there is none, or (*ret_len is SIZE_MAX) no memory */
static char *read_below(int dir, const char *path, size_t *ret_len, bool *ret_is_dir)
{
	CLEANUP(closep) int fd = open_below(dir, path);
	CLEANUP(closep) int index = -1;
	struct stat st;
	*ret_len = 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	*ret_is_dir = S_ISDIR(st.st_mode);
	if (*ret_is_dir) {
		index = open_below(fd, "index.html");
		if (index < 0 || fstat(index, &st) < 0)
			return NULL;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return NULL;
	CLEANUP(freep) char *text = malloc((size_t)st.st_size + 1);
	if (text == NULL) {
		*ret_len = SIZE_MAX;
		return NULL;
	}
	while (*ret_len < (size_t)st.st_size) {
		ssize_t n = read(index >= 0 ? index : fd, text + *ret_len, (size_t)st.st_size - *ret_len);
		if (n < 0)
			return NULL;
		if (n == 0)
			break; /* it became shorter meanwhile */
		*ret_len += (size_t)n;
	}
	return TAKE(text);
}

/* Links of a page are relative to the last slash of its address. */
static void to_directory(struct http_request *req, const char *path)
{
	char *where = NULL;
	size_t size;
	FILE *out = open_memstream(&where, &size);
	const char *slash = strrchr(path, '/');
	if (out != NULL) {
		web_write_encoded(out, slash != NULL ? slash + 1 : path);
		fputc('/', out);
	}
	bool whole = out != NULL && ferror(out) == 0;
	if (out != NULL && fclose(out) != 0)
		whole = false;
	if (!whole || http_add_header(req, "Location", where) < 0)
		http_reply_error(req, 503, "out of memory");
	else
		http_reply(req, 302, NULL, NULL, 0);
	free(where);
}

void da_file(void *arg, struct http_request *req)
{
	const struct web *w = arg;
	const char *given = w->ccm->settings->gui.web_da_dir, *path = http_param(req, "path");
	size_t len = 0;
	bool is_dir = false;
	CLEANUP(freep) char *folder = *given == '/' ? strdup(given) : *given != '\0' ? settings_path(w->ccm->settings, given) : NULL;
	CLEANUP(closep) int dir = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	CLEANUP(freep) char *text = dir >= 0 ? read_below(dir, path, &len, &is_dir) : NULL;
	if (text != NULL && is_dir && !http_slash(req))
		to_directory(req, path);
	else if (text != NULL)
		http_reply(req, 200, is_dir ? type_of("index.html") : type_of(path), text, len);
	else if (len == SIZE_MAX)
		http_reply_error(req, 503, "out of memory");
	else
		http_reply_error(req, 404, "not found");
}
