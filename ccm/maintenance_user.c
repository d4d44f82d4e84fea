#include "ccm/maintenance_user.h"

#include "ccm/ccm.h"
#include "ccm/fields.h"
#include "ccm/ops/account.h"
#include "ccm/query.h"
#include "ccm/web/passwords.h"
#include "common/util.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>

#define PASSWORD_MAX 255 /* characters, as in the API */

const struct option_row user_mode_options[] = {
	MAINTENANCE_OPTIONS,
	{"admin", 0, NULL, "add: as an administrator"},
	{0},
};

/* ---- the password ---- */

static int read_line(char *line, size_t size, struct err *err)
{
	if (fgets(line, (int)size, stdin) == NULL)
		return err_set(err, ERR_INVAL, "no password was given");
	size_t len = strcspn(line, "\r\n");
	if (line[len] == '\0' && !feof(stdin))
		return err_set(err, ERR_INVAL, "the password is longer than %d characters", PASSWORD_MAX);
	line[len] = '\0';
	return 0;
}

static int ask(const char *prompt, char *line, size_t size, struct err *err)
{
	struct termios before, silent;
	fputs(prompt, stderr);
	if (tcgetattr(STDIN_FILENO, &before) < 0)
		return err_sys(err, "terminal");
	silent = before;
	silent.c_lflag &= (tcflag_t)~ECHO;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
	int rc = read_line(line, size, err);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
	fputc('\n', stderr);
	return rc;
}

/* From the terminal, twice; from anything else one line. */
static int read_password(char *password, size_t size, struct err *err)
{
	char again[4 * PASSWORD_MAX + 2] = "";
	int rc;
	if (!isatty(STDIN_FILENO)) {
		rc = read_line(password, size, err);
	} else {
		rc = ask("Password: ", password, size, err);
		if (rc == 0)
			rc = ask("The same again: ", again, sizeof(again), err);
		if (rc == 0 && strcmp(password, again) != 0)
			rc = err_set(err, ERR_INVAL, "these are two different passwords");
		sodium_memzero(again, sizeof(again));
	}
	if (rc < 0)
		return rc;
	size_t n = 0;
	for (const char *c = password; *c != '\0'; c++)
		n += ((unsigned char)*c & 0xc0) != 0x80;
	if (n == 0 || n > PASSWORD_MAX)
		return err_set(err, ERR_INVAL, "a password has 1 to %d characters", PASSWORD_MAX);
	/* the API's are JSON: others could never log in */
	json_auto_t *text = json_string(password);
	return text != NULL ? 0 : err_set(err, ERR_INVAL, "the password is not UTF-8");
}

static int read_hash(char hash[static PASSWORD_HASH_MAX], struct err *err)
{
	char password[4 * PASSWORD_MAX + 2] = "";
	int rc = read_password(password, sizeof(password), err);
	if (rc == 0 && (sodium_init() < 0 || password_hash_now(password, hash) < 0))
		rc = err_set(err, ERR_NOMEM, "hashing the password");
	sodium_memzero(password, sizeof(password));
	return rc;
}

/* ---- commands ---- */

struct change {
	const char *name;
	bool is_admin;
	char hash[PASSWORD_HASH_MAX];
};

static int check_name(const char *name, struct err *err)
{
	json_auto_t *args = json_pack("{s:s}", "username", name), *checked = NULL;
	static const struct field fields[] = {{.name = "username", .type = FIELD_STR}, {0}};
	if (args == NULL)
		return err_set(err, ERR_INVAL, "the name is not UTF-8");
	int rc = fields_check(fields, args, false, &checked, err);
	return rc == 0 ? account_check_name(name, err) : rc;
}

static int find(struct db *db, const char *name, int64_t *ret_u_id, struct err *err)
{
	return q_int(db, err, ret_u_id, "SELECT u_id FROM User WHERE u_name = $1 AND is_deleted = 0", DB_V_TEXT(name));
}

static int add(struct maintenance *m, const struct change *change, struct err *err)
{
	struct utc_text now = utc_text(time(NULL));
	int64_t u_id;
	int rc = find(m->db, change->name, &u_id, err);
	if (rc != 0)
		return rc < 0 ? rc : err_set(err, ERR_EXIST, "user '%s' exists already", change->name);
	rc = q_exec(m->db, err, "INSERT INTO User (u_name, passwd, is_admin, created_at, updated_at) VALUES ($1, $2, $3, $4, $5)",
		    DB_V_TEXT(change->name), DB_V_TEXT(change->hash), DB_V_INT(change->is_admin), DB_V_TEXT(now.s), DB_V_TEXT(now.s));
	return rc;
}

static int set_password(struct maintenance *m, const struct change *change, struct err *err)
{
	struct utc_text now = utc_text(time(NULL));
	int64_t u_id;
	int rc = find(m->db, change->name, &u_id, err);
	if (rc <= 0)
		return rc < 0 ? rc : err_set(err, ERR_NOENT, "there is no user '%s'", change->name);
	rc = q_exec(m->db, err, "UPDATE User SET passwd = $1, updated_at = $2 WHERE u_id = $3", DB_V_TEXT(change->hash), DB_V_TEXT(now.s),
		    DB_V_INT(u_id));
	return rc < 0 ? rc : q_exec(m->db, err, "DELETE FROM Session WHERE u_id = $1", DB_V_INT(u_id));
}

static int on_user(void *arg, const struct db_value *v, size_t n)
{
	(void)arg, (void)n;
	printf("%-6" PRId64 " %-6s %s\n", v[0].num, v[1].num != 0 ? "admin" : "user", v[2].text);
	return 0;
}

static int list(struct maintenance *m, struct err *err)
{
	printf("%-6s %-6s %s\n", "ID", "ROLE", "NAME");
	return db_run(m->db, err, on_user, NULL, "SELECT u_id, is_admin, u_name FROM User WHERE is_deleted = 0 ORDER BY u_id");
}

/* The password is read and hashed before the store is locked. */
static int change_user(struct maintenance *m, struct err *err)
{
	struct change change = {.name = m->given.argv[1], .is_admin = options_has(&m->given, "admin")};
	bool adds = strcmp(m->given.argv[0], "add") == 0;
	int rc = check_name(change.name, err);
	if (rc == 0)
		rc = read_hash(change.hash, err);
	if (rc == 0)
		rc = db_run(m->db, err, NULL, NULL, "BEGIN IMMEDIATE");
	if (rc < 0)
		return rc;
	rc = adds ? add(m, &change, err) : set_password(m, &change, err);
	if (rc == 0)
		rc = db_run(m->db, err, NULL, NULL, "COMMIT");
	if (rc < 0 && db_in_transaction(m->db))
		db_run(m->db, NULL, NULL, NULL, "ROLLBACK");
	if (rc == 0)
		printf(adds ? "user %s added\n" : "password of %s changed; its logins have ended\n", change.name);
	return rc;
}

int user_mode(struct maintenance *m, struct err *err)
{
	static const struct {
		const char *name;
		int operands;
		maintenance_fn *run;
		bool takes_admin;
	} commands[] = {{"add", 2, change_user, true}, {"password", 2, change_user, false}, {"list", 1, list, false}};
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(m->given.argv[0], commands[i].name) == 0 && m->given.argc == commands[i].operands &&
		    (commands[i].takes_admin || !options_has(&m->given, "admin")))
			return commands[i].run(m, err);
	m->misused = true;
	return err_set(err, ERR_INVAL, "it is `ccm user add [--admin] NAME`, `ccm user password NAME` or `ccm user list`");
}
