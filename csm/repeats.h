/* repeats.h - requests of the API that were taken up, so that none is taken up twice.
 *
 * A broker that was killed comes back with what it saved some seconds before. A request that was on its way to us then comes again, perhaps
 * long answered and undone by later ones. (The MQTT library does not tell that it is a repetition: at QoS 2 it takes the mark off.) So the
 * same bytes on the same topic are not taken up again in the first moments of a connection to a broker that knows our session.
 * What we took up is remembered for a while, in the store with what it changed: after a kill of csm, a request that was not stored is
 * not known, and applied when it comes again.
 */
#pragma once

#include "csm/csm.h"

struct repeats;

int repeats_new(struct csm *csm, struct repeats **ret, struct err *err); /* loads the store */
struct repeats *repeats_free(struct repeats *r);
/* The connection to the broker is up. */
void repeats_on_up(struct repeats *r);
/* Whether m was taken up before and the broker repeats it; if not, it is taken up now. ret: 1 it was, 0, or ERR_NOMEM. */
int repeats_take(struct repeats *r, const struct bus_msg *m);
