/* cmd_app.c - iotctl app: the registered device applications, and what an operator tells them. */
#include "common/util.h"
#include "iotctl/show.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ASK_MS      10000
#define PAGE_APPS   500
#define ID_WIDTH    36
#define AGE_BYTES   32
#define COMMAND     "app"
#define DEVICE_SLOW 2000 /* ms beyond what a device may take to answer */

/* One command line, checked. */
struct words {
	const char *app, *feature, *mode;
	bool as_json;
};

/* ---- list ---- */

/* All pages as one list. */
static int fetch_all(const struct iotctl *app, json_t *all)
{
	char after[64] = "";

	for (bool more = true; more;) {
		json_auto_t *answer = NULL;
		int rc = ask_daemon(app, COMMAND, "csm",
				    json_pack("{s:s, s:s, s:i}", "op", "apps", "after", after,
					      "limit", PAGE_APPS),
				    ASK_MS, &answer);
		json_t *page = json_object_get(answer, "apps");
		size_t n = json_array_size(page);

		if (rc != EXIT_OK)
			return rc;
		if (json_array_extend(all, page) < 0)
			return complain("app: out of memory");
		more = json_is_true(json_object_get(answer, "more")) && n > 0;
		if (n > 0)
			snprintf(after, sizeof(after), "%s",
				 text_of(json_array_get(page, n - 1), "id"));
	}
	return EXIT_OK;
}

static int app_list(const struct iotctl *app, const struct words *w)
{
	json_auto_t *all = json_array();
	int rc = fetch_all(app, all);
	char age[AGE_BYTES], idf[32], odf[32];
	json_t *one;
	size_t i;

	if (rc != EXIT_OK)
		return rc;
	if (w->as_json) {
		json_auto_t *told = json_pack("{s:O}", "apps", all);

		return print_json(told);
	}
	int name_width = width_of(all, "name", 16), model_width = width_of(all, "model", 12);

	printf("%-*s %-*s %-*s %-8s %8s %4s %4s\n", ID_WIDTH, "id", name_width, "name", model_width,
	       "model", "state", "since", "idf", "odf");
	json_array_foreach (all, i, one) {
		bool suspended = json_integer_value(json_object_get(one, "suspended")) > 0;

		printf("%-*s %-*s %-*s %-8s %8s %4s %4s%s\n", ID_WIDTH, text_of(one, "id"),
		       bytes_of(name_width, text_of(one, "name")), text_of(one, "name"),
		       bytes_of(model_width, text_of(one, "model")), text_of(one, "model"),
		       text_of(one, "state"),
		       age_of(json_real_value(json_object_get(one, "since")), age),
		       number_of(one, "idf", idf), number_of(one, "odf", odf),
		       suspended ? "  suspended" : "");
	}
	return EXIT_OK;
}

/* ---- show ---- */

