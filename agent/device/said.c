#include "agent/device/said.h"
#include "agent/device/event.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define STEMS_MAX  255 /* beginnings of topics; more: the whole topic stands in the text */
#define NO_STEM    255
#define FRAMES_MAX 15 /* payloads without their number; more: the whole payload stands there */
#define NO_FRAME   15
#define FRAME_MAX  512  /* bytes; one that is longer is mostly of one point only */
#define HOLE       '\1' /* in a frame, where the number was: no JSON text has it */
#define ROOM_UNIT  8

#define CONNECTIONS (((uint32_t)1 << 30) - 1) /* are counted round */
#define ROOM_MAX    (((uint32_t)1 << 20) - 1)

/* What stands before the text: the time of the source, if there is one; the rest of the topic and
 * NUL, unless it is the point's name; the number of the payload, or all of it, and NUL. */
struct head {
	int64_t timestamp_us;
	uint32_t connection : 30;
	bool has_source : 1, named : 1; /* named: the topic is the stem and the point's name */
	uint32_t room : 20;             /* units to the next one */
	uint32_t frame : 4;
	uint32_t stem : 8;
};
_Static_assert(sizeof(struct head) == 16, "one for each point");

struct said_points {
	const struct point_list *points;
	uint32_t *at; /* where in bytes, + 1; 0: nothing */
	char *bytes;
	size_t len, cap, unused; /* unused: of len */
	char **stems;
	size_t n_stems;
	char *frames[FRAMES_MAX];
	size_t n_frames;
};

struct said_points *said_points_new(const struct point_list *points)
{
	struct said_points *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->points = points;
	s->at = calloc(points->n + 1, sizeof(*s->at));
	return s->at != NULL ? s : said_points_free(s);
}

struct said_points *said_points_free(struct said_points *s)
{
	if (s == NULL)
		return NULL;
	for (size_t i = 0; i < s->n_stems; i++)
		free(s->stems[i]);
	free(s->stems);
	for (size_t i = 0; i < s->n_frames; i++)
		free(s->frames[i]);
	free(s->at);
	free(s->bytes);
	free(s);
	return NULL;
}

/* ---- room ---- */

static struct head head_at(const struct said_points *s, uint32_t at)
{
	struct head h;

	memcpy(&h, s->bytes + at - 1, sizeof(h));
	return h;
}

static char *source_at(const struct said_points *s, uint32_t at)
{
	return s->bytes + at - 1 + sizeof(struct head);
}

static char *text_at(const struct said_points *s, uint32_t at)
{
	return source_at(s, at) + (head_at(s, at).has_source ? sizeof(int64_t) : 0);
}

static size_t room_at(const struct said_points *s, uint32_t at)
{
	return (size_t)head_at(s, at).room * ROOM_UNIT;
}

static void forget(struct said_points *s, unsigned point)
{
	if (s->at[point] != 0)
		s->unused += room_at(s, s->at[point]);
	s->at[point] = 0;
}

/* All that is used, and `more`. Points mostly say something of one length, all of them soon after
 * another: there is room for that at once. ret: false: out of memory */
static bool make_room(struct said_points *s, size_t more)
{
	size_t used = s->len - s->unused, cap = used + used / 8 + more, len = 0;

	if (used == 0)
		cap = s->points->n * more;
	char *bytes = cap < UINT32_MAX ? malloc(cap) : NULL;

	if (bytes == NULL)
		return false;
	for (size_t i = 0; i < s->points->n; i++) {
		if (s->at[i] == 0)
			continue;
		size_t room = room_at(s, s->at[i]);

		memcpy(bytes + len, s->bytes + s->at[i] - 1, room);
		s->at[i] = (uint32_t)len + 1;
		len += room;
	}
	free(s->bytes);
	s->bytes = bytes;
	s->len = len;
	s->cap = cap;
	s->unused = 0;
	return true;
}

/* Where the point has room for so many bytes; only the head's room is set. ret: false: there is no
 * memory, or it is far too long. */
static bool place(struct said_points *s, unsigned point, size_t need)
{
	size_t units = (need + ROOM_UNIT - 1) / ROOM_UNIT;

	if (s->at[point] != 0 && room_at(s, s->at[point]) >= need)
		return true;
	forget(s, point);
	if (units > ROOM_MAX ||
	    (s->len + units * ROOM_UNIT > s->cap && !make_room(s, units * ROOM_UNIT)))
		return false;
	struct head h = {.room = units & ROOM_MAX};

	memcpy(s->bytes + s->len, &h, sizeof(h));
	s->at[point] = (uint32_t)s->len + 1;
	s->len += units * ROOM_UNIT;
	return true;
}

/* ---- topics ---- */

static uint8_t find_stem(struct said_points *s, const char *stem, size_t len)
{
	for (size_t i = 0; i < s->n_stems; i++)
		if (strlen(s->stems[i]) == len && memcmp(s->stems[i], stem, len) == 0)
			return (uint8_t)i;
	char **more = s->n_stems < STEMS_MAX
			      ? reallocarray(s->stems, s->n_stems + 1, sizeof(char *))
			      : NULL;

	if (more == NULL)
		return NO_STEM;
	s->stems = more;
	if ((s->stems[s->n_stems] = strndup(stem, len)) == NULL)
		return NO_STEM;
	return (uint8_t)s->n_stems++;
}

static const char *stem_of(const struct said_points *s, const struct head *h)
{
	return h->stem != NO_STEM ? s->stems[h->stem] : "";
}

