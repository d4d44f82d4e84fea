/* input.h - bytes of the fuzzer's as choices, for documents that are grown instead of cut at random. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct input {
	const uint8_t *data;
	size_t left;
	unsigned made; /* values so far, for who limits them */
};

/* The next byte; 0 when there is none left. */
static inline unsigned input_take(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

/* The next choice of n. */
static inline unsigned input_choose(struct input *in, unsigned n)
{
	return input_take(in) % n;
}
