/* tool.h - `gateway-agent device ...`: what is done with device files and field devices without a
 * daemon. `iotctl device` runs it.
 */
#pragma once

/* argv[0]: "device". ret: the exit status: 0 fine, 1 error (told), 2 wrong command line. */
int device_tool(int argc, char *argv[]);
