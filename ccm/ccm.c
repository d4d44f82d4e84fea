#include "ccm/ccm.h"

#include "ccm/control.h"
#include "ccm/drive/drive.h"
#include "ccm/gui/gui.h"
#include "ccm/seed.h"
#include "ccm/sim/sim.h"
#include "ccm/web/web.h"
#include "common/id.h"
#include "common/log.h"
#include "common/schema.h"
#include "common/shortage.h"
#include "common/util.h"
#include <stdio.h>
#include <string.h>

#define DESCRIPTORS 8192

/* ---- the bus ---- */

static bool on_connecting(void *arg, struct bus_will *will)
{
	struct ccm *ccm = arg;
	return drive_will(ccm->drive, will);
}

static void on_up(void *arg, bool fresh)
{
	struct ccm *ccm = arg;
	log_info("broker.connected", KV("fresh", fresh));
	daemon_notify_status("connected to the broker");
	if (!ccm->bus_was_up)
		daemon_notify_ready();
	ccm->bus_was_up = true;
	drive_on_up(ccm->drive);
}

static void on_down(void *arg, const char *why)
{
	struct ccm *ccm = arg;
	log_warn("broker.lost", KV("why", why));
	daemon_notify_status("no connection to the broker");
	drive_on_down(ccm->drive);
}

static void on_message(void *arg, const struct bus_msg *m)
{
	struct ccm *ccm = arg;
	if (strncmp(m->topic, GUI_REQUEST_PREFIX, strlen(GUI_REQUEST_PREFIX)) != 0)
		drive_on_message(ccm->drive, m);
	else if (!ccm->stopping) /* then logins are gone, while simulated devices still take their leave */
		gui_on_message(ccm->gui, m);
}

static const struct bus_handlers bus_handlers = {
	.on_connecting = on_connecting,
	.on_up = on_up,
	.on_down = on_down,
	.on_message = on_message,
};

static int connect_bus(struct ccm *ccm, struct err *err)
{
	char client_id[64];
	snprintf(client_id, sizeof(client_id), "ccm-%s", uuid4().s);
	const struct bus_conf conf = {
		.host = ccm->settings->core_mqtt.host,
		.port = (unsigned)ccm->settings->core_mqtt.port,
		.client_id = client_id,
		.clean_session = true, /* what must not be lost is in the store */
	};
	int rc = bus_new_paho(ccm->loop, &conf, &bus_handlers, ccm, &ccm->bus, err);
	if (rc == 0)
		rc = drive_subscribe(ccm->drive, err);
	return rc == 0 ? bus_subscribe(ccm->bus, GUI_REQUEST_PREFIX "+", 2, NULL, NULL, err) : rc;
}

/* ---- life ---- */

/* A file is seeded by `ccm init`. What is in memory only, nobody else could seed. */
static int open_store(struct ccm *ccm, struct err *err)
{
	struct imported made;
	int rc = schema_open(ccm->settings, SCHEMA_CCM, &ccm->db, err);
	if (rc == 0 && strcmp(schema_path(ccm->settings, SCHEMA_CCM), ":memory:") == 0)
		rc = seed_if_empty(ccm->db, &made, err);
	return rc < 0 ? rc : 0;
}

static int start(struct ccm *ccm, int argc, char *argv[], struct err *err)
{
	int rc = daemon_start(&ccm->daemon, "ccm", argc, argv, err);
	if (rc != 0)
		return rc;
	ccm->settings = &ccm->daemon.settings;
	ccm->reload = (struct reload){.daemon = &ccm->daemon, .arg = ccm};
	if ((rc = loop_new(&ccm->loop, err)) < 0 || (rc = daemon_handle_stop(ccm->loop, err)) < 0 ||
	    (rc = daemon_watch(ccm->loop, err)) < 0 || (rc = open_store(ccm, err)) < 0)
		return rc;
	ccm->started_ms = loop_now_ms(ccm->loop);
	/* as many connections as are allowed, and simulated devices, must not leave the store without one */
	daemon_raise_descriptors(DESCRIPTORS);
	if ((rc = drive_new(ccm, &ccm->drive, err)) < 0 || (rc = gui_new(ccm, &ccm->gui, err)) < 0 ||
	    (rc = sim_new(ccm, &ccm->sim, err)) < 0 || (rc = web_new(ccm, &ccm->web, err)) < 0 ||
	    (rc = connect_bus(ccm, err)) < 0 || (rc = control_listen(ccm, err)) < 0 ||
	    (rc = reload_start(&ccm->reload, ccm->loop, err)) < 0)
		return rc;
	daemon_notify_status("waiting for the broker");
	log_info("ccm.started", KV("http_port", web_port(ccm->web)));
	return 0;
}

int ccm_start(struct ccm *ccm, int argc, char *argv[], struct err *err)
{
	shortage_watch_json();
	int rc = start(ccm, argc, argv, err);
	/* what could not be made or read back then is not wrong */
	return rc < 0 && shortage_count() != 0 ? err_set(err, ERR_NOMEM, "starting") : rc;
}

void ccm_stop(struct ccm *ccm)
{
	ccm->stopping = true;
	ccm->ctl = ctl_close(ccm->ctl);
	ccm->web = web_free(ccm->web);
	ccm->sim = sim_free(ccm->sim);
	if (ccm->bus != NULL && ccm->drive != NULL)
		drive_goodbye(ccm->drive);
	ccm->bus = bus_free(ccm->bus);
	ccm->gui = gui_free(ccm->gui);
	ccm->drive = drive_free(ccm->drive);
	ccm->db = db_close(ccm->db);
	ccm->loop = loop_free(ccm->loop);
	daemon_stop(&ccm->daemon);
}
