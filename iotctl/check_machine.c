/* check_machine.c - what the machine gives: a clock that is right, descriptors, processes, memory.
 */
#include "common/db.h"
#include "common/util.h"
#include "iotctl/cgroup.h"
#include "iotctl/check.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <time.h>

/* ---- clock ---- */

#define CLOCK_SLACK_S 300

static int on_time(void *arg, const struct db_value *v, size_t n)
{
	(void)n;
	*(double *)arg = v[0].type == DB_REAL  ? v[0].real
			 : v[0].type == DB_INT ? (double)v[0].num
					       : 0;
	return 0;
}

/* When csm last wrote something, by its clock; 0: not known. */
static double newest_row(const char *store)
{
	struct db *db = NULL;
	double newest = 0;

	if (strcmp(store, ":memory:") == 0 || db_open_sqlite_look(store, &db, NULL) < 0)
		return 0;
	db_run(db, NULL, on_time, &newest,
	       "SELECT max(t) FROM (SELECT max(register_time) AS t FROM device "
	       "UNION ALL SELECT max(state_since) FROM device)");
	db_close(db);
	return newest;
}

static void format_time(double t, char buf[32])
{
	time_t at = (time_t)t;
	struct tm tm;

	if (gmtime_r(&at, &tm) == NULL || strftime(buf, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		snprintf(buf, 32, "%.0f", t);
}

void check_clock(struct look *l)
{
	static const char remedy[] =
		"set the clock: timedatectl set-time, or a time service; a machine "
		"without a battery needs one at every start";
	struct stat st = {0};
	struct timex tx = {0};
	double now = (double)time(NULL);
	double row = l->s != NULL ? newest_row(l->s->core_db.url) : 0;
	char is[32], other[32];

	format_time(now, is);
	if (stat(l->app->program_path, &st) == 0 && now + CLOCK_SLACK_S < (double)st.st_mtime) {
		format_time((double)st.st_mtime, other);
		look_says(l, "time", DOCTOR_MISSING, remedy, "%s: before this program was made, %s",
			  is, other);
	} else if (now + CLOCK_SLACK_S < row) {
		format_time(row, other);
		look_says(l, "time", DOCTOR_MISSING, remedy,
			  "%s: before the newest row in the store, %s", is, other);
	} else {
		look_says(l, "time", DOCTOR_OK, NULL, "%s", is);
	}
	int state = adjtimex(&tx);

	if (state < 0)
		look_says(l, "synchronized", DOCTOR_WARNING, "see timedatectl",
			  "cannot be told: %s", strerror(errno));
	else if (state == TIME_ERROR || (tx.status & STA_UNSYNC))
		look_says(l, "synchronized", DOCTOR_WARNING,
			  "run a time service: apt-get install systemd-timesyncd, or chrony",
			  "nobody keeps the clock right");
	else
		look_says(l, "synchronized", DOCTOR_OK, NULL, "within %.1f ms",
			  (double)tx.maxerror / 1000);
}

/* ---- limits ---- */

#define FILES_WARN  4096 /* the broker needs one for each connection */
#define FILES_NEED  256
#define PIDS_WARN   64 /* engines, and some threads */
#define PIDS_NEED   8
#define MIB         (1024 * 1024)
#define MEMORY_WARN 256 /* MiB: an engine that grows to its limit */
#define MEMORY_NEED 32

/* The process whose limits count: the daemon if it runs, else we, who would start it. */
struct subject {
	char words[64];
	char proc[32]; /* "/proc/PID" */
};

static struct subject subject_of(const struct look *l, const char *name)
{
	struct subject of = {.proc = "/proc/self"};
	pid_t pid = check_pid(l, name);

	snprintf(of.words, sizeof(of.words), "of this shell");
	if (pid > 0) {
		snprintf(of.proc, sizeof(of.proc), "/proc/%d", (int)pid);
		snprintf(of.words, sizeof(of.words), "of the %s, pid %d", name, (int)pid);
	}
	return of;
}

/* Soft limit in /proc/PID/limits. ret: -1: unlimited or not known */
static int64_t limit_of(const struct subject *of, const char *what)
{
	char path[64], line[200];
	int64_t limit = -1;

	snprintf(path, sizeof(path), "%s/limits", of->proc);
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, what, strlen(what)) == 0 &&
		    sscanf(line + strlen(what), "%" SCNd64, &limit) != 1)
			limit = -1;
	}
	if (f != NULL)
		fclose(f);
	return limit;
}

