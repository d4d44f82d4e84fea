/* device_enable.c - a device is switched on and off (gateway-devices 1.3). */
#include "agent/device/device_int.h"
#include "common/clock.h"

#define ENABLING_US_MAX 2000 /* in a turn, of one device */
#define FLIPS_MAX       1024 /* words that wait, as many as events of other kinds */

/* What was told last; gateway-devices 1.3. */
static void enable(struct device *d, bool on)
{
	d->want = on;
	if (!on)
		device_close(d, true);
	else if (d->state == DEVICE_DISABLED && d->synced)
		device_create(d);
}

/* As enable(), and what it costs is counted. */
static void enable_counted(struct device *d, bool on)
{
	int64_t now_ms = loop_now_ms(d->env->loop), began_us = monotonic_us();

	if (d->enabled_ms != now_ms)
		d->enabling_us = 0;
	d->enabled_ms = now_ms;
	enable(d, on);
	d->enabling_us += monotonic_us() - began_us;
}

static bool may_enable(const struct device *d)
{
	return d->enabled_ms != loop_now_ms(d->env->loop) || d->enabling_us < ENABLING_US_MAX;
}

/* Each word is done, as each makes an instance or ends one, but not all in one turn: who may enable
 * it may do so a thousand times a second, and its creation may look at thousands of states. */
void device_flip(struct device *d, bool on)
{
	bool last = d->want != (d->flips % 2 != 0);

	if (d->flips == 0 && (on == last || may_enable(d))) {
		enable_counted(d, on);
		return;
	}
	if (on == last)
		return;
	if (d->flips < FLIPS_MAX)
		d->flips++;
	else
		d->flips--; /* the last word is the same */
	loop_arm(d->env->loop, d->flip_timer, 0);
}

void device_on_flip_timer(void *arg)
{
	struct device *d = arg;

	d->enabling_us = 0;
	do {
		d->flips--;
		enable_counted(d, !d->want);
	} while (d->flips > 0 && may_enable(d));
	if (d->flips > 0)
		loop_arm(d->env->loop, d->flip_timer, 0);
}

void device_forget_flips(struct device *d)
{
	d->flips = 0;
	loop_arm(d->env->loop, d->flip_timer, -1);
}

void device_enable(struct device *d, bool on)
{
	device_forget_flips(d);
	enable(d, on);
}
