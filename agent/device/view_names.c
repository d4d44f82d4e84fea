/* view_names.c - the features of a device: their names, and back from a name to its point. */
#include "agent/device/view_int.h"

#include "common/map.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

/* ---- names ---- */

static const char *name_of(const struct view *v, unsigned point)
{
	uint32_t name = v->points[point].name;

	return name != 0 ? v->names + name - 1 : v->conf.points->items[point].name;
}

static int by_name(const void *a, const void *b, void *arg)
{
	const uint32_t *i = a, *k = b;

	return strcmp(name_of(arg, *i), name_of(arg, *k));
}

static int add_name(struct view *v, size_t i, struct map *used, size_t *len, size_t *cap,
		    struct err *err)
{
	const struct point_spec *spec = &v->conf.points->items[i];
	char name[FEATURE_NAME_MAX + 1];
	int rc = feature_name(point_feature(spec), spec->output, used, name, err);

	if (rc < 0)
		return rc;
	if (strcmp(name, spec->name) == 0)
		return 0;
	size_t n = strlen(name) + 1;
	if (*len + n > *cap) {
		size_t more = 2 * (*len + n);
		char *grown = realloc(v->names, more);
		if (grown == NULL)
			return err_set(err, ERR_NOMEM, "names of features");
		v->names = grown;
		*cap = more;
	}
	memcpy(v->names + *len, name, n);
	v->points[i].name = (uint32_t)*len + 1;
	*len += n;
	return 0;
}

int view_name_points(struct view *v, struct err *err)
{
	size_t n = v->conf.points->n, len = 0, cap = 0;
	char link[FEATURE_NAME_MAX + 1];
	struct map *used = map_new();
	int rc = used != NULL ? feature_name(LINK_FEATURE, false, used, link, err)
			      : err_set(err, ERR_NOMEM, "names of features");

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = add_name(v, i, used, &len, &cap, err);
	map_free(used, free);
	if (rc < 0)
		return rc;
	char *fitting = len > 0 ? realloc(v->names, len) : NULL;
	if (fitting != NULL)
		v->names = fitting;
	v->by_name = malloc((n + 1) * sizeof(*v->by_name));
	if (v->by_name == NULL)
		return err_set(err, ERR_NOMEM, "names of features");
	for (size_t i = 0; i < n; i++)
		v->by_name[i] = (uint32_t)i;
	qsort_r(v->by_name, n, sizeof(*v->by_name), by_name, v);
	return 0;
}

/* len bytes of text. ret: the point of that name; -1: none */
static int find_point(const struct view *v, const char *text, size_t len)
{
	size_t low = 0, high = v->conf.points->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const char *name = name_of(v, v->by_name[mid]);
		int order = strncmp(name, text, len);
		if (order == 0 && name[len] == '\0')
			return (int)v->by_name[mid];
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return -1;
}

/* The point with an ODF whose name ends with this suffix. */
static int find_suffixed(const struct view *v, const char *name, const char *suffix)
{
	size_t len = strlen(name);

	if (len <= SUFFIX_LEN || strcmp(name + len - SUFFIX_LEN, suffix) != 0)
		return -1;
	int point = find_point(v, name, len - SUFFIX_LEN);
	return point >= 0 && v->conf.points->items[point].output ? point : -1;
}

int view_find_odf(const struct view *v, const char *name)
{
	return find_suffixed(v, name, SET_SUFFIX);
}

int view_find(const struct view *v, const char *name)
{
	for (size_t i = 0; i < v->conf.points->n; i++)
		if (strcmp(v->conf.points->items[i].name, name) == 0)
			return (int)i;
	int point = find_point(v, name, strlen(name));
	return point >= 0 ? point : view_find_odf(v, name);
}

const char *view_feature(const struct view *v, unsigned point, bool output, char *buf)
{
	if (point >= v->conf.points->n)
		return NULL;
	const struct point_spec *spec = &v->conf.points->items[point];
	if (!output)
		return spec->input ? name_of(v, point) : NULL;
	snprintf(buf, VIEW_FEATURE_MAX, "%s" SET_SUFFIX, name_of(v, point));
	return spec->output ? buf : NULL;
}

/* ---- IDFs ---- */

