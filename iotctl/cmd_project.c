/* cmd_project.c - iotctl project, function: what ccm stores, and the projects that run. */
#include "common/util.h"
#include "iotctl/act.h"
#include "iotctl/files.h"
#include "iotctl/show.h"
#include <stdio.h>
#include <string.h>

#define ASK_MS 30000

/* Ask ccm. request: taken. ret: EXIT_OK and *ret_answer, or told already. */
static int ask(const struct iotctl *app, const char *command, json_t *request, json_t **ret_answer)
{
	return ask_daemon(app, command, "ccm", request, ASK_MS, ret_answer);
}

static int print_list_json(const char *list, json_t *rows)
{
	json_auto_t *all = json_pack("{s:O}", list, rows);

	return print_json(all);
}

/* ---- projects ---- */

static int project_list(const struct iotctl *app, const struct options *o)
{
	json_auto_t *rows = NULL;
	char id[32], objects[32], bound[32], applications[32];
	json_t *p;
	size_t i;
	int rc = ask_ccm_all(app, "project", "projects", "p_id", &rows);

	if (rc != EXIT_OK)
		return rc;
	if (options_has(o, "json"))
		return print_list_json("projects", rows);
	show_plain(rows);
	int name = width_of(rows, "p_name", 16), owner = width_of(rows, "owner", 10);

	printf("%6s %-*s %-*s %-6s %-10s %8s %6s %12s\n", "number", name, "project", owner, "owner",
	       "state", "simulation", "objects", "bound", "applications");
	json_array_foreach (rows, i, p)
		printf("%6s %-*s %-*s %-6s %-10s %8s %6s %12s\n", number_of(p, "p_id", id),
		       bytes_of(name, text_of(p, "p_name")), text_of(p, "p_name"),
		       bytes_of(owner, text_of(p, "owner")), text_of(p, "owner"),
		       text_of(p, "status"), text_of(p, "sim"), number_of(p, "objects", objects),
		       number_of(p, "bound", bound), number_of(p, "applications", applications));
	return EXIT_OK;
}

/* A feature whose users know it by another name. */
static bool is_renamed(const json_t *feature)
{
	return strcmp(text_of(feature, "df_name"), text_of(feature, "alias_name")) != 0;
}

static void print_object(json_t *object)
{
	char id[32];
	json_t *feature;
	size_t i;

	printf("  %-6s %-20s ", number_of(object, "do_id", id), text_of(object, "dm_name"));
	if (json_is_string(json_object_get(object, "mac_addr")))
		printf("%s, %s, %s%s\n", text_of(object, "d_name"), text_of(object, "mac_addr"),
		       text_of(object, "status"),
		       json_is_true(json_object_get(object, "is_sim")) ? ", simulated" : "");
	else
		puts("no device");
	json_array_foreach (json_object_get(object, "features"), i, feature)
		printf("         %-7s %s%s%s\n", text_of(feature, "df_type"),
		       text_of(feature, "df_name"), is_renamed(feature) ? " as " : "",
		       is_renamed(feature) ? text_of(feature, "alias_name") : "");
}

static void print_application(json_t *application)
{
	char id[32], object[32];
	json_t *link;
	size_t i;

	printf("  %-6s %s", number_of(application, "na_id", id), text_of(application, "na_name"));
	if (json_is_string(json_object_get(application, "join")))
		printf(", joined by %s", text_of(application, "join"));
	putchar('\n');
	json_array_foreach (json_object_get(application, "links"), i, link) {
		printf("         %-7s %s of %s (object %s)", text_of(link, "df_type"),
		       text_of(link, "alias_name"), text_of(link, "dm_name"),
		       number_of(link, "do_id", object));
		if (json_is_string(json_object_get(link, "functions")))
			printf(" through %s", text_of(link, "functions"));
		putchar('\n');
	}
}

static int project_show(const struct iotctl *app, const struct options *o)
{
	json_auto_t *answer = NULL;
	json_t *row;
	char id[32];
	size_t i;
	int rc = ask(app, "project",
		     json_pack("{s:s, s:s}", "op", "project", "project", o->argv[1]), &answer);
	json_t *p = json_object_get(answer, "project");

	if (rc != EXIT_OK)
		return rc;
	if (options_has(o, "json"))
		return print_json(p);
	show_plain(p);
	printf("%-12s %s (number %s)\n%-12s %s\n", "project", text_of(p, "p_name"),
	       number_of(p, "p_id", id), "owner", text_of(p, "owner"));
	printf("%-12s %s\n%-12s %s\n", "state", text_of(p, "status"), "simulation",
	       text_of(p, "sim"));
	puts("objects");
	json_array_foreach (json_object_get(p, "objects"), i, row)
		print_object(row);
	puts("applications");
	json_array_foreach (json_object_get(p, "applications"), i, row)
		print_application(row);
	return EXIT_OK;
}

static int project_switch(const struct iotctl *app, const struct options *o)
{
	json_auto_t *answer = NULL;
	int rc = ask(app, "project",
		     json_pack("{s:s, s:s, s:s}", "op", "project-switch", "project", o->argv[1],
			       "status", o->argv[0]),
		     &answer);

	if (rc != EXIT_OK)
		return rc;
	json_object_del(answer, "state");
	if (options_has(o, "json"))
		return print_json(answer);
	printf("%s is %s\n", o->argv[1], text_of(answer, "status"));
	return EXIT_OK;
}

/* ---- export, import ---- */

