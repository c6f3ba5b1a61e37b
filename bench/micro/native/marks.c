/* Tells callgrind, under which we run, where a measurement begins and ends. Calls outside of valgrind do nothing. */
#include <valgrind/callgrind.h>

void begin(void) { CALLGRIND_ZERO_STATS; }

void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); }
