/* The layers of the sandbox, one at a time: without any, an attack works; with nothing but the
 * layer it fails. */
#include "common/tap.h"
#include "common/util.h"
#include "engine/engine.h"
#include "engine/sandbox.h"
#include "engine/sanitizer.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
/* after what it needs */
#include <cmocka.h>

SANITIZER_OPTIONS

#define SOMEBODY 1000 /* a user that is not root */
#define LEAKED   20   /* a descriptor that nobody closed */

/* How a run ends. */
enum { WORKED = 40, FAILED, CANNOT, NO_LAYER };

/* What is attacked; made before all. */
static struct {
	char dir[40], secret[60], writable[60], suid[60];
	struct sockaddr_in tcp;
	struct sockaddr_un abstract;
	socklen_t abstract_len;
	int shm;
	pid_t pid;
	int leak[2];
} world;

/* ---- attacks: true if they work ---- */

static bool read_a_file(void)
{
	char byte;
	int fd = open(world.secret, O_RDONLY);
	return fd >= 0 && read(fd, &byte, 1) == 1;
}

static bool write_a_file(void)
{
	return open(world.writable, O_WRONLY | O_CREAT, 0600) >= 0;
}

static bool fill_a_file(void)
{
	int fd = open(world.writable, O_WRONLY | O_CREAT, 0600);
	signal(SIGXFSZ, SIG_IGN);
	return fd >= 0 && write(fd, "x", 1) == 1;
}

static bool list_the_root(void)
{
	char entries[1000];
	int fd = open("/", O_RDONLY | O_DIRECTORY);
	/* more than "." and ".." */
	return fd >= 0 && syscall(SYS_getdents64, fd, entries, sizeof(entries)) > 100;
}

static bool make_a_directory(void)
{
	return mkdir("/tmp/iottalk-made-by-an-attack", 0700) == 0 &&
	       rmdir("/tmp/iottalk-made-by-an-attack") == 0;
}

static bool write_here(void)
{
	return chdir("/") == 0 &&
	       open("iottalk-made-by-an-attack", O_WRONLY | O_CREAT, 0600) >= 0 &&
	       unlink("iottalk-made-by-an-attack") == 0;
}

static bool connect_by_tcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return connect(fd, (struct sockaddr *)&world.tcp, sizeof(world.tcp)) == 0;
}

static bool connect_to_an_abstract_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	return connect(fd, (struct sockaddr *)&world.abstract, world.abstract_len) == 0;
}

static bool see_another_process(void)
{
	return kill(world.pid, 0) == 0;
}

static bool attach_shared_memory(void)
{
	return shmat(world.shm, NULL, SHM_RDONLY) != (void *)-1;
}

static bool set_the_host_name(void)
{
	char name[HOST_NAME_MAX + 1] = "";
	return gethostname(name, sizeof(name)) == 0 && sethostname(name, strlen(name)) == 0;
}

static bool give_a_file_away(void)
{
	return chown(world.secret, SOMEBODY, SOMEBODY) == 0 && chown(world.secret, 0, 0) == 0;
}

static bool become_root(void)
{
	return setresuid(0, 0, 0) == 0;
}

static bool run_a_program(void)
{
	execl("/proc/self/exe", "test_sandbox", "worked", (char *)NULL);
	return false; /* that one says whether it worked */
}

static bool run_a_setuid_program(void)
{
	execl(world.suid, "test_sandbox", "root?", (char *)NULL);
	return false;
}

static bool read_memory_of_another(void)
{
	static char mine[] = "of the other", copy[sizeof(mine)];
	pid_t victim = getpid();
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		const struct iovec to = {copy, sizeof(copy)}, from = {mine, sizeof(mine)};
		_exit(process_vm_readv(victim, &to, 1, &from, 1, 0) != sizeof(copy));
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool trace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool make_a_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static bool make_a_namespace(void)
{
	return unshare(CLONE_NEWUSER) == 0;
}

static bool fork_into_a_namespace(void)
{
	long pid = syscall(SYS_clone, (long)(CLONE_NEWUSER | SIGCHLD), 0L, 0L, 0L, 0L);
	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static bool make_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p != MAP_FAILED && mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
}

static bool map_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0) != MAP_FAILED;
}

static bool write_to_a_leak(void)
{
	return write(LEAKED, "x", 1) == 1;
}