/* What of the topic follows the stem. */
static const char *rest_of(const struct said_points *s, unsigned point, const struct head *h)
{
	return h->named ? s->points->items[point].name : text_at(s, s->at[point]);
}

static bool has_topic(const struct said_points *s, unsigned point, const char *suffix)
{
	struct head h = head_at(s, s->at[point]);
	const char *stem = stem_of(s, &h);
	size_t len = strlen(stem);

	return strncmp(suffix, stem, len) == 0 && strcmp(suffix + len, rest_of(s, point, &h)) == 0;
}

/* ---- payloads ---- */

/* Points of one kind say the same again and again but for a number: cut out its place. */
struct cut {
	size_t at, len; /* of the longest number; none: 0 at the end */
};

static struct cut cut_number(const char *payload)
{
	struct cut cut = {.at = strlen(payload)};

	for (const char *c = payload; *c != '\0';) {
		size_t len =
			*c == '-' || (*c >= '0' && *c <= '9') ? strspn(c, "+-.0123456789Ee") : 0;

		if (len > cut.len)
			cut = (struct cut){(size_t)(c - payload), len};
		c += len > 0 ? len : 1;
	}
	return cut;
}

static bool is_frame(const char *frame, const char *payload, const struct cut *cut)
{
	return strncmp(frame, payload, cut->at) == 0 && frame[cut->at] == HOLE &&
	       strcmp(frame + cut->at + 1, payload + cut->at + cut->len) == 0;
}

static uint8_t find_frame(struct said_points *s, const char *payload, const struct cut *cut)
{
	char *frame = NULL;

	for (size_t i = 0; i < s->n_frames; i++)
		if (is_frame(s->frames[i], payload, cut))
			return (uint8_t)i;
	if (s->n_frames == FRAMES_MAX || strlen(payload) > FRAME_MAX ||
	    asprintf(&frame, "%.*s%c%s", (int)cut->at, payload, HOLE,
		     payload + cut->at + cut->len) < 0)
		return NO_FRAME;
	s->frames[s->n_frames] = frame;
	return (uint8_t)s->n_frames++;
}

/* text: as it is kept. ret: yours; NULL: out of memory */
static char *payload_of(const struct said_points *s, const struct head *h, const char *text)
{
	char *payload = NULL;

	if (h->frame == NO_FRAME)
		return strdup(text);
	const char *frame = s->frames[h->frame], *hole = strchr(frame, HOLE);

	if (asprintf(&payload, "%.*s%s%s", (int)(hole - frame), frame, text, hole + 1) < 0)
		return NULL;
	return payload;
}

/* ---- in and out ---- */

bool said_points_put(struct said_points *s, unsigned point, const struct said_event *e)
{
	const char *slash = strrchr(e->suffix, '/');
	const char *rest = slash != NULL ? slash + 1 : e->suffix;
	struct head h = {.timestamp_us = e->timestamp_us,
			 .has_source = e->source_us != NULL,
			 .connection = e->connection & CONNECTIONS};

	if (s->at[point] != 0 && !has_topic(s, point, e->suffix))
		return false;
	h.stem = find_stem(s, e->suffix, (size_t)(rest - e->suffix));
	if (h.stem == NO_STEM)
		rest = e->suffix;
	h.named = strcmp(rest, s->points->items[point].name) == 0;
	struct cut cut = cut_number(e->payload);

	h.frame = find_frame(s, e->payload, &cut);
	if (h.frame == NO_FRAME)
		cut = (struct cut){.len = strlen(e->payload)};
	size_t rest_len = h.named ? 0 : strlen(rest) + 1, payload_len = cut.len + 1;
	size_t source_len = h.has_source ? sizeof(*e->source_us) : 0;

	if (!place(s, point, sizeof(h) + source_len + rest_len + payload_len))
		return true;
	h.room = head_at(s, s->at[point]).room & ROOM_MAX;
	memcpy(s->bytes + s->at[point] - 1, &h, sizeof(h));
	memcpy(source_at(s, s->at[point]), h.has_source ? e->source_us : &(int64_t){0}, source_len);
	memcpy(text_at(s, s->at[point]), rest, rest_len);
	char *payload = text_at(s, s->at[point]) + rest_len;

	memcpy(payload, e->payload + cut.at, cut.len);
	payload[cut.len] = '\0';
	return true;
}

int said_points_get(const struct said_points *s, unsigned point, unsigned but,
		    struct said_text *ret)
{
	*ret = (struct said_text){0};
	if (s->at[point] == 0)
		return 0;
	struct head h = head_at(s, s->at[point]);

	if (h.connection == (but & CONNECTIONS))
		return 0;
	int64_t source_us = 0;

	if (h.has_source)
		memcpy(&source_us, source_at(s, s->at[point]), sizeof(source_us));
	const char *text = text_at(s, s->at[point]);

	if (asprintf(&ret->suffix, "%s%s", stem_of(s, &h), rest_of(s, point, &h)) < 0)
		ret->suffix = NULL;
	CLEANUP(freep)
	char *payload = payload_of(s, &h, h.named ? text : text + strlen(text) + 1);

	if (payload != NULL)
		ret->body =
			event_body_text(h.timestamp_us, h.has_source ? &source_us : NULL, payload);
	return ret->suffix != NULL && ret->body != NULL ? 1 : ERR_NOMEM;
}

void said_text_done(struct said_text *t)
{
	free(t->suffix);
	free(t->body);
	*t = (struct said_text){0};
}
