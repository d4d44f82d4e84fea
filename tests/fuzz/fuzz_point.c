/* fuzz: agent
 *
 * What a graph sends to an ODF, and names that become features. Three bytes choose the point, the
 * rest is the JSON text of the values, and the name. What is taken as bits of an unscaled point is
 * told as it was sent. */
#include "agent/device/point.h"
#include "common/map.h"
#include "common/util.h"
#include "tests/fuzz/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(const char *name, bool output)
{
	struct map *used = map_new();
	char first[FEATURE_NAME_MAX + 1], second[FEATURE_NAME_MAX + 1];

	if (used == NULL || feature_name(name, output, used, first, NULL) < 0 ||
	    feature_name(name, !output, used, second, NULL) < 0)
		abort();
	size_t len = strlen(first);
	if (len == 0 || len > FEATURE_NAME_MAX || strlen(second) > FEATURE_NAME_MAX ||
	    first[0] < 'a' || first[0] > 'z' || first[len - 1] == '_' ||
	    strspn(first, "abcdefghijklmnopqrstuvwxyz0123456789_") != len ||
	    strstr(first, "__") != NULL || strcmp(first, second) == 0)
		abort();
	map_free(used, free);
}

/* What came as bits goes out, and comes back as the same bits. */
static void check_way_back(struct point *p, const struct value *v)
{
	struct value back = {0};
	json_auto_t *idf = point_to_idf(p, v, 1);

	while (json_array_size(idf) > 1) /* its quality and time */
		json_array_remove(idf, 1);
	char *wire = json_dumps(idf, JSON_COMPACT);
	json_auto_t *odf = wire != NULL ? json_loads(wire, 0, NULL) : NULL;

	if (odf == NULL || point_from_odf(p, odf, &back, NULL) < 0 || back.u != v->u)
		abort();
	free(wire);
}

static json_t *choose_options(struct input *in, bool *scaled)
{
	static const char *const formats[] = {NULL, "uint", "int", "float32", "float64"};
	static const double scales[] = {1, 1, 0.1, -3, 1e300, 1e-300},
			    offsets[] = {0, 0, 0.5, -1e9, 1e308};
	unsigned choice = input_take(in), numbers = input_take(in);
	const char *format = formats[choice % ARRAY_LEN(formats)];
	double scale = scales[numbers % ARRAY_LEN(scales)],
	       offset = offsets[numbers / 8 % ARRAY_LEN(offsets)];
	json_t *options =
		json_pack("{s:f, s:f, s:b, s:s}", "scale", scale, "offset", offset, "signed",
			  (int)(choice / 8 % 2), "dims", choice & 64 ? "full" : "value");

	if (options != NULL && format != NULL)
		json_object_set_new(options, "format", json_string(format));
	*scaled = scale != 1 || offset != 0;
	return options;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .left = size};
	bool scaled;
	unsigned bits = input_choose(&in, 65);
	json_auto_t *options = choose_options(&in, &scaled);
	struct point_spec spec = {.name = "p", .options = options, .input = true, .bits = bits};
	struct points *all = NULL;
	struct value v = {0};
	struct err err = {0};

	char *text = strndup((const char *)in.data, in.left);
	check_name(text, bits % 2 != 0);
	json_auto_t *values = json_loadb(text, strlen(text), JSON_DECODE_ANY, NULL);
	if (values != NULL && points_new(&spec, 1, &all, NULL) == 0) {
		struct point *p = points_at(all, 0);
		if (point_from_odf(p, values, &v, &err) < 0) {
			if (err.text[0] == '\0')
				abort();
		} else if (bits > 0 && !scaled) {
			check_way_back(p, &v);
		} else {
			json_decref(point_to_idf(p, &v, 1));
			json_decref(point_last(p));
		}
	}
	points_free(all);
	free(text);
	return 0;
}