static void print_time(const char *what, json_t *seconds)
{
	time_t t = (time_t)json_number_value(seconds);
	char stamp[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%SZ", &tm);
	printf("%-10s %s\n", what, stamp);
}

/* A feature as it was sent: a name, or a list that begins with the name. */
static const char *feature_name(json_t *feature)
{
	json_t *name = json_is_array(feature) ? json_array_get(feature, 0) : feature;

	return json_is_string(name) ? json_string_value(name) : "?";
}

/* The entry for a feature in a list of links or suspensions; NULL: none. */
static json_t *entry_of(const json_t *list, const char *mode, const char *feature)
{
	json_t *entry;
	size_t i;

	json_array_foreach (list, i, entry)
		if (strcmp(text_of(entry, "mode"), mode) == 0 &&
		    strcmp(text_of(entry, "feature"), feature) == 0)
			return entry;
	return NULL;
}

static void print_words(const char *before, const json_t *entry)
{
	const char *reason = json_string_value(json_object_get(entry, "reason"));

	if (entry != NULL)
		printf("%s%s%s%s", before, text_of(entry, "state"), reason != NULL ? ": " : "",
		       reason != NULL ? reason : "");
}

static void print_feature(const json_t *app, const char *mode, const char *name)
{
	json_t *link = entry_of(json_object_get(app, "links"), mode, name);
	json_t *suspension = entry_of(json_object_get(app, "suspended"), mode, name);

	printf("  %-4s %-20s", mode, name);
	print_words(" ", link);
	print_words(link != NULL ? "; " : " ", suspension);
	putchar('\n');
	if (link != NULL)
		printf("       %s\n", text_of(link, "topic"));
}

static bool declares(json_t *features, const char *name)
{
	json_t *feature;
	size_t i;

	json_array_foreach (features, i, feature)
		if (strcmp(feature_name(feature), name) == 0)
			return true;
	return false;
}

/* Those it declares, then those it does not, but graphs link. */
static void print_features(const json_t *app, const char *mode, const char *list_name)
{
	json_t *list = json_object_get(app, list_name), *one;
	size_t i;

	json_array_foreach (list, i, one)
		print_feature(app, mode, feature_name(one));
	json_array_foreach (json_object_get(app, "links"), i, one)
		if (strcmp(text_of(one, "mode"), mode) == 0 &&
		    !declares(list, text_of(one, "feature")))
			print_feature(app, mode, text_of(one, "feature"));
}

static int app_show(const struct iotctl *app, const struct words *w)
{
	json_auto_t *answer = NULL;
	int rc = ask_daemon(app, COMMAND, "csm",
			    json_pack("{s:s, s:s}", "op", "app", "app", w->app), ASK_MS, &answer);
	json_t *one = json_object_get(answer, "app"), *proto;
	size_t i;

	if (rc != EXIT_OK)
		return rc;
	if (w->as_json)
		return print_json(one);
	printf("%-10s %s\n%-10s %s\n%-10s %s\n%-10s %s\n", "id", text_of(one, "id"), "name",
	       text_of(one, "name"), "model", text_of(json_object_get(one, "profile"), "model"),
	       "revision", text_of(one, "rev"));
	print_time("registered", json_object_get(one, "register_time"));
	print_time(text_of(one, "state"), json_object_get(one, "since"));
	printf("%-10s", "protocols");
	json_array_foreach (json_object_get(one, "accept_protos"), i, proto)
		printf(" %s", json_string_value(proto));
	puts("\nfeatures");
	print_features(one, "idf", "idf_list");
	print_features(one, "odf", "odf_list");
	return EXIT_OK;
}

/* ---- suspend, resume, deregister ---- */

static int set(const struct iotctl *app, const struct words *w, const char *op, const char *wished)
{
	json_auto_t *answer = NULL;
	int patience = (int)app->settings.core.command_timeout_ms + DEVICE_SLOW;
	int rc = ask_daemon(app, COMMAND, "csm",
			    json_pack("{s:s, s:s, s:s, s:s*}", "op", op, "app", w->app, "feature",
				      w->feature, "mode", w->mode),
			    patience, &answer);
	json_t *one;
	size_t i;

	if (rc != EXIT_OK)
		return rc;
	json_array_foreach (json_object_get(answer, "features"), i, one) {
		const char *state = text_of(one, "state");

		/* what waits for an offline device is kept: that is all that can be done */
		if (strcmp(state, wished) != 0 && strcmp(state, "waiting") != 0)
			rc = EXIT_ERROR;
		if (w->as_json)
			continue;
		printf("%s %s %s", text_of(answer, "name"), text_of(one, "mode"),
		       text_of(one, "feature"));
		print_words(": ", one);
		putchar('\n');
	}
	if (w->as_json)
		print_json(answer);
	return rc;
}

static int app_suspend(const struct iotctl *app, const struct words *w)
{
	return set(app, w, "suspend", "suspended");
}

static int app_resume(const struct iotctl *app, const struct words *w)
{
	return set(app, w, "resume", "active");
}

static int app_deregister(const struct iotctl *app, const struct words *w)
{
	json_auto_t *answer = NULL;
	int rc = ask_daemon(app, COMMAND, "csm",
			    json_pack("{s:s, s:s}", "op", "deregister", "app", w->app), ASK_MS,
			    &answer);

	if (rc != EXIT_OK)
		return rc;
	if (w->as_json)
		return print_json(answer);
	printf("%s (%s) is deregistered\n", text_of(answer, "name"), text_of(answer, "id"));
	return EXIT_OK;
}

/* ---- the command line ---- */

static const struct {
	const char *name, *takes;
	int least, most; /* words after the action */
	int (*run)(const struct iotctl *app, const struct words *w);
} actions[] = {
	{"list", "no further argument", 0, 0, app_list},
	{"show", "the id, the begin of the id, or the name of one device application", 1, 1,
	 app_show},
	{"suspend", "a device application, one of its features, and idf or odf if it has both", 2,
	 3, app_suspend},
	{"resume", "a device application, one of its features, and idf or odf if it has both", 2, 3,
	 app_resume},
	{"deregister", "the id, the begin of the id, or the name of one device application", 1, 1,
	 app_deregister},
};

int cmd_app(struct iotctl *app, const struct options *o)
{
	struct words w = {.as_json = options_has(o, "json")};
	int argc = o->argc;
	char *const *argv = o->argv;

	if (argc == 0)
		return misused("app: list, show, suspend, resume or deregister?");
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (strcmp(argv[0], actions[i].name) != 0)
			continue;
		if (argc - 1 < actions[i].least || argc - 1 > actions[i].most)
			return misused("app: %s takes %s", argv[0], actions[i].takes);
		w.app = argc > 1 ? argv[1] : NULL;
		w.feature = argc > 2 ? argv[2] : NULL;
		w.mode = argc > 3 ? argv[3] : NULL;
		if (w.mode != NULL && strcmp(w.mode, "idf") != 0 && strcmp(w.mode, "odf") != 0)
			return misused("app: '%s' is neither idf nor odf", w.mode);
		if (iotctl_settings(app) < 0 || iotctl_look(app) < 0)
			return EXIT_ERROR;
		return actions[i].run(app, &w);
	}
	return misused("app: '%s' is none of list, show, suspend, resume, deregister", argv[0]);
}