static bool fork_a_process(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static bool open_many(void)
{
	for (int i = 0; i < 100; i++)
		if (dup(STDIN_FILENO) < 0)
			return false;
	return true;
}

static bool take_memory(void)
{
	return mmap(NULL, 1ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	       MAP_FAILED;
}

static bool dump_core(void)
{
	if (chdir(world.dir) < 0)
		return false;
	signal(SIGABRT, SIG_DFL);
	abort(); /* whoever waits for this process sees whether there is one */
}

static bool block_the_other_end(void)
{
	int flags = fcntl(STDOUT_FILENO, F_GETFL);
	return flags >= 0 && fcntl(STDOUT_FILENO, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

static bool duplicate(void)
{
	return dup(STDIN_FILENO) >= 0;
}

static bool kill_another(void)
{
	return kill(world.pid, 0) == 0;
}

static bool kill_oneself(void)
{
	return kill(getpid(), 0) == 0;
}

static bool raise_limits(void)
{
	const struct rlimit r = {RLIM_INFINITY, RLIM_INFINITY};
	return setrlimit(RLIMIT_CPU, &r) == 0;
}

static bool make_a_memfd(void)
{
	return memfd_create("x", 0) >= 0;
}

static bool call_prctl(void)
{
	return prctl(PR_SET_NAME, "x") == 0;
}

/* ---- the table ---- */

enum {
	AS_ROOT = 1, /* needs the test to be run by root */
	AS_SOMEBODY =
		2,    /* as a user without rights, who the attacker is before the layer goes up */
	MAY_LACK = 4, /* some machines do not let it work anyway: skipped there */
	CORE = 8,     /* works if the process leaves a core file */
	NOT_SANITIZED = 16,
	NO_MOUNTS = 32 /* the layer has to do without CAP_SYS_ADMIN */
};

struct row {
	const char *layer, *attack;
	bool (*run)(void);
	unsigned flags;
	int landlock_abi; /* at least; 0: any */
};

#define ATTACK(fn) #fn, fn

static const struct row rows[] = {
	{"user", ATTACK(read_a_file), AS_ROOT, 0},
	{"user", ATTACK(give_a_file_away), AS_ROOT, 0},
	{"user", ATTACK(become_root), AS_ROOT, 0},
	{"userns", ATTACK(set_the_host_name), AS_ROOT, 0},
	{"userns", ATTACK(give_a_file_away), AS_ROOT, 0},
	{"mountns", ATTACK(read_a_file), 0, 0},
	{"mountns", ATTACK(write_a_file), 0, 0},
	{"mountns", ATTACK(list_the_root), 0, 0},
	{"mountns", ATTACK(make_a_directory), 0, 0},
	{"mountns", ATTACK(read_a_file), AS_ROOT | NO_MOUNTS, 0},
	{"mountns", ATTACK(write_a_file), AS_ROOT | NO_MOUNTS, 0},
	{"mountns", ATTACK(list_the_root), AS_ROOT | NO_MOUNTS, 0},
	{"mountns", ATTACK(write_here), AS_ROOT | NO_MOUNTS, 0},
	{"netns", ATTACK(connect_by_tcp), 0, 0},
	{"netns", ATTACK(connect_to_an_abstract_socket), 0, 0},
	{"ipcns", ATTACK(attach_shared_memory), MAY_LACK, 0},
	{"pidns", ATTACK(see_another_process), 0, 0},
	{"no_new_privs", ATTACK(run_a_setuid_program), AS_ROOT | AS_SOMEBODY | MAY_LACK, 0},
	{"capabilities", ATTACK(set_the_host_name), AS_ROOT, 0},
	{"capabilities", ATTACK(give_a_file_away), AS_ROOT, 0},
	{"dumpable", ATTACK(read_memory_of_another), AS_SOMEBODY | MAY_LACK, 0},
	{"landlock", ATTACK(read_a_file), 0, 1},
	{"landlock", ATTACK(write_a_file), 0, 1},
	{"landlock", ATTACK(make_a_directory), 0, 1},
	{"landlock", ATTACK(run_a_program), 0, 1},
	{"landlock", ATTACK(connect_by_tcp), 0, 4},
	{"landlock", ATTACK(connect_to_an_abstract_socket), 0, 6},
	{"landlock", ATTACK(see_another_process), 0, 6},
	{"calls", ATTACK(read_a_file), 0, 0},
	{"calls", ATTACK(write_a_file), 0, 0},
	{"calls", ATTACK(run_a_program), 0, 0},
	{"calls", ATTACK(make_a_socket), 0, 0},
	{"calls", ATTACK(trace), 0, 0},
	{"calls", ATTACK(make_a_namespace), MAY_LACK, 0},
	{"calls", ATTACK(fork_into_a_namespace), MAY_LACK, 0},
	{"calls", ATTACK(set_the_host_name), AS_ROOT, 0},
	{"calls", ATTACK(make_code), 0, 0},
	{"calls", ATTACK(map_code), 0, 0},
	{"descriptors", ATTACK(write_to_a_leak), 0, 0},
	{"limits", ATTACK(fork_a_process), AS_SOMEBODY, 0},
	{"limits", ATTACK(open_many), 0, 0},
	{"limits", ATTACK(take_memory), NOT_SANITIZED, 0},
	{"limits", ATTACK(fill_a_file), 0, 0},
	{"limits", ATTACK(dump_core), CORE | MAY_LACK | NOT_SANITIZED, 0},
	{"seccomp", ATTACK(read_a_file), 0, 0},
	{"seccomp", ATTACK(write_a_file), 0, 0},
	{"seccomp", ATTACK(run_a_program), 0, 0},
	{"seccomp", ATTACK(fork_a_process), 0, 0},
	{"seccomp", ATTACK(make_a_socket), 0, 0},
	{"seccomp", ATTACK(trace), 0, 0},
	{"seccomp", ATTACK(kill_another), 0, 0},
	{"seccomp", ATTACK(kill_oneself), 0, 0},
	{"seccomp", ATTACK(attach_shared_memory), MAY_LACK, 0},
	{"seccomp", ATTACK(make_code), 0, 0},
	{"seccomp", ATTACK(map_code), 0, 0},
	{"seccomp", ATTACK(block_the_other_end), 0, 0},
	{"seccomp", ATTACK(write_to_a_leak), 0, 0},
	{"seccomp", ATTACK(duplicate), 0, 0},
	{"seccomp", ATTACK(open_many), 0, 0},
	{"seccomp", ATTACK(make_a_memfd), 0, 0},
	{"seccomp", ATTACK(raise_limits), 0, 0},
	{"seccomp", ATTACK(call_prctl), 0, 0},
	{"seccomp", ATTACK(make_a_namespace), MAY_LACK, 0},
};

/* ---- a run ---- */

static bool is_up(const struct sandbox *s, const char *name, char *why, size_t why_size)
{
	json_auto_t *report = sandbox_report(s);
	json_t *layer;
	size_t i;
	json_array_foreach (report, i, layer) {
		if (strcmp(json_string_value(json_object_get(layer, "name")), name) != 0)
			continue;
		snprintf(why, why_size, "%s", json_string_value(json_object_get(layer, "why")));
		return json_is_true(json_object_get(layer, "up"));
	}
	snprintf(why, why_size, "no such layer");
	return false;
}

static void become_somebody(void)
{
	if (geteuid() == 0 &&
	    (setgroups(0, NULL) < 0 || setresgid(SOMEBODY, SOMEBODY, SOMEBODY) < 0 ||
	     setresuid(SOMEBODY, SOMEBODY, SOMEBODY) < 0))
		_exit(CANNOT);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void lose_sys_admin(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
	if (syscall(SYS_capget, &head, caps) < 0)
		_exit(CANNOT);
	caps[0].effective &= ~(1u << CAP_SYS_ADMIN);
	caps[0].permitted &= ~(1u << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &head, caps) < 0)
		_exit(CANNOT);
}

/* In a fork: ret: how it went. */
static int attack(const struct row *row, const char *layers, const char *layer, char *why,
		  size_t why_size)
{
	const struct sandbox_conf conf = {.layers = layers, .memory_bytes = 256u << 20};
	const struct rlimit core = {RLIM_INFINITY, RLIM_INFINITY};
	struct sandbox *s = NULL;
	int status;
	if (row->flags & AS_SOMEBODY)
		become_somebody();
	if (row->flags & NO_MOUNTS)
		lose_sys_admin();
	if (row->flags & CORE)
		setrlimit(RLIMIT_CORE, &core);
	if (sandbox_new(&conf, &s, NULL) < 0)
		return CANNOT;
	sandbox_enter(s, SANDBOX_START);
	pid_t pid = fork();
	if (pid == 0) {
		sandbox_enter(s, SANDBOX_KEEPER);
		sandbox_enter(s, SANDBOX_ENGINE);
		if (layer != NULL && !is_up(s, layer, why, why_size))
			_exit(NO_LAYER);
		_exit(row->run() ? WORKED : FAILED);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return CANNOT;
	if (row->flags & CORE)
		return WIFSIGNALED(status) && WCOREDUMP(status) ? WORKED : FAILED;
	return WIFEXITED(status) ? WEXITSTATUS(status) : FAILED;
}

static int run(const struct row *row, const char *layers, const char *layer, char *why,
	       size_t why_size)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(attack(row, layers, layer, why, why_size));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : CANNOT;
}

static void skip_because(const struct row *row, const char *why)
{
	print_message("%s, %s: %s\n", row->layer, row->attack, why);
	skip();
}

static void the_layer_stops_it(void **state)
{
	const struct row *row = *state;
	char layers[60], base[30] = "none";
	char *why = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(why != MAP_FAILED);
	if ((row->flags & AS_ROOT) && geteuid() != 0)
		skip_because(row, "needs root");
	if ((row->flags & NOT_SANITIZED) && SANITIZED)
		skip_because(row, "not under a sanitizer");
	if (syscall(444, NULL, 0, 1) < row->landlock_abi)
		skip_because(row, "the kernel's Landlock cannot do that");
	/* namespaces without root need that of users, which is there in both runs then */
	if (geteuid() != 0 && strstr("mountns netns ipcns pidns", row->layer) != NULL)
		snprintf(base, sizeof(base), "userns");
	snprintf(layers, sizeof(layers), "%s,%s", base, row->layer);

	int without = run(row, base, NULL, why, 4096);
	if (without == FAILED && (row->flags & MAY_LACK))
		skip_because(row, "this machine does not let it work anyway");
	if (without != WORKED)
		fail_msg("%s: does not work without the layer (%d)", row->attack, without);
	int with = run(row, layers, row->layer, why, 4096);
	if (with == NO_LAYER)
		skip_because(row, why);
	if (with != FAILED)
		fail_msg("%s: works in spite of layer %s (%d)", row->attack, row->layer, with);
	munmap(why, 4096);
}

/* ---- what is no layer ---- */

/* A ring that an engine reads can never be made writable by it. */
static void the_in_ring_stays_read_only(void **state)
{
	struct tap_fds fds;
	(void)state;
	assert_int_equal(tap_make(1 << 16, 1 << 16, &fds, NULL), 0);
	const struct {
		int fd;
		bool worked;
	} cases[] = {{fds.in_fd, true}, {fds.in_ro_fd, false}};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, cases[i].fd, 0);
		assert_true(p != MAP_FAILED);
		assert_int_equal(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0, cases[i].worked);
		munmap(p, 4096);
		p = mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, cases[i].fd, 0);
		assert_int_equal(p != MAP_FAILED, cases[i].worked);
	}
	tap_fds_done(&fds);
}

static void the_probe_tries_all_layers(void **state)
{
	struct err err = {0};
	json_auto_t *report = sandbox_probe(256u << 20, &err);
	json_t *layer;
	size_t i;
	char seen[200] = "";
	(void)state;
	if (report == NULL)
		fail_msg("%s", err.text);
	json_array_foreach (report, i, layer) {
		const char *name, *kind, *why, *remedy;
		int up, core;
		assert_int_equal(json_unpack(layer, "{s:s, s:b, s:b, s:s, s:s, s:s}", "name", &name,
					     "up", &up, "core", &core, "kind", &kind, "why", &why,
					     "remedy", &remedy),
				 0);
		assert_int_equal(core, kind[0] != '\0');
		assert_int_equal(up, remedy[0] == '\0');
		if (!up)
			assert_true(why[0] != '\0');
		strcat(strcat(seen, name), " ");
	}
	assert_string_equal(seen, "user userns mountns netns ipcns pidns no_new_privs capabilities "
				  "dumpable landlock calls descriptors limits seccomp ");
	/* all of that happened elsewhere */
	assert_true(read_a_file());
	assert_true(fork_a_process());
}

/* Of two layers that promise the same, one is enough: the other is nothing that is missed. */
static void a_layer_is_core_while_no_other_one_promises_the_same(void **state)
{
	const struct {
		const char *layers;
		bool mountns, landlock; /* core */
	} cases[] = {{"none", true, true}, {"landlock", false, true}};
	(void)state;
	if (syscall(444, NULL, 0, 1) < 1)
		skip();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct sandbox_conf conf = {.layers = cases[i].layers,
						  .memory_bytes = 256u << 20};
		int fds[2];
		char said[2] = "";
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		pid_t pid = fork();
		if (pid == 0) { /* what is put up stays up */
			struct sandbox *s = NULL;
			json_t *report = NULL, *layer;
			size_t k;
			if (sandbox_new(&conf, &s, NULL) == 0) {
				sandbox_enter(s, SANDBOX_KEEPER);
				report = sandbox_report(s);
			}
			json_array_foreach (report, k, layer) {
				const char *name =
					json_string_value(json_object_get(layer, "name"));
				bool core = json_is_true(json_object_get(layer, "core"));
				if (strcmp(name, "mountns") == 0)
					said[0] = core ? 'y' : 'n';
				if (strcmp(name, "landlock") == 0)
					said[1] = core ? 'y' : 'n';
			}
			_exit(write(fds[1], said, 2) != 2);
		}
		close(fds[1]);
		assert_int_equal(read(fds[0], said, 2), 2);
		close(fds[0]);
		waitpid(pid, NULL, 0);
		assert_int_equal(said[0], cases[i].mountns ? 'y' : 'n');
		assert_int_equal(said[1], cases[i].landlock ? 'y' : 'n');
	}
}

