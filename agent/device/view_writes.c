/* view_writes.c - ODF values on their way to the device, and what came of them (gateway-devices
 * 4.3). Of each ODF one write is in progress at a time, and only the newest value waits. */
#include "agent/device/view_int.h"
#include "common/util.h"
#include <string.h>

#define ECHO_BYTES_MAX 255 /* of a text; a longer one is not repeated */

static struct write *write_free(struct write *w)
{
	if (w == NULL)
		return NULL;
	json_decref(w->current);
	json_decref(w->waiting);
	free(w);
	return NULL;
}

/* What of an ODF's list is repeated with the outcome; a new reference, NULL: out of memory. */
static json_t *echo_of(const json_t *values)
{
	json_t *first = json_array_get(values, 0);
	bool plain = json_is_number(first) || json_is_boolean(first) ||
		     (json_is_string(first) && json_string_length(first) <= ECHO_BYTES_MAX);

	return plain ? json_incref(first) : json_null();
}

static void acknowledge(struct view *v, unsigned point, enum ack code, const json_t *values)
{
	struct idf idf;

	view_idf_ack(v, point, &idf);
	view_put(v, &idf, json_pack("[i, o]", (int)code, echo_of(values)), NULL, NULL);
}

static void refuse(struct view *v, unsigned point, enum ack code, const json_t *values)
{
	v->refused++;
	acknowledge(v, point, code, values);
}

/* A slave takes values without a master too. */
static bool link_down(const struct view *v)
{
	return !v->slave && v->link != LINK_CONNECTED;
}

/* ret: false: refused, and said so. value: borrows text of values. */
static bool acceptable(struct view *v, unsigned point, const json_t *values, struct value *value)
{
	struct err err = {0};

	if (point_from_odf(points_at(v->conversions, point), values, value, &err) < 0) {
		view_set_why(v, err.text);
		refuse(v, point, ACK_BAD_VALUE, values);
		return false;
	}
	if (link_down(v)) {
		refuse(v, point, ACK_LINK_DOWN, values);
		return false;
	}
	return true;
}

static void start(struct view *v, unsigned point, json_t *values)
{
	struct value value;

	if (!acceptable(v, point, values, &value))
		return;
	if (v->writing == NULL)
		v->writing = calloc(v->conf.points->n, sizeof(struct write *));
	struct write *w = v->writing != NULL ? calloc(1, sizeof(*w)) : NULL;
	if (w == NULL) {
		refuse(v, point, ACK_REJECTED, values);
		return;
	}
	w->number = (uint64_t)++v->next_write << 32 | point;
	w->current = json_incref(values);
	v->writing[point] = w;
	v->events.write(v->arg, point, &value, w->number); /* may answer from within */
}

void view_on_data(struct view *v, const char *feature, json_t *values)
{
	struct value value;
	int point = view_find_odf(v, feature);

	if (point < 0)
		return;
	v->writes++;
	/* a graph sends the scalar that a function gave as it is, and not as a list of one */
	json_auto_t *list = json_is_array(values) ? json_incref(values) : json_pack("[O]", values);
	struct write *w = v->writing != NULL ? v->writing[point] : NULL;
	if (list == NULL) {
		refuse(v, (unsigned)point, ACK_REJECTED, NULL);
		return;
	}
	if (w == NULL) {
		start(v, (unsigned)point, list);
		return;
	}
	/* what cannot be written does not take the place of what can */
	if (!acceptable(v, (unsigned)point, list, &value))
		return;
	json_auto_t *overtaken = w->waiting;
	w->waiting = json_incref(list);
	if (overtaken != NULL)
		refuse(v, (unsigned)point, ACK_CANCELLED, overtaken);
}

void view_written(struct view *v, uint64_t number, enum ack ack)
{
	unsigned point = (uint32_t)number;

	if (point >= v->conf.points->n || v->writing == NULL || v->writing[point] == NULL ||
	    v->writing[point]->number != number)
		return;
	struct write *w = TAKE(v->writing[point]);
	json_auto_t *next = TAKE(w->waiting);
	acknowledge(v, point, ack, w->current);
	write_free(w);
	if (next != NULL)
		start(v, point, next);
}

void view_drop_writes(struct view *v)
{
	for (size_t i = 0; v->writing != NULL && i < v->conf.points->n; i++)
		v->writing[i] = write_free(v->writing[i]);
}
