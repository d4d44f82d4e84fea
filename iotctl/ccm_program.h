/* ccm_program.h - what ccm does as a command: its store belongs to it alone, so whoever wants it
 * made, filled or listed without a running ccm has `ccm MODE` do it.
 */
#pragma once

#include "iotctl/iotctl.h"

#define CCM_WORDS_MAX 64

/* Run the program beside iotctl as `ccm MODE -c INI WORDS ...`, on our terminal, and wait for its
 * end. quiet: what it prints is not shown, what it complains about is. command: in whose name a
 * failure to run it is told. ret: its exit status, an enum exit_code. */
int ccm_program(const struct iotctl *app, const char *command, const char *mode,
		char *const words[], int n, bool quiet);
