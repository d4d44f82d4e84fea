/* pages.c - what is no REST API: for browsers, devices and operators (spec ccm 3.13). */
#include "ccm/query.h"
#include "ccm/web/metrics.h"
#include "ccm/web/web_int.h"
#include "common/log.h"
#include "common/util.h"
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define TEXT_TYPE "text/plain; charset=utf-8"
#define JSON_TYPE "application/json; charset=utf-8"

static void root(void *arg, struct http_request *req)
{
	(void)arg;
	char description[64];
	snprintf(description, sizeof(description), "%s/api/openapi.json", http_prefix(req));
	http_reply_json(req, 200, json_pack("{s:s, s:s, s:s, s:s}", "state", "ok", "name", "IoTtalk CCM: projects, models, functions, bindings",
					    "version", IOTTALK_VERSION, "api", description));
}

static void openapi(void *arg, struct http_request *req)
{
	const struct web *w = arg;
	http_reply(req, 200, JSON_TYPE, w->openapi, strlen(w->openapi));
}

static void healthz(void *arg, struct http_request *req)
{
	struct web *w = arg;
	int64_t one = 0;
	struct err err = {0};
	int rc = q_int(w->ccm->db, &err, &one, "SELECT 1 FROM User LIMIT 1");
	http_reply_json(req, rc >= 0 ? 200 : 503,
			json_pack("{s:s, s:s, s:b}", "state", rc >= 0 ? "ok" : "error", "store", rc >= 0 ? "ok" : err.text, "broker",
				  w->ccm->bus != NULL && bus_is_up(w->ccm->bus)));
}

static void metrics(void *arg, struct http_request *req)
{
	struct web *w = arg;
	CLEANUP(freep) char *page = web_metrics_page(w->metrics, w->ccm, w->http);
	if (page == NULL)
		http_reply_error(req, 503, "out of memory");
	else
		http_reply(req, 200, "text/plain; version=0.0.4; charset=utf-8", page, strlen(page));
}

/* Devices ask; they have no login. */
static void get_alias(void *arg, struct http_request *req)
{
	struct web *w = arg;
	const char *mac = http_query(req, "mac_addr"), *df = http_query(req, "df_name");
	CLEANUP(freep) char *alias = NULL;
	struct err err = {0};
	static const char incomplete[] = "mac_addr and df_name are required";
	if (mac == NULL || df == NULL) {
		http_reply(req, 400, TEXT_TYPE, incomplete, strlen(incomplete));
		return;
	}
	int rc = q_text(w->ccm->db, &err, &alias,
			"SELECT o.alias_name FROM Device d JOIN DeviceObject b ON b.d_id = d.d_id JOIN DFObject o ON o.do_id = b.do_id "
			"JOIN DeviceFeature f ON f.df_id = o.df_id WHERE d.mac_addr = $1 AND f.df_name = $2 ORDER BY o.dfo_id LIMIT 1",
			DB_V_TEXT(mac), DB_V_TEXT(df));
	const char *text = rc < 0 ? err.text : rc > 0 ? alias : df;
	http_reply(req, rc < 0 ? 503 : 200, TEXT_TYPE, text, strlen(text));
}

static void mqtt_url(void *arg, struct http_request *req)
{
	const struct web *w = arg;
	const struct settings *s = w->ccm->settings;
	char address[INET6_ADDRSTRLEN];
	http_reply_json(req, 200,
			json_pack("{s:s, s:s, s:I, s:s, s:I}", "id", uuid4().s, "host",
				  http_reachable(req, s->core_mqtt.host, address, sizeof(address)), "port", (json_int_t)s->core_mqtt.port,
				  "ws_scheme", s->core_ws.scheme, "ws_port", (json_int_t)s->core_ws.port));
}

static void ec_endpoint(void *arg, struct http_request *req)
{
	const struct web *w = arg;
	const struct settings *s = w->ccm->settings;
	char here[64];
	snprintf(here, sizeof(here), "http://localhost:%" PRId64, s->core.http_port);
	http_reply_json(req, 200, json_pack("{s:s}", "ec_endpoint", *s->gui.ec_endpoint != '\0' ? s->gui.ec_endpoint : here));
}

static void simtalk_endpoint(void *arg, struct http_request *req)
{
	const struct web *w = arg;
	http_reply_json(req, 200, json_pack("{s:s}", "simtalk_endpoint", w->ccm->settings->gui.simtalk_endpoint));
}

const struct http_route web_pages[] = {
	{"GET", "/", 0, root},
	{"GET", "/healthz", 0, healthz},
	{"GET", "/metrics", 0, metrics},
	{"GET", "/api/openapi.json", 0, openapi},
	{"GET", "/api/v1/get_alias", 0, get_alias},
	{"GET", "/mqtt_url", 0, mqtt_url},
	{"GET", "/ec_endpoint", 0, ec_endpoint},
	{"GET", "/simtalk_endpoint", 0, simtalk_endpoint},
	{"GET", "/export_project", 0, project_export},
	{"POST", "/import_project", WEB_IMPORT_MAX, project_import},
	{"GET", "/da/{path...}", 0, da_file},
};
const size_t web_n_pages = ARRAY_LEN(web_pages);
