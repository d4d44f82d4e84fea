/* manual.h - manual pages, made from the tables that the programs run by. */
#pragma once

#include <stdio.h>

struct manual_page {
	const char *name; /* "iotctl"; NULL ends the table */
	int section;
	const char *summary;
	void (*write)(const struct manual_page *page, FILE *out); /* the page in man(7) macros */
};

extern const struct manual_page manual_pages[];
