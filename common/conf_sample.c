/* conf_sample.c - the table of settings as text for people. */
#include "common/conf.h"
#include <inttypes.h>
#include <string.h>

void conf_range(const struct conf_row *row, char *buf, size_t cap)
{
	const char *unit = row->unit != NULL ? row->unit : "";
	size_t used;

	buf[0] = '\0';
	switch (row->type) {
	case CONF_STR:
		break;
	case CONF_INT:
		snprintf(buf, cap, "%" PRId64 " to %" PRId64 "%s%s", row->min, row->max,
			 unit[0] != '\0' ? " " : "", unit);
		break;
	case CONF_BOOL:
		snprintf(buf, cap, "true or false");
		break;
	case CONF_ENUM:
		used = (size_t)snprintf(buf, cap, "one of ");
		for (size_t i = 0; row->names[i] != NULL && used < cap; i++)
			used += (size_t)snprintf(buf + used, cap - used, "%s%s", i > 0 ? ", " : "",
						 row->names[i]);
		break;
	}
}

static void sample_help(const char *help, FILE *out)
{
	while (*help != '\0') {
		size_t len = strcspn(help, "\n");

		fprintf(out, "# %.*s\n", (int)len, help);
		help += len + (help[len] == '\n');
	}
}

void conf_sample(const struct conf_row *rows, size_t n, FILE *out)
{
	const char *section = "";
	char range[300];

	for (size_t i = 0; i < n; i++) {
		const struct conf_row *row = &rows[i];

		if (strcmp(section, row->section) != 0) {
			section = row->section;
			fprintf(out, "\n[%s]\n", section);
		}
		fputc('\n', out);
		sample_help(row->help, out);
		conf_range(row, range, sizeof(range));
		if (range[0] != '\0')
			fprintf(out, "# (%s)\n", range);
		if (row->live)
			fprintf(out, "# (`iotctl reload` is enough after a change)\n");
		fprintf(out, ";%s =%s%s\n", row->key, row->def[0] != '\0' ? " " : "", row->def);
	}
}
