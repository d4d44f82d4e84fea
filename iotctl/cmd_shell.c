/* cmd_shell.c - iotctl shell: the commands without typing iotctl, with history and completion, and
 * questions to the stores in SQL. */
#include "common/util.h"
#include "iotctl/commands.h"
#include "iotctl/complete.h"
#include "iotctl/query.h"
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES 1000
#define WORDS_MAX     64
#define LIST_COLUMNS  78

struct shell {
	struct iotctl *app;
	EditLine *el; /* NULL: lines come from a file or a pipe */
	History *history;
	Tokenizer *tokens;
	char *history_path;
	sigset_t waiting; /* the signals' mask while a key is awaited */
	int status;       /* of the last command */
};

/* ---- what only the shell has ---- */

/* line: a statement, perhaps with the name of a store before it; no statement begins with one. */
static int run_sql(struct iotctl *app, const char *line)
{
	enum schema_store which = SCHEMA_CSM;
	struct err err = {0};

	line += strspn(line, " \t");
	for (int i = 0; i < SCHEMA_STORES; i++) {
		size_t len = strlen(schema_name(i));

		if (strncmp(line, schema_name(i), len) == 0 &&
		    (line[len] == ' ' || line[len] == '\t' || line[len] == '\0')) {
			which = i;
			line += len;
			break;
		}
	}

	if (iotctl_settings(app) < 0)
		return EXIT_ERROR;
	return query_print(&app->settings, which, line, stdout, &err) < 0
		       ? complain("sql: %s", err.text)
		       : EXIT_OK;
}

static void print_help(void)
{
	for (size_t i = 0; i < n_commands; i++)
		if (commands[i].help != NULL && commands[i].run != NULL)
			printf("  %-12s %s\n", commands[i].name, commands[i].help);
	puts("  sql          ask csm's store: sql SELECT name, online FROM device\n"
	     "               or ccm's: sql ccm SELECT p_name, status FROM Project\n"
	     "               or the devices': sql devices SELECT topic, body FROM state\n"
	     "  exit         leave (or Ctrl-D)\n"
	     "COMMAND --help says more; Tab completes.");
}

/* ---- Ctrl-C ---- */

/* On a terminal it is blocked, but while a key is awaited: one that comes in between is not missed.
 */
static void let_interrupts(int how, sigset_t *ret_before)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(how, &set, ret_before);
}

/* ---- a line ---- */

/* In a process of its own: Ctrl-C ends the command, not the shell, and nothing of it stays. */
static int run_apart(struct iotctl *app, int n, char *words[])
{
	int status;

	fflush(stdout);
	fflush(stderr);
	pid_t pid = fork();

	if (pid < 0)
		return complain("shell: %s", strerror(errno));
	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		let_interrupts(SIG_UNBLOCK, NULL);
		int rc = command_run(app, n, words);

		fflush(stdout);
		_exit(rc);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		putchar('\n');
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_ERROR;
}

/* ret: false to leave. */
static bool run_line(struct shell *sh, const char *line)
{
	int n;
	const char **words;

	line += strspn(line, " \t\r\n");
	if (*line == '\0' || *line == '#')
		return true;
	/* SQL has quotes of its own */
	if (strncmp(line, "sql", 3) == 0 && (line[3] == ' ' || line[3] == '\t')) {
		sh->status = run_sql(sh->app, line + 4);
		return true;
	}
	tok_reset(sh->tokens);
	bool whole = tok_str(sh->tokens, line, &n, &words) == 0;

	if (!whole || n > WORDS_MAX) {
		sh->status =
			misused("shell: %s", whole ? "too many words" : "a quote is not closed");
		return true;
	}
	if (n == 0)
		return true;
	if (strcmp(words[0], "exit") == 0 || strcmp(words[0], "quit") == 0)
		return false;
	if (strcmp(words[0], "help") == 0) {
		print_help();
		return true;
	}
	const struct command *c = command_find(words[0]);

	/* what is not listed is for programs, and would take the terminal */
	if (c != NULL && (c->help == NULL || c->run == cmd_shell)) {
		sh->status = misused("shell: '%s' is no command of the shell", words[0]);
		return true;
	}
	char *own[WORDS_MAX + 1] = {NULL};

	for (int i = 0; i < n; i++)
		own[i] = strdup(words[i]);
	sh->status = run_apart(sh->app, n, own);
	for (int i = 0; i < n; i++)
		free(own[i]);
	return true;
}