/* What is short of memory is told before an engine is started. */
static void a_limit_without_room_is_refused(void **state)
{
	const struct sandbox_conf conf = {.layers = "limits,seccomp", .memory_bytes = 4u << 20};
	struct sandbox *s = NULL;
	struct err err = {0};
	(void)state;
	if (SANITIZED)
		skip();
	assert_int_equal(sandbox_new(&conf, &s, NULL), 0);
	assert_int_equal(sandbox_try(s, &err), ERR_LIMIT);
	assert_non_null(strstr(err.text, "memory limit of 4 MB is too low"));
	sandbox_free(s);
}

/* ---- the world ---- */

static void copy_setuid(const char *to)
{
	char buf[65536];
	ssize_t n;
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		assert_int_equal(write(fd, buf, (size_t)n), n);
	assert_int_equal(fchmod(fd, 04755), 0);
	close(from);
	close(fd);
}

static int world_make(void **state)
{
	socklen_t len = sizeof(world.tcp);
	(void)state;
	world.pid = getpid();
	snprintf(world.dir, sizeof(world.dir), P_tmpdir "/iottalk-test-XXXXXX");
	assert_non_null(mkdtemp(world.dir));
	assert_int_equal(chmod(world.dir, 0755), 0);
	snprintf(world.secret, sizeof(world.secret), "%s/secret", world.dir);
	snprintf(world.writable, sizeof(world.writable), "%s/writable", world.dir);
	snprintf(world.suid, sizeof(world.suid), "%s/suid", world.dir);
	int fd = open(world.secret, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "secret", 6), 6);
	close(fd);
	copy_setuid(world.suid);

	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	world.tcp = (struct sockaddr_in){.sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(tcp, (struct sockaddr *)&world.tcp, len), 0);
	assert_int_equal(getsockname(tcp, (struct sockaddr *)&world.tcp, &len), 0);
	assert_int_equal(listen(tcp, 100), 0);

	int local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	world.abstract.sun_family = AF_UNIX;
	world.abstract_len =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			    (size_t)snprintf(world.abstract.sun_path + 1,
					     sizeof(world.abstract.sun_path) - 1, "%s", world.dir));
	assert_int_equal(bind(local, (struct sockaddr *)&world.abstract, world.abstract_len), 0);
	assert_int_equal(listen(local, 100), 0);

	world.shm = shmget(IPC_PRIVATE, 4096, 0600 | IPC_CREAT); /* -1: its attacks are skipped */
	assert_int_equal(pipe2(world.leak, O_CLOEXEC), 0);
	assert_int_equal(dup2(world.leak[1], LEAKED), LEAKED);
	return 0;
}