static enum doctor_state grade(int64_t have, int64_t warn, int64_t need)
{
	return have < need ? DOCTOR_MISSING : have < warn ? DOCTOR_WARNING : DOCTOR_OK;
}

static void check_descriptors(struct look *l, const char *daemon)
{
	struct subject of = subject_of(l, daemon);
	int64_t limit = limit_of(&of, "Max open files");
	enum doctor_state state = limit < 0 ? DOCTOR_OK : grade(limit, FILES_WARN, FILES_NEED);

	if (limit < 0)
		look_says(l, "open files", DOCTOR_OK, NULL, "no limit %s", of.words);
	else
		look_says(l, "open files", state,
			  state == DOCTOR_OK
				  ? NULL
				  : "ulimit -n 65536 before iotctl start, or LimitNOFILE=65536 "
				    "in the unit; then restart",
			  "%" PRId64 " %s; each connection needs one", limit, of.words);
}

static bool read_text(const char *path, char *buf, size_t cap)
{
	FILE *f = fopen(path, "re");
	size_t n = f != NULL ? fread(buf, 1, cap - 1, f) : 0;

	if (f != NULL)
		fclose(f);
	buf[n] = '\0';
	return n > 0;
}

static bool room_of(const struct subject *of, enum cgroup_kind kind, int64_t *ret_limit,
		    int64_t *ret_used)
{
	char path[64], membership[4096];

	snprintf(path, sizeof(path), "%s/cgroup", of->proc);
	return read_text(path, membership, sizeof(membership)) &&
	       cgroup_room(membership, "/sys/fs/cgroup", kind, ret_limit, ret_used);
}

static void check_processes(struct look *l)
{
	struct subject of = subject_of(l, "agent");
	int64_t own = limit_of(&of, "Max processes"), limit, used;
	bool root = geteuid() == 0;

	if (!root && own >= 0 && own < PIDS_WARN)
		look_says(l, "processes", DOCTOR_WARNING,
			  "ulimit -u 4096 before iotctl start, or LimitNPROC= in the unit",
			  "%" PRId64 " of this user, %s", own, of.words);
	else if (!room_of(&of, CGROUP_PIDS, &limit, &used))
		look_says(l, "processes", DOCTOR_OK, NULL, "no limit %s", of.words);
	else if (grade(limit - used, PIDS_WARN, PIDS_NEED) == DOCTOR_OK)
		look_says(l, "processes", DOCTOR_OK, NULL, "%" PRId64 " of %" PRId64 " are left %s",
			  limit - used, limit, of.words);
	else
		look_says(l, "processes", grade(limit - used, PIDS_WARN, PIDS_NEED),
			  "raise TasksMax= of the unit, or the pids limit of the container: "
			  "engines are "
			  "processes",
			  "%" PRId64 " of %" PRId64 " are left %s", limit - used, limit, of.words);
}

/* MemAvailable. ret: -1: not known */
static int64_t available_mib(void)
{
	char text[4096];
	int64_t kib = -1;

	if (read_text("/proc/meminfo", text, sizeof(text))) {
		const char *at = strstr(text, "MemAvailable:");

		if (at == NULL || sscanf(at, "MemAvailable: %" SCNd64, &kib) != 1)
			kib = -1;
	}
	return kib >= 0 ? kib / 1024 : -1;
}

static void check_memory(struct look *l)
{
	struct subject of = subject_of(l, "agent");
	int64_t limit, used, mib = available_mib();
	bool limited = room_of(&of, CGROUP_MEMORY, &limit, &used);

	if (limited && (mib < 0 || (limit - used) / MIB < mib))
		mib = (limit - used) / MIB;
	else
		limited = false;
	enum doctor_state state = mib < 0 ? DOCTOR_WARNING : grade(mib, MEMORY_WARN, MEMORY_NEED);

	look_says(l, "memory", state,
		  state == DOCTOR_OK ? NULL
		  : limited
			  ? "raise MemoryMax= of the unit, or the memory limit of the container"
			  : "end what eats it, lower [engine] memory-mb, or take a larger machine",
		  "%" PRId64 " MiB are left %s", mib,
		  limited ? "to the control group" : "on this machine");
}

void check_limits(struct look *l)
{
	check_descriptors(l, "broker");
	check_processes(l);
	check_memory(l);
}