/* ret: enum exit_code */
static int save(const char *path, bool force, json_t *document)
{
	CLEANUP(freep)
	char *text = json_dumps(document, JSON_INDENT(2) | JSON_ENCODE_ANY);
	struct err err = {0};

	if (text == NULL)
		return complain("project: out of memory");
	if (!force && access(path, F_OK) == 0)
		return complain("project: '%s' exists already; --force overwrites it", path);
	if (files_save(path, text, strlen(text), &err) < 0)
		return complain("project: %s", err.text);
	printf("%s\n", path);
	return EXIT_OK;
}

static int project_export(const struct iotctl *app, const struct options *o)
{
	json_auto_t *answer = NULL;
	int rc = ask(app, "project",
		     json_pack("{s:s, s:s, s:b}", "op", "project-export", "project", o->argv[1],
			       "functions", options_has(o, "functions")),
		     &answer);
	json_t *document = json_object_get(answer, "document");

	if (rc != EXIT_OK)
		return rc;
	return o->argc == 2 || strcmp(o->argv[2], "-") == 0
		       ? print_json(document)
		       : save(o->argv[2], options_has(o, "force"), document);
}

/* ret: a new document, or NULL (told) */
static json_t *read_document(const char *path)
{
	json_error_t why;
	FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");

	if (in == NULL) {
		complain("project: %s: %s", path, strerror(errno));
		return NULL;
	}
	json_t *document = json_loadf(in, 0, &why);

	if (document == NULL && why.line > 0)
		complain("project: %s: line %d, column %d: %s", path, why.line, why.column,
			 why.text);
	else if (document == NULL)
		complain("project: %s: %s", path, why.text);
	if (in != stdin)
		fclose(in);
	return document;
}

static int project_import(const struct iotctl *app, const struct options *o)
{
	const char *path = o->argv[1], *user = options_value(o, "user");
	json_auto_t *answer = NULL;

	if (user == NULL)
		return misused("project: import needs --user NAME: whose does it become?");
	json_auto_t *document = read_document(path);

	if (document == NULL)
		return EXIT_ERROR;
	int rc = ask(app, "project",
		     json_pack("{s:s, s:s, s:s*, s:O}", "op", "project-import", "user", user,
			       "name", options_value(o, "name"), "document", document),
		     &answer);
	char number[32];

	if (rc != EXIT_OK)
		return rc;
	json_object_del(answer, "state");
	if (options_has(o, "json"))
		return print_json(answer);
	printf("%s is project %s of %s; it is off, and no device is bound\n",
	       text_of(answer, "p_name"), number_of(answer, "p_id", number), user);
	return EXIT_OK;
}

/* ---- functions ---- */

static int function_list(const struct iotctl *app, const struct options *o)
{
	json_auto_t *rows = NULL;
	json_t *f;
	char id[32], versions[32], links[32], joins[32];
	size_t i;
	int rc = ask_ccm_all(app, "function", "functions", "fn_id", &rows);

	if (rc != EXIT_OK)
		return rc;
	if (options_has(o, "json"))
		return print_list_json("functions", rows);
	show_plain(rows);
	int name = width_of(rows, "fn_name", 16);

	printf("%6s %-*s %8s %6s %6s  %s\n", "number", name, "function", "versions", "links",
	       "joins", "kind");
	json_array_foreach (rows, i, f)
		printf("%6s %-*s %8s %6s %6s  %s\n", number_of(f, "fn_id", id),
		       bytes_of(name, text_of(f, "fn_name")), text_of(f, "fn_name"),
		       number_of(f, "versions", versions), number_of(f, "links", links),
		       number_of(f, "joins", joins),
		       json_is_true(json_object_get(f, "is_protect")) ? "protected" : "-");
	return EXIT_OK;
}

static int function_show(const struct iotctl *app, const struct options *o)
{
	json_auto_t *answer = NULL;
	json_t *v;
	char id[32];
	size_t i;
	int rc = ask(app, "function",
		     json_pack("{s:s, s:s}", "op", "function", "function", o->argv[1]), &answer);
	json_t *f = json_object_get(answer, "function");

	if (rc != EXIT_OK)
		return rc;
	if (options_has(o, "json"))
		return print_json(f);
	show_plain(f);
	printf("%-12s %s (number %s)%s\n", "function", text_of(f, "fn_name"),
	       number_of(f, "fn_id", id),
	       json_is_true(json_object_get(f, "is_protect")) ? ", protected" : "");
	json_array_foreach (json_object_get(f, "versions"), i, v) {
		const char *code = text_or_empty(v, "code");
		size_t len = strlen(code);

		if (json_is_string(json_object_get(v, "owner")))
			printf("\n# of %s, %s\n", text_of(v, "owner"), text_of(v, "date"));
		else
			printf("\n# of everybody, %s\n", text_of(v, "date"));
		fputs(code, stdout);
		if (len > 0 && code[len - 1] != '\n')
			putchar('\n');
	}
	return EXIT_OK;
}

/* ---- which ---- */

int cmd_project(struct iotctl *app, const struct options *o)
{
	static const struct act acts[] = {
		{"list", 0, 0, "no further argument", project_list, NULL},
		{"show", 1, 1, "one project", project_show, NULL},
		{"on", 1, 1, "one project", project_switch, NULL},
		{"off", 1, 1, "one project", project_switch, NULL},
		{"export", 1, 2, "one project, and perhaps a file", project_export,
		 "functions force "},
		{"import", 1, 1, "one file (-: standard input)", project_import, "user name "},
	};

	return run_act(app, "project", acts, ARRAY_LEN(acts), o);
}

int cmd_function(struct iotctl *app, const struct options *o)
{
	static const struct act acts[] = {
		{"list", 0, 0, "no further argument", function_list, NULL},
		{"show", 1, 1, "one function", function_show, NULL},
	};

	return run_act(app, "function", acts, ARRAY_LEN(acts), o);
}
