/* utc.c - times as the store keeps them. */
#include "ccm/ccm.h"

#include <time.h>

struct utc_text utc_text(int64_t seconds_since_1970)
{
	struct utc_text text;
	time_t t = (time_t)seconds_since_1970;
	struct tm tm;
	strftime(text.s, sizeof(text.s), "%Y-%m-%d %H:%M:%S", gmtime_r(&t, &tm));
	return text;
}
