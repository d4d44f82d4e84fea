/* doctor_report.c - what doctor found, for programs and for people. */
#include "common/util.h"
#include "iotctl/doctor.h"
#include "iotctl/show.h"
#include <stdio.h>
#include <string.h>

json_t *doctor_new(bool degraded)
{
	return json_pack("{s:b, s:s, s:[], s:[]}", "ok", 1, "sandbox",
			 degraded ? "degraded" : "strict", "layers", "checks");
}

static bool is_degraded(const json_t *report)
{
	return strcmp(json_string_value(json_object_get(report, "sandbox")), "degraded") == 0;
}

static void spoil(json_t *report)
{
	json_object_set_new(report, "ok", json_false());
}

/* A core layer, of whose kind there is none: the keeper asks for one of each. */
static bool is_lacking(json_t *layers, const json_t *layer)
{
	const char *kind = json_string_value(json_object_get(layer, "kind"));
	json_t *row;
	size_t i;

	if (json_is_false(json_object_get(layer, "core")) ||
	    json_is_true(json_object_get(layer, "up")))
		return false;
	json_array_foreach (layers, i, row) {
		const char *other = json_string_value(json_object_get(row, "kind"));

		if (json_is_true(json_object_get(row, "up")) && kind != NULL && other != NULL &&
		    strcmp(kind, other) == 0)
			return false;
	}
	return true;
}

void doctor_add_layers(json_t *report, json_t *layers, const char *why)
{
	json_t *row;
	size_t i;

	if (layers == NULL) {
		doctor_add(report, doctor_line("sandbox", "probe", DOCTOR_MISSING, why,
					       "build and install iottalk-engine beside iotctl"));
		return;
	}
	json_object_set(report, "layers", layers);
	json_array_foreach (layers, i, row) {
		if (is_lacking(layers, row) && !is_degraded(report))
			spoil(report);
	}
}

static const char *const state_names[] = {
	[DOCTOR_OK] = "ok",
	[DOCTOR_WARNING] = "warning",
	[DOCTOR_MISSING] = "missing",
};

json_t *doctor_line(const char *group, const char *name, enum doctor_state state, const char *why,
		    const char *remedy)
{
	return json_pack("{s:s, s:s, s:s, s:s?, s:s?}", "group", group, "name", name, "state",
			 state_names[state], "why", why, "remedy", remedy);
}

void doctor_add(json_t *report, json_t *line)
{
	const char *state = json_string_value(json_object_get(line, "state"));

	/* One that could not be made is not one that is fine. */
	if (state == NULL || strcmp(state, state_names[DOCTOR_MISSING]) == 0)
		spoil(report);
	json_array_append_new(json_object_get(report, "checks"), line);
}

bool doctor_ok(const json_t *report)
{
	return json_is_true(json_object_get(report, "ok"));
}

/* told: the remedy that was printed last; many layers have the same one. */
static void print_remedy(const json_t *row, const char **told)
{
	const char *remedy = text_or_empty(row, "remedy");

	if (remedy[0] == '\0')
		return;
	printf("    remedy: %s\n", strcmp(remedy, *told) != 0 ? remedy : "the same");
	*told = remedy;
}

static void print_layers(const json_t *report, const char **told)
{
	json_t *layers = json_object_get(report, "layers"), *row;
	bool missing = false;
	size_t i;

	puts("sandbox");
	json_array_foreach (layers, i, row) {
		bool up = json_is_true(json_object_get(row, "up"));
		bool core = json_is_true(json_object_get(row, "core"));

		printf("  %-20s %-8s %s%s%s\n", text_or_empty(row, "name"), up ? "up" : "missing",
		       core ? "core" : "",
		       core && text_or_empty(row, "kind")[0] != '\0' ? ": " : "",
		       core ? text_or_empty(row, "kind") : "");
		if (!up && text_or_empty(row, "why")[0] != '\0')
			printf("    %s\n", text_or_empty(row, "why"));
		if (!up)
			print_remedy(row, told);
		missing = missing || is_lacking(layers, row);
	}
	if (missing && is_degraded(report))
		puts("  warning: [engine] sandbox = degraded lets functions run without what is "
		     "missing");
	else if (missing)
		puts("  no engine starts without one core layer of each kind; [engine] sandbox = "
		     "degraded allows it");
}

void doctor_print(const json_t *report)
{
	const char *told = "", *group = "sandbox";
	unsigned warnings = 0, missing = 0;
	json_t *row;
	size_t i;

	print_layers(report, &told);
	json_array_foreach (json_object_get(report, "checks"), i, row) {
		const char *state = text_or_empty(row, "state");

		if (strcmp(text_or_empty(row, "group"), group) != 0)
			puts(text_or_empty(row, "group"));
		group = text_or_empty(row, "group");
		printf("  %-20s %-8s %s\n", text_or_empty(row, "name"), state,
		       text_or_empty(row, "why"));
		print_remedy(row, &told);
		warnings += strcmp(state, state_names[DOCTOR_WARNING]) == 0;
		missing += strcmp(state, state_names[DOCTOR_MISSING]) == 0;
	}
	if (!doctor_ok(report) || warnings > 0)
		printf("%s (missing: %u, warnings: %u)\n",
		       doctor_ok(report) ? "all that is needed is there"
					 : "something that is needed is not there",
		       missing, warnings);
	else
		puts("all is well");
}
