/* view_store.c - what a view knows beyond the life of its process: that its device application is
 * registered, with which login, and which IDFs are wanted whose values are kept on disk. A failure
 * is logged here: the view goes on without, and the next process has to be told anew.
 *
 * Kept states of our own hold it: view/<id>/<feature>/ and view/<id>/@login/.
 */
#include "agent/device/store.h"
#include "agent/device/view_int.h"
#include "common/log.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PREFIX     "view/"
#define PREFIX_LEN 5
#define LOGIN      "@login" /* no feature has that name */
#define KEY_MAX    (PREFIX_LEN + UUID_LEN + VIEW_FEATURE_MAX + 3)

/* name "": the beginning of all keys of the device */
static void make_key(char *key, const char *id, const char *name)
{
	snprintf(key, KEY_MAX, PREFIX "%s/%s%s", id, name, name[0] != '\0' ? "/" : "");
}

static void complain(const char *id, int rc, const struct err *err)
{
	if (rc < 0 && log_allowed("view.store_failed", id))
		log_warn("view.store_failed", KV("id", id), KV("why", err->text));
}

static int put(struct store *s, const char *key, const char *body, struct err *err)
{
	int rc = store_begin(s, err);

	/* ours is the newest, whatever the clock says */
	if (rc == 0)
		rc = store_drop_states(s, key, err);
	if (rc == 0 && body != NULL)
		rc = store_keep_state(s, key, body, (int64_t)time(NULL) * 1000000, err);
	return rc;
}

void view_store_registration(struct view *v)
{
	CLEANUP(freep)
	char *device = NULL;
	struct err err = {0};
	int rc = ERR_NOMEM;

	if (asprintf(&device, "%s/%s", v->conf.type, v->conf.name) < 0) {
		device = NULL;
		err_set(&err, rc, "registration");
	} else {
		rc = store_begin(v->conf.store, &err);
	}
	if (rc == 0)
		rc = store_add_registration(v->conf.store, v->id.s, device, &err);
	complain(v->id.s, rc, &err);
}

void view_store_wanted(struct view *v, struct idf *idf)
{
	char key[KEY_MAX];
	struct err err = {0};
	bool wanted = (*idf->bits & IDF_WANTED) != 0, stored = (*idf->bits & IDF_STORED) != 0;

	if (wanted == stored || (wanted && idf->keep == KEEP_NONE))
		return;
	make_key(key, v->id.s, idf->name);
	int rc = put(v->conf.store, key, wanted ? "true" : NULL, &err);
	if (rc >= 0)
		*idf->bits ^= IDF_STORED;
	complain(v->id.s, rc, &err);
}

static int on_wanted(void *arg, const char *topic, const char *body, int64_t changed_us)
{
	struct view *v = arg;
	char feature[VIEW_FEATURE_MAX];
	const char *name = topic + PREFIX_LEN + UUID_LEN + 1;
	size_t len = strlen(name);

	(void)body, (void)changed_us;
	if (len > 1 && len <= sizeof(feature)) {
		snprintf(feature, sizeof(feature), "%.*s", (int)len - 1, name);
		view_wanted_stored(v, feature);
	}
	return 0;
}

int view_store_load_wanted(struct view *v, struct err *err)
{
	char key[KEY_MAX];

	make_key(key, v->id.s, "");
	return store_each_state(v->conf.store, key, on_wanted, v, err);
}

void view_store_login(struct store *s, const char *id, const char *username, const char *password)
{
	char key[KEY_MAX];
	struct err err = {0};

	if (username == NULL || password == NULL)
		return;
	json_auto_t *login = json_pack("{s:s, s:s}", "username", username, "password", password);
	CLEANUP(freep)
	char *body = shortage_dumps(login);
	make_key(key, id, LOGIN);
	int rc = body != NULL ? put(s, key, body, &err) : err_set(&err, ERR_NOMEM, "login");
	complain(id, rc, &err);
}

static int on_login(void *arg, const char *topic, const char *body, int64_t changed_us)
{
	struct view_login *login = arg;

	(void)topic, (void)changed_us;
	json_decref(login->doc);
	login->doc = json_loads(body, 0, NULL);
	return 0;
}

void view_store_load_login(struct store *s, const char *id, struct view_login *ret)
{
	char key[KEY_MAX];
	struct err err = {0};

	*ret = (struct view_login){0};
	make_key(key, id, LOGIN);
	complain(id, store_each_state(s, key, on_login, ret, &err), &err);
	ret->username = json_string_value(json_object_get(ret->doc, "username"));
	ret->password = json_string_value(json_object_get(ret->doc, "password"));
	if (ret->password == NULL)
		ret->username = NULL;
}

void view_login_done(struct view_login *login)
{
	json_decref(login->doc);
}

void view_store_forget(struct store *s, const char *id)
{
	char key[KEY_MAX];
	struct err err = {0};

	make_key(key, id, "");
	int rc = put(s, key, NULL, &err);
	if (rc >= 0)
		rc = store_drop_registration(s, id, &err);
	complain(id, rc, &err);
}
