/* conf_adopt.c - what another reading of the settings changes while a program runs. */
#include "common/conf.h"
#include <string.h>

static void *at(const struct conf_row *row, void *target)
{
	return (char *)target + row->offset;
}

static bool equal(const struct conf_row *row, void *a, void *b)
{
	switch (row->type) {
	case CONF_STR:
		return strcmp(*(char **)at(row, a), *(char **)at(row, b)) == 0;
	case CONF_INT:
		return *(int64_t *)at(row, a) == *(int64_t *)at(row, b);
	case CONF_BOOL:
		return *(bool *)at(row, a) == *(bool *)at(row, b);
	case CONF_ENUM:
		return *(int *)at(row, a) == *(int *)at(row, b);
	}
	return true;
}

static void swap(const struct conf_row *row, void *a, void *b)
{
	static const size_t sizes[] = {
		[CONF_STR] = sizeof(char *),
		[CONF_INT] = sizeof(int64_t),
		[CONF_BOOL] = sizeof(bool),
		[CONF_ENUM] = sizeof(int),
	};
	char kept[sizeof(int64_t) > sizeof(char *) ? sizeof(int64_t) : sizeof(char *)];

	memcpy(kept, at(row, a), sizes[row->type]);
	memcpy(at(row, a), at(row, b), sizes[row->type]);
	memcpy(at(row, b), kept, sizes[row->type]);
}

void conf_adopt(const struct conf_row *rows, size_t n, void *running, void *fresh,
		conf_change_fn *fn, void *arg)
{
	for (size_t i = 0; i < n; i++) {
		if (equal(&rows[i], running, fresh))
			continue;
		if (rows[i].live)
			swap(&rows[i], running, fresh);
		fn(arg, &rows[i], rows[i].live);
	}
}
