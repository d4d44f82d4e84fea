/* tool_modbus.h - `gateway-agent device scan` and `decode`: what is behind a Modbus connection, and
 * what its registers could mean.
 */
#pragma once

#include "common/options.h"

enum { EXIT_WRONG_LINE = 2 };

extern const struct option_row scan_options[], decode_options[];

/* o->argv[0]: HOST[:PORT], or the path of a serial line. ret: the exit status. */
int tool_scan(const struct options *o);
/* o->argv: registers, decimal or 0x.... ret: the exit status. */
int tool_decode(const struct options *o);
