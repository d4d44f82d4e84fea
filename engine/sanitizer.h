/* sanitizer.h - whether this build runs under a sanitizer, which reserves terabytes of address
 * space for its shadow memory. */
#pragma once

#include <stdbool.h>

#ifndef __has_feature
#define __has_feature(feature) 0 /* clang only */
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
	__has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED           true
#define WHEN_SANITIZED(...) __VA_ARGS__
#else
#define SANITIZED false
#define WHEN_SANITIZED(...)
#endif

/* Once per program, at file level: what does not fit is a MemoryError, as without a sanitizer. */
#define SANITIZER_OPTIONS                                     \
	WHEN_SANITIZED(                                       \
		const char *__asan_default_options(void);     \
		const char *__tsan_default_options(void);     \
		const char *__asan_default_options(void) {    \
			return "allocator_may_return_null=1"; \
		} const char *__tsan_default_options(void) {  \
			return "allocator_may_return_null=1"; \
		})
