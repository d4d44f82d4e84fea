/* fleet URL N [MODEL ODF]: N device applications in one process, each with the IDF `meow` (ids
 * count up), and, if one is named, an ODF. Prints, whenever it changes, how many are registered,
 * online, and how many features were told to connect; at most every 50 ms. Ends with SIGTERM. */
#include "common/daemon.h"
#include "common/loop.h"
#include "dan/dan.h"
#include "dan/fetch.h"
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define TELL_MS 50

struct fleet {
	struct loop *loop;
	const char *model;
	struct dan_feature odf; /* without a name: none */
	unsigned long registered, online, connected;
	bool changed;
};

struct one {
	struct fleet *fleet;
	struct dan_client *client;
	bool registered, connected[2]; /* by enum dan_mode */
};

static void count(struct one *o, bool *was, bool is, unsigned long *n)
{
	if (*was == is)
		return;
	*was = is;
	*n += is ? 1ul : -1ul;
	o->fleet->changed = true;
}

static void on_registered(void *arg, const char *name)
{
	struct one *o = arg;
	(void)name;
	count(o, &o->registered, true, &o->fleet->registered);
}

static void on_online(void *arg)
{
	struct one *o = arg;
	o->fleet->online++;
	o->fleet->changed = true;
}

static void on_offline(void *arg, const char *why)
{
	struct one *o = arg;
	(void)why;
	o->fleet->online--;
	o->fleet->changed = true;
}

static void on_connect(void *arg, enum dan_mode mode, const char *feature)
{
	struct one *o = arg;
	(void)feature;
	count(o, &o->connected[mode], true, &o->fleet->connected);
}

static void on_disconnect(void *arg, enum dan_mode mode, const char *feature)
{
	struct one *o = arg;
	(void)feature;
	count(o, &o->connected[mode], false, &o->fleet->connected);
}

static void tell(void *arg)
{
	struct fleet *f = arg;
	if (!f->changed)
		return;
	f->changed = false;
	printf("{\"at_ms\": %" PRId64
	       ", \"registered\": %lu, \"online\": %lu, \"connected\": %lu}\n",
	       loop_now_ms(f->loop), f->registered, f->online, f->connected);
	fflush(stdout);
}

static void stop(void *arg)
{
	struct fleet *f = arg;
	loop_quit(f->loop, 0);
}

static int add(struct one *o, const char *url, unsigned long n, struct fetch *fetch,
	       struct err *err)
{
	static const struct dan_feature meow = {.name = "meow"};
	static const struct dan_handlers handlers = {
		.on_registered = on_registered,
		.on_online = on_online,
		.on_offline = on_offline,
		.on_connect = on_connect,
		.on_disconnect = on_disconnect,
	};
	char id[48], name[32];
	json_auto_t *profile = json_pack("{s:s}", "model", o->fleet->model);
	snprintf(id, sizeof(id), "f1ee0000-0000-4000-8000-%012lx", n);
	snprintf(name, sizeof(name), "fleet-%lu", n);
	const struct dan_conf conf = {.csm_url = url,
				      .id = id,
				      .name = name,
				      .idfs = &meow,
				      .n_idfs = 1,
				      .odfs = &o->fleet->odf,
				      .n_odfs = o->fleet->odf.name != NULL,
				      .profile = profile,
				      .fetch = fetch};
	return dan_new(o->fleet->loop, &conf, &handlers, o, &o->client, err);
}

int main(int argc, char *argv[])
{
	struct fleet f = {.model = argc == 5 ? argv[3] : "Fleet",
			  .odf.name = argc == 5 ? argv[4] : NULL};
	struct fetch *fetch = NULL;
	struct err err = {0};
	unsigned long n = argc == 3 || argc == 5 ? strtoul(argv[2], NULL, 10) : 0;
	struct one *all = calloc(n + 1, sizeof(*all));
	daemon_block_signals();
	if (n == 0 || all == NULL) {
		fprintf(stderr, "usage: fleet URL N [MODEL ODF]\n");
		return 2;
	}
	int rc = loop_new(&f.loop, &err);
	if (rc == 0)
		rc = loop_add_signal(f.loop, SIGTERM, stop, &f, &err);
	if (rc == 0)
		rc = loop_add_timer(f.loop, TELL_MS, TELL_MS, tell, &f, NULL, &err);
	if (rc == 0)
		rc = fetch_new(f.loop, &fetch, &err);
	for (unsigned long i = 0; i < n && rc == 0; i++) {
		all[i].fleet = &f;
		rc = add(&all[i], argv[1], i, fetch, &err);
	}
	if (rc == 0)
		rc = loop_run(f.loop);
	else
		fprintf(stderr, "fleet: %s\n", err.text);
	for (unsigned long i = 0; i < n; i++)
		dan_part(all[i].client);
	for (unsigned long i = 0; i < n; i++)
		dan_free(all[i].client);
	fetch_free(fetch);
	loop_free(f.loop);
	free(all);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
