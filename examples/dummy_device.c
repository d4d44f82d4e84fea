/* dummy_device [-n NAME] [-i SECONDS] [-q QOS] [-u ID] [URL]: the Dummy_Device of the SDKs in C.
 *
 * It has an input, Dummy_Sensor, on which it pushes a number from 0 to 100 each second (-i) while
 * it is connected in a graph, and an output, Dummy_Control, whose data it prints. It registers at
 * URL (http://127.0.0.1:9992) and deregisters at Ctrl-C.
 */
#include <dan.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define SENSOR  "Dummy_Sensor"
#define CONTROL "Dummy_Control"

struct dummy {
	struct dan *dan;
	struct dan_device *device;
	int left; /* what leaving came to */
};

static void on_registered(void *arg, const char *name)
{
	const struct dummy *me = arg;
	printf("registered %s %s\n", name, dan_device_id(me->device));
}

static void on_online(void *arg)
{
	(void)arg;
	printf("online\n");
}

static void on_offline(void *arg, const char *why)
{
	(void)arg;
	printf("offline: %s\n", why);
}

static void on_connect(void *arg, enum dan_mode mode, const char *feature)
{
	(void)arg;
	(void)mode;
	printf("connected %s\n", feature);
}

static void on_disconnect(void *arg, enum dan_mode mode, const char *feature)
{
	(void)arg;
	(void)mode;
	printf("disconnected %s\n", feature);
}

static void on_suspend(void *arg, enum dan_mode mode, const char *feature, bool suspended)
{
	(void)arg;
	(void)mode;
	printf("%s %s\n", suspended ? "suspended" : "resumed", feature);
}

static void on_data(void *arg, const char *feature, json_t *values)
{
	(void)arg;
	char *text = json_dumps(values, JSON_ENCODE_ANY);
	printf("%s: %s\n", feature, text != NULL ? text : "(out of memory)");
	free(text);
}

static void on_error(void *arg, const struct dan_error *err)
{
	(void)arg;
	fprintf(stderr, "dummy_device: %s\n", err->text);
}

static void push(void *arg)
{
	const struct dummy *me = arg;
	struct dan_error err;
	uint32_t chance = 0;
	if (!dan_device_is_connected(me->device, DAN_IDF, SENSOR) ||
	    getrandom(&chance, sizeof(chance), 0) != sizeof(chance))
		return;
	json_t *values = json_pack("[i]", chance % 101);
	int rc = dan_device_push(me->device, SENSOR, values, &err);
	if (rc < 0 && rc != DAN_AGAIN) /* AGAIN: a person has suspended it */
		on_error(arg, &err);
	json_decref(values);
}

static void on_left(void *arg, int rc, const char *why)
{
	struct dummy *me = arg;
	if (rc == 0)
		printf("deregistered\n");
	else
		fprintf(stderr, "dummy_device: not deregistered: %s\n", why);
	me->left = rc;
	dan_quit(me->dan, 0);
}

static int start(struct dummy *me, const struct dan_device_conf *conf, double interval_s,
		 struct dan_error *err)
{
	static const struct dan_device_handlers handlers = {
		.on_registered = on_registered,
		.on_online = on_online,
		.on_offline = on_offline,
		.on_connect = on_connect,
		.on_disconnect = on_disconnect,
		.on_suspend = on_suspend,
		.on_data = on_data,
		.on_error = on_error,
	};
	int64_t interval_ms = (int64_t)(interval_s * 1000);
	int rc = dan_open(&me->dan, err);
	if (rc == 0)
		rc = dan_quit_on(me->dan, SIGINT, err);
	if (rc == 0)
		rc = dan_quit_on(me->dan, SIGTERM, err);
	if (rc == 0)
		rc = dan_device_new(me->dan, conf, &handlers, me, &me->device, err);
	if (rc == 0)
		rc = dan_timer_new(me->dan, interval_ms, interval_ms, push, me, NULL, err);
	return rc;
}

static int usage(void)
{
	fprintf(stderr, "usage: dummy_device [-n NAME] [-i SECONDS] [-q QOS] [-u ID] [URL]\n");
	return 2;
}

int main(int argc, char *argv[])
{
	static const char *const units[] = {"int", NULL};
	static const struct dan_feature sensor = {SENSOR, units}, control = {CONTROL, units};
	struct dan_device_conf conf = {.csm_url = "http://127.0.0.1:9992",
				       .idfs = &sensor,
				       .n_idfs = 1,
				       .odfs = &control,
				       .n_odfs = 1};
	double interval_s = 1;
	for (int option; (option = getopt(argc, argv, "n:i:q:u:")) != -1;) {
		if (option == 'n')
			conf.name = optarg;
		else if (option == 'i')
			interval_s = strtod(optarg, NULL);
		else if (option == 'q')
			conf.qos = (uint8_t)strtoul(optarg, NULL, 10);
		else if (option == 'u')
			conf.id = optarg;
		else
			return usage();
	}
	if (argc - optind > 1 || interval_s < 0.001 || interval_s > 86400)
		return usage();
	if (optind < argc)
		conf.csm_url = argv[optind];

	struct dummy me = {0};
	struct dan_error err = {0};
	setvbuf(stdout, NULL, _IOLBF, 0);
	conf.profile = json_pack("{s:s}", "model", "Dummy_Device");
	int rc = start(&me, &conf, interval_s, &err);
	json_decref(conf.profile);
	if (rc == 0)
		rc = dan_run(me.dan); /* until Ctrl-C */
	else
		on_error(&me, &err);
	/* a second Ctrl-C does not wait for the answer */
	if (rc == 0 && dan_device_leave(me.device, on_left, &me, &err) == 0)
		rc = dan_run(me.dan);
	dan_device_free(me.device);
	dan_close(me.dan);
	return rc == 0 && me.left == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
