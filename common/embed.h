/* embed.h - files that are part of a program: no path to lose on a gateway. */
#pragma once

/* EMBED(name, "conf/file") in a .c file: `name` is the text of the file, ended by NUL. The Makefile has to know of the file. */
#define EMBED(name, file)                                                                          \
	__asm__(".section .rodata\n" #name ":\n.incbin \"" file "\"\n.byte 0\n.previous\n");            \
	extern const char name[] __attribute__((visibility("hidden")))
