#include "common/exposition.h"

#include <sys/resource.h>
#include <unistd.h>

void exposition_head(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void exposition_one(FILE *out, const char *name, const char *type, const char *help, double value)
{
	exposition_head(out, name, type, help);
	fprintf(out, "%s %.15g\n", name, value);
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

void exposition_process(FILE *out, const char *program)
{
	struct rusage used = {0};
	unsigned long pages = 0;
	char help[64];
	FILE *statm = fopen("/proc/self/statm", "re");

	if (statm != NULL) {
		if (fscanf(statm, "%*u %lu", &pages) != 1)
			pages = 0;
		fclose(statm);
	}
	getrusage(RUSAGE_SELF, &used);
	snprintf(help, sizeof(help), "CPU time of %s.", program);
	exposition_one(out, "process_cpu_seconds_total", "counter", help,
		       seconds(used.ru_utime) + seconds(used.ru_stime));
	snprintf(help, sizeof(help), "Memory of %s.", program);
	exposition_one(out, "process_resident_memory_bytes", "gauge", help,
		       (double)pages * (double)sysconf(_SC_PAGESIZE));
}