static int world_end(void **state)
{
	char path[80];
	(void)state;
	if (world.shm >= 0)
		shmctl(world.shm, IPC_RMID, NULL);
	unlink(world.secret);
	unlink(world.writable);
	unlink(world.suid);
	snprintf(path, sizeof(path), "%s/core", world.dir);
	unlink(path);
	return rmdir(world.dir);
}

int main(int argc, char *argv[])
{
	/* what attacks run */
	if (argc > 1 && strcmp(argv[1], "worked") == 0)
		_exit(WORKED);
	if (argc > 1 && strcmp(argv[1], "root?") == 0)
		_exit(geteuid() == 0 ? WORKED : FAILED);

	static char names[ARRAY_LEN(rows)][100];
	struct CMUnitTest tests[ARRAY_LEN(rows) + 4] = {
		cmocka_unit_test(the_in_ring_stays_read_only),
		cmocka_unit_test(the_probe_tries_all_layers),
		cmocka_unit_test(a_layer_is_core_while_no_other_one_promises_the_same),
		cmocka_unit_test(a_limit_without_room_is_refused),
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(names[i], sizeof(names[i]), "%s: %s", rows[i].layer, rows[i].attack);
		tests[3 + i] = (struct CMUnitTest){.name = names[i],
						   .test_func = the_layer_stops_it,
						   .initial_state = (void *)&rows[i]};
	}
	return cmocka_run_group_tests_name("sandbox", tests, world_make, world_end);
}
