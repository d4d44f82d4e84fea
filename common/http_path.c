#include "common/http_path.h"

#include "common/util.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

int http_decode(char *s, bool plus)
{
	char *to = s;
	for (const char *from = s; *from != '\0'; from++) {
		if (*from == '+' && plus) {
			*to++ = ' ';
		} else if (*from == '%') {
			int high = hex(from[1]);
			int low = high < 0 ? -1 : hex(from[2]);
			if (low < 0 || high * 16 + low == 0)
				return ERR_PARSE;
			*to++ = (char)(high * 16 + low);
			from += 2;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return (int)(to - s);
}

/* "http://host:port/a" -> "/a" */
static const char *skip_authority(const char *raw)
{
	static const char *const schemes[] = {"http://", "https://"};
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (strncasecmp(raw, schemes[i], strlen(schemes[i])) == 0) {
			const char *path = strchr(raw + strlen(schemes[i]), '/');
			return path != NULL ? path : "/";
		}
	return raw;
}

static const char *skip_prefix(const char *raw, const char *const *prefixes,
			       const char **ret_prefix)
{
	*ret_prefix = "";
	for (; prefixes != NULL && *prefixes != NULL; prefixes++) {
		size_t n = strlen(*prefixes);
		if (strncmp(raw, *prefixes, n) == 0 && (raw[n] == '/' || raw[n] == '\0')) {
			*ret_prefix = *prefixes;
			return raw[n] == '/' ? raw + n : "/";
		}
	}
	return raw;
}

int http_path_parse(const char *raw, const char *const *prefixes, struct http_path *ret)
{
	*ret = (struct http_path){0};
	raw = skip_prefix(skip_authority(raw), prefixes, &ret->prefix);
	size_t room = strlen(raw) + 2; /* decoding only shrinks; one more for a leading '/' */
	ret->memory = malloc(2 * room);
	if (ret->memory == NULL)
		return ERR_NOMEM;
	char *joined = ret->joined = ret->memory, *split = ret->split = ret->memory + room;
	*joined++ = '/';
	*split++ = '\0';
	while (*raw == '/')
		raw++;
	while (*raw != '\0') {
		size_t len = strcspn(raw, "/");
		if (ret->n == HTTP_SEGMENTS_MAX)
			return ERR_LIMIT;
		memcpy(split, raw, len);
		split[len] = '\0';
		int decoded = http_decode(split, false);
		if (decoded < 0)
			return decoded;
		ret->segments[ret->n++] = split;
		memcpy(joined, split, (size_t)decoded);
		joined += decoded;
		split += decoded + 1;
		raw += len;
		if (*raw == '/') {
			raw++;
			ret->slash = *raw == '\0';
			if (!ret->slash) /* one slash at the end means nothing */
				*joined++ = '/';
		}
	}
	*joined = '\0';
	return 0;
}

void http_path_done(struct http_path *p)
{
	free(p->memory);
	*p = (struct http_path){0};
}

/* What stands in {} of a pattern: "name", "name:int", "name...". */
struct named {
	const char *name;
	size_t len;
	bool digits, rest;
};

static bool ends_with(const char *s, size_t len, const char *end)
{
	return len > strlen(end) && memcmp(s + len - strlen(end), end, strlen(end)) == 0;
}

static struct named named_of(const char *pattern, size_t len)
{
	struct named n = {.name = pattern + 1, .len = len - 2};
	n.rest = ends_with(n.name, n.len, "...");
	n.digits = ends_with(n.name, n.len, ":int");
	n.len -= n.rest ? strlen("...") : n.digits ? strlen(":int") : 0;
	return n;
}

static bool fits(const struct named *n, const char *segment)
{
	return *segment != '\0' && (!n->digits || segment[strspn(segment, "0123456789")] == '\0');
}

/* Walk pattern and path side by side. name NULL: does it fit? Else *ret_value: the value of {name}.
 */
static bool walk(const struct http_path *p, const char *pattern, const char *name,
		 const char **ret_value)
{
	size_t i = 0;
	for (pattern += *pattern == '/'; *pattern != '\0'; i++) {
		size_t len = strcspn(pattern, "/");
		bool named = *pattern == '{';
		struct named n = named ? named_of(pattern, len) : (struct named){0};
		if (i == p->n)
			return false;
		if (named ? !fits(&n, p->segments[i])
			  : strlen(p->segments[i]) != len ||
				    memcmp(p->segments[i], pattern, len) != 0)
			return false;
		if (named && name != NULL && strlen(name) == n.len &&
		    memcmp(name, n.name, n.len) == 0)
			*ret_value =
				n.rest ? p->joined + (p->segments[i] - p->split) : p->segments[i];
		if (n.rest)
			return true;
		pattern += len;
		pattern += *pattern == '/';
	}
	return i == p->n;
}

bool http_path_matches(const struct http_path *p, const char *pattern)
{
	return walk(p, pattern, NULL, NULL);
}

const char *http_path_param(const struct http_path *p, const char *pattern, const char *name)
{
	const char *value = NULL;
	walk(p, pattern, name, &value);
	return value;
}

static bool same_name(const char *s, size_t len, const char *name)
{
	return strlen(name) == len && strncasecmp(s, name, len) == 0;
}

bool http_host_is_local(const char *host, const char *own_name)
{
	if (host == NULL)
		return false;
	size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	if (len > strlen(host))
		return false;
	const char *port = host + len;
	if (*port == ':')
		port++;
	if (strspn(port, "0123456789") != strlen(port))
		return false;
	if (same_name(host, len, "localhost") || same_name(host, len, "[::1]"))
		return true;
	if (own_name != NULL && *own_name != '\0' &&
	    (same_name(host, len, own_name) ||
	     (strcspn(own_name, ".") == len && strncasecmp(host, own_name, len) == 0)))
		return true;
	char dotted[INET_ADDRSTRLEN];
	struct in_addr address;
	if (len >= sizeof(dotted))
		return false;
	memcpy(dotted, host, len);
	dotted[len] = '\0';
	return inet_pton(AF_INET, dotted, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}