/* ---- completion ---- */

struct offers {
	char **words;
	size_t n;
};

static void keep_offer(void *arg, const char *word)
{
	struct offers *o = arg;
	char **more = realloc(o->words, (o->n + 1) * sizeof(*more));

	if (more == NULL)
		return;
	o->words = more;
	o->words[o->n] = strdup(word);
	o->n += o->words[o->n] != NULL;
}

static size_t common_begin(const struct offers *o)
{
	size_t len = strlen(o->words[0]);

	for (size_t i = 1; i < o->n; i++) {
		size_t same = 0;

		while (same < len && o->words[i][same] == o->words[0][same])
			same++;
		len = same;
	}
	return len;
}

static void list_offers(const struct offers *o)
{
	int at = 0;

	putchar('\n');
	for (size_t i = 0; i < o->n; i++) {
		if (at > 0 && at + 2 + (int)strlen(o->words[i]) > LIST_COLUMNS) {
			putchar('\n');
			at = 0;
		}
		at += printf("%s%s", at > 0 ? "  " : "", o->words[i]);
	}
	putchar('\n');
	fflush(stdout);
}

static void offer_own_words(const char *begin, struct offers *o)
{
	static const char *const own[] = {"exit", "help", "sql"};

	for (size_t i = 0; i < ARRAY_LEN(own); i++)
		if (strncmp(own[i], begin, strlen(begin)) == 0)
			keep_offer(o, own[i]);
}

static unsigned char complete_word(EditLine *el, int ch)
{
	struct shell *sh = NULL;
	struct offers offers = {0};
	const char **words;
	int n = 0, cursor = 0, offset = 0;
	char *typed[WORDS_MAX + 1];
	unsigned char rc = CC_ERROR;

	(void)ch;
	el_get(el, EL_CLIENTDATA, &sh);
	tok_reset(sh->tokens);
	if (tok_line(sh->tokens, el_line(el), &n, &words, &cursor, &offset) != 0 ||
	    cursor >= WORDS_MAX)
		return CC_ERROR;
	for (int i = 0; i <= cursor; i++)
		typed[i] = strdup(i < n ? words[i] : "");
	if (typed[cursor] != NULL)
		typed[cursor][offset] = '\0';
	complete(sh->app, cursor + 1, typed, keep_offer, &offers);
	if (cursor == 0)
		offer_own_words(typed[0], &offers);
	if (offers.n > 0) {
		size_t len = common_begin(&offers);
		bool one = offers.n == 1;
		char *rest = NULL;

		if (len > (size_t)offset || one) {
			if (asprintf(&rest, "%.*s%s", (int)len - offset, offers.words[0] + offset,
				     one ? " " : "") < 0)
				rest = NULL;
			rc = rest != NULL && el_insertstr(el, rest) == 0 ? CC_REFRESH : CC_ERROR;
			free(rest);
		} else {
			list_offers(&offers);
			rc = CC_REDISPLAY;
		}
	}
	for (int i = 0; i <= cursor; i++)
		free(typed[i]);
	for (size_t i = 0; i < offers.n; i++)
		free(offers.words[i]);
	free(offers.words);
	return rc;
}

/* ---- lines ---- */

static char *prompt(EditLine *el)
{
	static char text[] = "iotctl> ";

	(void)el;
	return text;
}

/* For libedit, whose own waits anew when it is interrupted. ret: 1, 0 (end), or -1 with errno. */
static int read_key(EditLine *el, wchar_t *ret)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	mbstate_t state = {0};
	struct shell *sh;
	char byte;

	el_get(el, EL_CLIENTDATA, &sh);
	for (;;) {
		if (ppoll(&p, 1, NULL, &sh->waiting) < 0)
			return -1;
		ssize_t n = read(STDIN_FILENO, &byte, 1);

		if (n <= 0)
			return (int)n;
		size_t used = mbrtowc(ret, &byte, 1, &state);

		if (used == 0 || used == 1)
			return 1;
		if (used != (size_t)-2) /* half a character: the rest of it comes */
			state = (mbstate_t){0};
	}
}

