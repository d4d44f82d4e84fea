/* routes_account.c - accounts and administration in the REST API (spec ccm 3.2, 3.12). */
#include "ccm/ops/account.h"
#include "ccm/web/web_int.h"
#include "common/util.h"
#include <arpa/inet.h>
#include <string.h>

/* ---- bodies ---- */

static const struct field credentials[] = {
	{.name = "username", .type = FIELD_STR},
	{.name = "password", .type = FIELD_STR},
	{0},
};
static const struct field oauth2[] = {{.name = "access_token", .type = FIELD_TEXT}, {0}};
static const struct field profile_query[] = {
	{.name = "gui", .type = FIELD_STR, .flags = FIELD_OPTIONAL,
	 .help = "uuid of a gui client (GET /mqtt_url): the answer has an mqtt_ticket for it, which stands for this login in its `_id`"},
	{0},
};
static const struct field user[] = {{.name = "id", .type = FIELD_INT}, {0}};
static const struct field user_pass[] = {{.name = "id", .type = FIELD_INT}, {.name = "password", .type = FIELD_STR}, {0}};
static const struct field user_switch[] = {{.name = "id", .type = FIELD_INT}, {.name = "is_admin", .type = FIELD_BOOL}, {0}};
static const struct field project[] = {
	{.name = "p_id", .type = FIELD_INT},
	{.name = "u_id", .type = FIELD_INT, .help = "its owner"},
	{0},
};
static const struct field device[] = {{.name = "d_id", .type = FIELD_INT}, {0}};

/* ---- what goes between request and operation ---- */

/* Behind a proxy on this machine: whom the proxy speaks for. */
static void peer_of(const struct http_request *req, char *buf, size_t size)
{
	struct in6_addr any;
	const char *forwarded = http_peer_is_loopback(req) ? http_header(req, "X-Forwarded-For") : NULL;
	const char *last = forwarded != NULL ? strrchr(forwarded, ',') : NULL;
	last = last != NULL ? last + 1 : forwarded;
	if (last != NULL) {
		last += strspn(last, " ");
		if (inet_pton(AF_INET, last, &any) == 1 || inet_pton(AF_INET6, last, &any) == 1) {
			snprintf(buf, size, "%s", last);
			return;
		}
	}
	if (http_peer_address(req, buf, size) < 0)
		snprintf(buf, size, "unknown");
}

static int enter_session(struct http_request *req, json_t *args)
{
	return json_object_set_new(args, "session", json_string(session_of(req).s)) < 0 ? ERR_NOMEM : 0;
}

static int enter_peer(struct http_request *req, json_t *args)
{
	char peer[INET6_ADDRSTRLEN];
	peer_of(req, peer, sizeof(peer));
	return json_object_set_new(args, "peer", json_string(peer)) < 0 ? ERR_NOMEM : 0;
}

static int enter_login(struct http_request *req, json_t *args)
{
	int rc = enter_peer(req, args);
	return rc == 0 ? enter_session(req, args) : rc;
}

static int leave_login(struct web *w, struct http_request *req, json_t *data)
{
	int rc = session_give(req, json_string_value(json_object_get(data, "session")), w->ccm->settings->gui.session_timeout_min * 60);
	json_object_del(data, "session");
	return rc;
}

static int leave_for_good(struct web *w, struct http_request *req, json_t *data)
{
	(void)w, (void)data;
	return session_take_back(req);
}

const struct web_special web_account_specials[] = {
	{.op = &op_account_login, .enter = enter_login, .leave = leave_login, .throttled = true},
	{.op = &op_account_create, .enter = enter_peer, .throttled = true},
	{.op = &op_account_logout, .enter = enter_session, .leave = leave_for_good},
	{.op = &op_account_delete, .leave = leave_for_good},
	{.op = &op_account_profile, .enter = enter_session, .query = profile_query},
	{0},
};

const struct web_route web_account_routes[] = {
	/* clang-format off */
	{"POST", "/account/login", WEB_ANYONE, &op_account_login, credentials, 200, 401, 0, NULL,
	 "log in: the answer sets a cookie; who was logged in before is no longer"},
	{"POST", "/account/oauth2", WEB_ANYONE, &op_account_oauth2, oauth2, 200, 400, 0, NULL, "log in by OAuth; not configured"},
	{"GET", "/account/logout", WEB_USER, &op_account_logout, NULL, 200, 400, 0, NULL, "log out"},
	{"POST", "/account/create", WEB_ANYONE, &op_account_create, credentials, 200, 400, 0, NULL, "make an account"},
	{"DELETE", "/account", WEB_USER, &op_account_delete, NULL, 200, 400, 0, NULL, "remove the caller with all that is its own"},
	{"GET", "/account", WEB_USER, &op_account_profile, NULL, 200, 400, 0, NULL, "who the caller is"},
	{"GET", "/admin/user", WEB_ADMIN, &op_admin_user_list, NULL, 200, 400, 0, "data", "all users"},
	{"POST", "/admin/user/pass", WEB_ADMIN, &op_admin_user_pass, user_pass, 200, 400, 0, NULL, "give a user a password; its logins end"},
	{"POST", "/admin/user/switch", WEB_ADMIN, &op_admin_user_switch, user_switch, 200, 400, 0, NULL, "make a user an administrator, or none"},
	{"DELETE", "/admin/user", WEB_ADMIN, &op_admin_user_delete, user, 200, 400, 404, NULL, "remove a user with all that is its own"},
	{"GET", "/admin/project", WEB_ADMIN, &op_admin_project_list, NULL, 200, 400, 0, "data", "all projects"},
	{"POST", "/admin/project/stop", WEB_ADMIN, &op_admin_project_stop, project, 200, 404, 0, NULL, "switch a project off"},
	{"POST", "/admin/project/delete", WEB_ADMIN, &op_admin_project_delete, project, 200, 404, 0, NULL, "remove a project"},
	{"GET", "/admin/device", WEB_ADMIN, &op_admin_device_list, NULL, 200, 400, 0, "data", "all devices, with the projects they are bound in"},
	{"POST", "/admin/device/unbind", WEB_ADMIN, &op_admin_device_unbind, device, 200, 404, 0, NULL, "take a device out of all projects"},
	/* clang-format on */
	{0},
};