void view_idf_link(struct view *v, struct idf *ret)
{
	ret->bits = &v->link_idf;
	ret->keep = KEEP_NONE; /* it is told anew by whoever starts */
	ret->point = -1;
	ret->ack = false;
	ret->name = LINK_FEATURE;
}

void view_idf_point(struct view *v, unsigned point, struct idf *ret)
{
	ret->bits = &v->points[point].idf;
	ret->keep = v->points[point].keep;
	ret->point = (int)point;
	ret->ack = false;
	ret->name = name_of(v, point);
}

void view_idf_ack(struct view *v, unsigned point, struct idf *ret)
{
	ret->bits = &v->points[point].ack;
	ret->keep = KEEP_NONE; /* what came of a write is old news to a later process */
	ret->point = (int)point;
	ret->ack = true;
	snprintf(ret->ack_name, sizeof(ret->ack_name), "%s" ACK_SUFFIX, name_of(v, point));
	ret->name = ret->ack_name;
}

bool view_find_idf(struct view *v, const char *name, struct idf *ret)
{
	if (strcmp(name, LINK_FEATURE) == 0) {
		view_idf_link(v, ret);
		return true;
	}
	int point = find_point(v, name, strlen(name));
	if (point >= 0) {
		view_idf_point(v, (unsigned)point, ret);
		return v->conf.points->items[point].input;
	}
	point = find_suffixed(v, name, ACK_SUFFIX);
	if (point >= 0)
		view_idf_ack(v, (unsigned)point, ret);
	return point >= 0;
}

void view_each_idf(struct view *v, view_idf_fn *fn)
{
	struct idf idf;

	view_idf_link(v, &idf);
	fn(v, &idf);
	for (size_t i = 0; i < v->conf.points->n; i++) {
		if (v->conf.points->items[i].input) {
			view_idf_point(v, (unsigned)i, &idf);
			fn(v, &idf);
		}
		if (v->conf.points->items[i].output) {
			view_idf_ack(v, (unsigned)i, &idf);
			fn(v, &idf);
		}
	}
}

/* ---- for the registration ---- */

struct texts {
	const char *idf_units[POINT_UNITS_MAX], *odf_units[POINT_UNITS_MAX];
	char ack[VIEW_FEATURE_MAX], set[VIEW_FEATURE_MAX];
};

static void add_point(struct view *v, unsigned point, struct texts *t, struct view_features *f)
{
	static const char *const ack_units[] = {"code", "value", NULL};
	const struct point_spec *spec = &v->conf.points->items[point];
	const struct point *p = points_at(v->conversions, point);

	if (spec->input)
		f->idfs[f->n_idfs++] = (struct dan_feature){
			.name = name_of(v, point),
			.units = point_units(p, false, t->idf_units),
		};
	if (!spec->output)
		return;
	snprintf(t->ack, sizeof(t->ack), "%s" ACK_SUFFIX, name_of(v, point));
	f->idfs[f->n_idfs++] = (struct dan_feature){.name = t->ack, .units = ack_units};
	f->odfs[f->n_odfs++] = (struct dan_feature){
		.name = view_feature(v, point, true, t->set),
		.units = point_units(p, true, t->odf_units),
	};
}

int view_features(struct view *v, struct view_features *ret, struct err *err)
{
	static const char *const link_units[] = {"status", NULL}, *const slave_units[] = {
									  "status", "count", NULL};
	size_t n = v->conf.points->n;
	struct texts *texts = calloc(n + 1, sizeof(*texts));

	*ret = (struct view_features){
		.idfs = calloc(2 * n + 1, sizeof(*ret->idfs)),
		.odfs = calloc(n + 1, sizeof(*ret->odfs)),
		.memory = texts,
	};
	if (texts == NULL || ret->idfs == NULL || ret->odfs == NULL)
		return err_set(err, ERR_NOMEM, "features");
	ret->idfs[ret->n_idfs++] = (struct dan_feature){
		.name = LINK_FEATURE, .units = v->slave ? slave_units : link_units};
	for (size_t i = 0; i < n; i++)
		add_point(v, (unsigned)i, &texts[i], ret);
	return 0;
}

void view_features_done(struct view_features *f)
{
	free(f->idfs);
	free(f->odfs);
	free(f->memory);
}
