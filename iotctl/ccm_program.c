#include "iotctl/ccm_program.h"

#include "common/util.h"
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* ret: 0 or an errno */
static int spawn(const char *program, char *const argv[], bool quiet, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc != 0)
		return rc;
	if (quiet)
		rc = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
						      O_WRONLY, 0);
	if (rc == 0)
		rc = posix_spawn(ret_pid, program, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

int ccm_program(const struct iotctl *app, const char *command, const char *mode,
		char *const words[], int n, bool quiet)
{
	CLEANUP(freep)
	char *program = NULL;
	char *argv[CCM_WORDS_MAX + 6];
	int argc = 0, status;
	pid_t pid;

	if (n > CCM_WORDS_MAX)
		return misused("%s: more than %d words", command, CCM_WORDS_MAX);
	if (asprintf(&program, "%s/ccm", app->program_dir) < 0) {
		program = NULL;
		return complain("%s: out of memory", command);
	}
	argv[argc++] = program;
	argv[argc++] = (char *)mode;
	if (app->conf_path != NULL) {
		argv[argc++] = "-c";
		argv[argc++] = app->conf_path;
	}
	for (int i = 0; i < n; i++)
		argv[argc++] = words[i];
	argv[argc] = NULL;
	fflush(stdout);
	int rc = spawn(program, argv, quiet, &pid);

	if (rc != 0)
		return complain("%s: %s: %s", command, program, strerror(rc));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return complain("%s: %s", command, strerror(errno));
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return complain("%s: ccm was ended by signal %d (%s)", command, WTERMSIG(status),
			strsignal(WTERMSIG(status)));
}