static int edit_start(struct shell *sh)
{
	HistEvent event;

	sh->history = history_init();
	sh->el = el_init("iotctl", stdin, stdout, stderr);
	if (sh->history == NULL || sh->el == NULL)
		return complain("shell: out of memory");
	history(sh->history, &event, H_SETSIZE, HISTORY_LINES);
	history(sh->history, &event, H_SETUNIQUE, 1);
	/* in userdir, if there is one: else there is nothing to remember for */
	sh->history_path = settings_path(&sh->app->settings, "shell_history");
	if (sh->history_path != NULL)
		history(sh->history, &event, H_LOAD, sh->history_path);
	el_set(sh->el, EL_CLIENTDATA, sh);
	el_set(sh->el, EL_PROMPT, prompt);
	el_set(sh->el, EL_EDITOR, "emacs");
	el_set(sh->el, EL_SIGNAL, 0);
	el_set(sh->el, EL_GETCFN, read_key);
	el_set(sh->el, EL_HIST, history, sh->history);
	el_set(sh->el, EL_ADDFN, "iotctl-complete", "complete the word", complete_word);
	el_set(sh->el, EL_BIND, "\t", "iotctl-complete", NULL);
	el_set(sh->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_source(sh->el, NULL); /* the person's own ~/.editrc */
	return EXIT_OK;
}

/* At once: a terminal that is closed ends us without a word. */
static void remember(struct shell *sh, const char *line)
{
	HistEvent event;

	history(sh->history, &event, H_ENTER, line);
	if (sh->history_path == NULL)
		return;
	mode_t before = umask(077); /* what was typed is nobody else's business */

	history(sh->history, &event, H_SAVE, sh->history_path);
	umask(before);
}

static void edit_stop(struct shell *sh)
{
	if (sh->el != NULL)
		el_end(sh->el);
	if (sh->history != NULL)
		history_end(sh->history);
	free(sh->history_path);
}

static void interrupted(int signo)
{
	(void)signo; /* the line that was being typed is given up, the shell is not */
}

static void read_terminal(struct shell *sh)
{
	const struct sigaction act = {.sa_handler = interrupted};
	const char *line;
	int n;

	sigaction(SIGINT, &act, NULL);
	let_interrupts(SIG_BLOCK, &sh->waiting);
	for (;;) {
		errno = 0;
		line = el_gets(sh->el, &n);
		if (line == NULL && errno == EINTR) {
			putchar('\n');
			el_reset(sh->el);
			continue;
		}
		if (line == NULL || n <= 0) {
			putchar('\n');
			return;
		}
		if (line[strspn(line, " \t\r\n")] != '\0')
			remember(sh, line);
		if (!run_line(sh, line))
			return;
	}
}

static void read_file(struct shell *sh, FILE *in)
{
	CLEANUP(freep)
	char *line = NULL;
	size_t cap = 0;

	while (getline(&line, &cap, in) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (!run_line(sh, line))
			return;
	}
}

int cmd_shell(struct iotctl *app, const struct options *o)
{
	struct shell sh = {.app = app};

	if (o->argc > 0)
		return misused("shell: unexpected argument '%s'", o->argv[0]);
	if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
		return EXIT_ERROR;
	setlocale(LC_CTYPE, ""); /* what is typed may be of any script */
	sh.tokens = tok_init(NULL);
	if (sh.tokens == NULL)
		return complain("shell: out of memory");
	bool terminal = isatty(STDIN_FILENO) == 1;
	int rc = terminal ? edit_start(&sh) : EXIT_OK;

	if (rc == EXIT_OK && terminal)
		read_terminal(&sh);
	else if (rc == EXIT_OK)
		read_file(&sh, stdin);
	if (terminal)
		edit_stop(&sh);
	tok_end(sh.tokens);
	/* a script wants to know; who typed has seen it */
	return rc != EXIT_OK || terminal ? rc : sh.status;
}
