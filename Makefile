# make             build everything into build/bin and build/lib
# make test        unit tests, then system tests (scripts/test installs what they need)
# make bench       measure; prints ratios, writes build/bench/*.csv; BENCH_ARGS=--help names the choices
# make bench-ccm   measure large projects and many of them
# make bench-devices  measure an agent that polls a thousand Modbus devices
# make bench-report  tables and pictures of the last run into docs/
# make soak        an hour of load, changes and killed engines; SECONDS=60: a minute, SOAK_ARGS=--help
# make crash       random kill -9 under load, answers compared with what there is; KILLS=1000 SEED=7, CRASH_ARGS=--help
# make check       clang-tidy, cppcheck, include arrows, fuzz targets compile
# make format      clang-format in place
# make install     DESTDIR= PREFIX=/usr/local SYSCONFDIR=/etc LIBDIR=PREFIX/lib; make uninstall takes the same
# make install-sdk  of it only the library for device applications
# make deb         a Debian package in build/deb
# make docs        what docs/devices.rst says of fields, from the tables that check them
# make fuzz        libFuzzer targets into build/fuzz/bin (needs clang)
# Sanitizers build beside the release: make SAN=address,undefined test; make SAN=thread test-unit
VERSION := 0.1.0
PREFIX  ?= /usr/local
SYSCONFDIR ?= /etc
# of the library for device applications
LIBDIR  ?= $(PREFIX)/lib
# where systemd looks, for a PREFIX that it knows
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
# of an installation for the whole system; the programs know the first, the units both
CONF        := $(SYSCONFDIR)/iottalk/iottalk.ini
STATEDIR    := /var/lib/iottalk

PROGRAMS := iotctl csm ccm gateway-agent iottalk-engine
# folder of each program's sources
DIR_iotctl         := iotctl
DIR_csm            := csm
DIR_ccm            := ccm
DIR_gateway-agent  := agent
DIR_iottalk-engine := engine

FOLDERS := common dan iotctl csm ccm agent engine broker
# our archives each folder links against, in link order
USES_common :=
USES_dan    := common
USES_iotctl := dan common
USES_csm    := common
USES_ccm    := dan common
USES_agent  := dan common
USES_engine := common
USES_broker := common

PKGS_common := jansson libsodium libmicrohttpd sqlite3 inih
PKGS_dan    := libcurl
PKGS_iotctl := libcurl libarchive libedit
PKGS_csm    :=
PKGS_ccm    := libcurl
PKGS_agent  := libcurl zlib
PKGS_engine := python3-embed libseccomp

PLUGIN := iottalk_broker.so

OBJCOPY ?= objcopy

B  := build
comma := ,
O  := $(if $(SAN),$(B)/san-$(subst $(comma),-,$(SAN)),$(B))

pkg_cflags = $(if $(1),$(shell pkg-config --cflags $(1)))
pkg_libs   = $(if $(1),$(shell pkg-config --libs $(1)))

CFLAGS ?= -O2 -g
override CPPFLAGS += -I. -D_GNU_SOURCE -DIOTTALK_VERSION='"$(VERSION)"'
override CFLAGS += -std=gnu17 -fPIC -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wformat=2 -Wvla -fstack-protector-strong \
	$(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer,-D_FORTIFY_SOURCE=2)
override LDFLAGS += $(if $(SAN),-fsanitize=$(SAN)) -Wl,--as-needed

src_of   = $(shell find $(1) -name '*.c' | sort)
objs_of  = $(patsubst %.c,$(O)/obj/%.o,$(filter-out %/main.c,$(call src_of,$(1))))
SRCS    := $(foreach d,$(FOLDERS),$(call src_of,$(d)))
HDRS    := $(foreach d,$(FOLDERS),$(shell find $(d) -name '*.h'))
UNIT    := $(wildcard tests/*/test_*.c)
BENCH   := $(wildcard tests/bench/*.c)
# programs; the other files there are modules that each of them links
BENCH_PROGRAMS := load relay bus_relay http_load timers fleet modbus_sim
# programs that run an engine's parts in their own process
BENCH_ENGINE := eval_bench
EXAMPLES := $(wildcard examples/*.c)
FAULTS  := tests/faults/faults.c
FUZZ    := $(wildcard tests/fuzz/fuzz_*.c)
UNITS   := $(notdir $(wildcard conf/systemd/iottalk*))
TEMPLATES := $(notdir $(wildcard conf/templates/*.json))
DEVICE_EXAMPLES := $(notdir $(wildcard conf/examples/*.json))
BINS    := $(PROGRAMS:%=$(O)/bin/%)
UNITBIN := $(UNIT:tests/%.c=$(O)/tests/%)
BENCHBIN := $(BENCH_PROGRAMS:%=$(O)/bench/bin/%)
BENCH_MODULES := $(filter-out $(BENCH_PROGRAMS:%=tests/bench/%.c) $(BENCH_ENGINE:%=tests/bench/%.c),$(BENCH))

all: $(BINS) $(O)/lib/$(PLUGIN) sdk $(O)/share/iottalk.ini.sample $(O)/share/iottalk.ini \
	$(TEMPLATES:%=$(O)/share/iottalk/templates/%)

-include $(shell find $(O)/obj $(O)/tests $(B)/fuzz/obj -name '*.d' 2>/dev/null)

define folder_rules
flags_$(1) := $(call pkg_cflags,$(PKGS_common) $(foreach u,$(USES_$(1)),$(PKGS_$(u))) $(PKGS_$(1)))
$(O)/lib/lib$(1).a: $(call objs_of,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	@echo "  AR    $$@"
	@$$(AR) rcs $$@ $$^
archives_$(1) := $(O)/lib/lib$(1).a $(USES_$(1):%=$(O)/lib/lib%.a)
link_$(1) := $(call pkg_libs,$(PKGS_$(1)) $(foreach u,$(USES_$(1)),$(PKGS_$(u))) $(PKGS_common)) -lpaho-mqtt3a -lpthread -lm
endef
$(foreach d,$(FOLDERS),$(eval $(call folder_rules,$(d))))

$(O)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CPPFLAGS) $(flags_$(firstword $(subst /, ,$*))) $(CFLAGS) -MMD -MP -c $< -o $@

# the schema is part of the programs
$(O)/obj/common/schema.o: $(wildcard conf/sql/*/*.sql)
$(O)/obj/ccm/seed.o: conf/ccm-seed.json

# so is the place of the configuration; another one is compiled in when it is asked for
$(O)/obj/common/settings.o: $(O)/conf-path
$(O)/obj/common/settings.o: override CPPFLAGS += -DIOTTALK_CONF='"$(CONF)"'
$(O)/conf-path: FORCE
	@mkdir -p $(@D)
	@echo '$(CONF)' | cmp -s - $@ || echo '$(CONF)' > $@
FORCE:

define program_rules
$(O)/bin/$(1): $(O)/obj/$(DIR_$(1))/main.o $(archives_$(DIR_$(1)))
	@mkdir -p $$(@D)
	@echo "  LD    $$@"
	@$$(CC) $$(CFLAGS) $$(LDFLAGS) $$^ $(link_$(DIR_$(1))) -o $$@
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rules,$(p))))

# mosquitto's plugin: what it needs of our archives is inside, nothing but its three entry points shows. mosquitto itself has no
# sanitizer, so the plugin that it loads has none in any build.
ifeq ($(SAN),)
$(O)/lib/$(PLUGIN): broker/plugin.map $(O)/obj/broker/plugin.o $(archives_broker)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,--version-script=$^ $(call pkg_libs,libsodium) -o $@
else
$(O)/lib/$(PLUGIN): $(filter broker/% common/%,$(SRCS) $(HDRS)) broker/plugin.map
	@mkdir -p $(@D)
	@$(MAKE) --no-print-directory SAN= $(B)/lib/$(PLUGIN)
	@cp $(B)/lib/$(PLUGIN) $@
endif

# The library for device applications: what dan/ needs of common/ is inside, nothing but dan/public/dan.h shows.
DAN_SO   := libdan.so.1
DAN_OBJS := $(call objs_of,dan)
sdk: $(O)/sdk/$(DAN_SO) $(O)/sdk/libdan.so $(O)/sdk/libdan.a
$(O)/sdk/$(DAN_SO): dan/public/dan.map $(DAN_OBJS) $(O)/lib/libcommon.a
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname=$(DAN_SO) $(if $(SAN),,-Wl$(comma)-z$(comma)defs) -Wl,--version-script=$^ \
		$(call pkg_libs,libcurl jansson libsodium) -lpthread -o $@
$(O)/sdk/libdan.so: $(O)/sdk/$(DAN_SO)
	@ln -sf $(DAN_SO) $@
$(O)/sdk/libdan.a: dan/public/dan.map $(DAN_OBJS) $(O)/lib/libcommon.a
	@mkdir -p $(@D)
	@rm -f $@
	@echo "  AR    $@"
	@sed -n 's/^\t\t\(dan_[a-z_]*\);$$/\1/p' $< > $(O)/sdk/dan.symbols
	@$(LD) -r $(filter-out $<,$^) -o $(O)/sdk/dan.o
	@$(OBJCOPY) --keep-global-symbols=$(O)/sdk/dan.symbols $(O)/sdk/dan.o
	@$(AR) rcs $@ $(O)/sdk/dan.o

$(O)/share/iottalk.ini.sample: $(O)/bin/iotctl
	@mkdir -p $(@D)
	@$(O)/bin/iotctl genconf --force $@ >/dev/null

# the same with the state where a system keeps it
$(O)/share/iottalk.ini: $(O)/share/iottalk.ini.sample
	@sed 's|^;userdir = .*|userdir = $(STATEDIR)|' $< > $@
	@grep -q '^userdir = ' $@

# device templates lie to the programs as in an installation
$(O)/share/iottalk/templates/%.json: conf/templates/%.json
	@mkdir -p $(@D)
	@cp $< $@

# the part of the page that the tables are
docs: $(O)/bin/gateway-agent
	@sed '/^\.\. generated:/q' docs/devices.rst > $(O)/devices.rst
	@echo >> $(O)/devices.rst
	@$(O)/bin/gateway-agent device doc >> $(O)/devices.rst
	@mv $(O)/devices.rst docs/devices.rst

# unit tests: tests/<folder>/test_x.c links that folder's archive, so exactly what the program links
.SECONDEXPANSION:
$(UNITBIN): $(O)/tests/%: tests/%.c $$(archives_$$(firstword $$(subst /, ,$$*)))
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	@$(CC) $(CPPFLAGS) $(flags_$(firstword $(subst /, ,$*))) $(CFLAGS) -MMD -MP $(LDFLAGS) $< \
		$(archives_$(firstword $(subst /, ,$*))) $(link_$(firstword $(subst /, ,$*))) $(link_$(notdir $*)) -lcmocka -o $@

# a counterpart, which no program links
link_test_modbus_peer := -lmodbus

$(BENCHBIN): $(O)/bench/bin/%: $(O)/obj/tests/bench/%.o $(BENCH_MODULES:%.c=$(O)/obj/%.o) $(archives_dan)
	@mkdir -p $(@D)
	@echo "  BENCH $@"
	@$(CC) $(CFLAGS) $(LDFLAGS) $^ $(link_dan) -o $@

$(BENCH_ENGINE:%=$(O)/bench/bin/%): $(O)/bench/bin/%: tests/bench/%.c $(archives_engine)
	@mkdir -p $(@D)
	@echo "  BENCH $@"
	@$(CC) $(CPPFLAGS) $(flags_engine) $(CFLAGS) $(LDFLAGS) $^ $(link_engine) -o $@

# many runs rather than clever ones: FUZZ_CFLAGS="-O2 -g -fno-sanitize-coverage=trace-cmp", half as many again in the same time
FUZZ_CFLAGS ?= -O1 -g
# fuzz targets: clang's libFuzzer over the folder named on the target's first line, /* fuzz: engine */, and those it uses
fuzz_folder = $(shell sed -n '1s/.*fuzz: *\([a-z]*\).*/\1/p' tests/fuzz/$(1).c)
fuzz_objs   = $(patsubst %.c,$(B)/fuzz/obj/%.o,$(filter-out %/main.c,$(foreach d,$(1) $(USES_$(1)),$(call src_of,$(d)))))
fuzz: $(FUZZ:tests/fuzz/%.c=$(B)/fuzz/bin/%)
$(B)/fuzz/bin/%: $(B)/fuzz/obj/tests/fuzz/%.o $$(call fuzz_objs,$$(call fuzz_folder,$$*))
	@mkdir -p $(@D)
	@echo "  FUZZ  $@"
	@clang -fsanitize=fuzzer,address,undefined $^ $(link_$(call fuzz_folder,$*)) -o $@
.PRECIOUS: $(B)/fuzz/obj/%.o
$(B)/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	@clang $(CPPFLAGS) $(foreach d,$(FOLDERS),$(flags_$(d))) -std=gnu17 \
		-fsanitize=fuzzer-no-link,address,undefined $(FUZZ_CFLAGS) -MMD -MP -c $< -o $@

test-unit: $(UNITBIN) $(O)/bin/iottalk-engine
	@scripts/run-unit $(UNITBIN)
test-system: all bench-programs faults
	@BUILD=$(abspath $(O)) /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/system $(PYTEST)
test: test-unit test-system

# time passes faster for a program that has this preloaded; built without a sanitizer, it comes before the sanitizer's own library
$(O)/lib/test_clock.so: tests/clock/clock.c
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) -D_GNU_SOURCE -std=gnu17 -O2 -g -fPIC -Wall -Wextra -Werror -shared $< -o $@

# makes calls of the program that it is preloaded into fail; no sanitizer of its own, so one library for every build
faults: $(B)/tests/lib/faults.so
$(B)/tests/lib/faults.so: $(FAULTS)
	@mkdir -p $(@D)
	@echo "  TEST  $@"
	@$(CC) -D_GNU_SOURCE $(filter-out -fsanitize=% -fno-omit-frame-pointer,$(CFLAGS)) -fno-builtin -shared $< -ldl -o $@

bench-programs: $(BENCHBIN) $(BENCH_ENGINE:%=$(O)/bench/bin/%) $(O)/lib/test_clock.so
bench: all bench-programs
	@BUILD=$(abspath $(O)) /usr/bin/python3 tests/bench/bench.py $(BENCH_ARGS)
# large projects and many of them
bench-ccm: all bench-programs
	@BUILD=$(abspath $(O)) /usr/bin/python3 tests/bench/ccm_bench.py $(BENCH_ARGS)
# field devices by the thousand, and one with many registers
bench-devices: all bench-programs
	@BUILD=$(abspath $(O)) /usr/bin/python3 tests/bench/devices_bench.py $(BENCH_ARGS)
bench-report:
	@BUILD=$(abspath $(O)) /usr/bin/python3 tests/bench/bench.py --report

SECONDS ?= 3600
soak: all bench-programs
	@BUILD=$(abspath $(O)) /usr/bin/python3 tests/bench/soak.py --seconds $(SECONDS) $(SOAK_ARGS)

KILLS ?= 100
crash: all faults
	@BUILD=$(abspath $(O)) /usr/bin/python3 tests/system/crash/harness.py --kills $(KILLS) $(if $(SEED),--seed $(SEED)) $(CRASH_ARGS)

# memleak: cppcheck does not know __attribute__((cleanup)); LeakSanitizer finds the real ones
check:
	@scripts/check-layers
	@cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --suppress=memleak --include=scripts/cppcheck-macros.h -D_GNU_SOURCE -I. $(FOLDERS) examples
	@mkdir -p $(B)/tidy
	@printf '%s\n' -I$(CURDIR) -I$(CURDIR)/dan/public $(CPPFLAGS) -std=gnu17 $(sort $(foreach d,$(FOLDERS),$(flags_$(d)))) > $(B)/tidy/compile_flags.txt
	@$(CC) $(sort $(foreach d,$(FOLDERS),$(flags_$(d)))) $(CPPFLAGS) $(CFLAGS) -fsyntax-only $(FUZZ)
	@printf '%s\n' $(SRCS) $(EXAMPLES) | xargs -P $$(nproc) -n 4 clang-tidy --quiet --warnings-as-errors='*' -p $(B)/tidy 2>/dev/null

format:
	clang-format -i $(SRCS) $(HDRS) $(EXAMPLES) $(UNIT) $(FUZZ) $(BENCH) $(FAULTS)

# the programs write them: iotctl man
MAN_PAGES := iotctl.1 iottalk.ini.5 csm.8 ccm.8 gateway-agent.8 iottalk-engine.8
MAN_DIRS  := man1 man5 man8

install: install-suite install-sdk
install-suite: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/iottalk $(DESTDIR)$(PREFIX)/share/iottalk
	install -m 755 $(BINS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(O)/lib/$(PLUGIN) $(DESTDIR)$(PREFIX)/lib/iottalk
	install -m 644 $(O)/share/iottalk.ini.sample $(DESTDIR)$(PREFIX)/share/iottalk
	install -d $(MAN_DIRS:%=$(DESTDIR)$(PREFIX)/share/man/%) $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions
	for page in $(MAN_PAGES); do \
		$(O)/bin/iotctl man $${page%.*} >$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$page || exit; done
	$(O)/bin/iotctl completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/iotctl
	$(O)/bin/iotctl completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_iotctl
	install -d $(DESTDIR)$(PREFIX)/share/iottalk/grafana
	install -m 644 conf/grafana/iottalk.json $(DESTDIR)$(PREFIX)/share/iottalk/grafana
	install -d $(DESTDIR)$(PREFIX)/share/iottalk/templates
	install -m 644 $(TEMPLATES:%=conf/templates/%) $(DESTDIR)$(PREFIX)/share/iottalk/templates
	install -d $(DESTDIR)$(PREFIX)/share/iottalk/examples
	install -m 644 $(DEVICE_EXAMPLES:%=conf/examples/%) $(DESTDIR)$(PREFIX)/share/iottalk/examples
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(TMPFILESDIR) $(DESTDIR)$(dir $(CONF))
	for u in $(UNITS); do sed 's|@BINDIR@|$(PREFIX)/bin|; s|@CONF@|$(CONF)|' conf/systemd/$$u \
		> $(DESTDIR)$(UNITDIR)/$$u && chmod 644 $(DESTDIR)$(UNITDIR)/$$u || exit; done
	install -m 644 conf/systemd/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/iottalk.conf
	install -m 644 conf/systemd/tmpfiles.conf $(DESTDIR)$(TMPFILESDIR)/iottalk.conf
	[ -e $(DESTDIR)$(CONF) ] || install -m 644 $(O)/share/iottalk.ini $(DESTDIR)$(CONF)

install-sdk: sdk
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 644 dan/public/dan.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(O)/sdk/$(DAN_SO) $(O)/sdk/libdan.a $(DESTDIR)$(LIBDIR)
	ln -sf $(DAN_SO) $(DESTDIR)$(LIBDIR)/libdan.so
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR:$(PREFIX)/%=$${prefix}/%)|; s|@VERSION@|$(VERSION)|' dan/public/dan.pc.in \
		> $(DESTDIR)$(LIBDIR)/pkgconfig/dan.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/dan.pc

# what people made (userdirs, /var/lib/iottalk, the user iottalk, a configuration that was edited) stays: README.rst, "Uninstall"
uninstall: uninstall-sdk
	! cmp -s $(O)/share/iottalk.ini $(DESTDIR)$(CONF) || rm -f $(DESTDIR)$(CONF)
	rm -f $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%) $(DESTDIR)$(PREFIX)/share/iottalk/iottalk.ini.sample \
		$(DESTDIR)$(PREFIX)/lib/iottalk/$(PLUGIN) $(DESTDIR)$(PREFIX)/share/iottalk/grafana/iottalk.json \
		$(TEMPLATES:%=$(DESTDIR)$(PREFIX)/share/iottalk/templates/%) \
		$(DEVICE_EXAMPLES:%=$(DESTDIR)$(PREFIX)/share/iottalk/examples/%) \
		$(UNITS:%=$(DESTDIR)$(UNITDIR)/%) $(DESTDIR)$(SYSUSERSDIR)/iottalk.conf $(DESTDIR)$(TMPFILESDIR)/iottalk.conf
	rm -f $(foreach p,$(MAN_PAGES),$(DESTDIR)$(PREFIX)/share/man/man$(subst .,,$(suffix $(p)))/$(p)) \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/iotctl $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_iotctl
	-rmdir $(DESTDIR)$(PREFIX)/share/iottalk/grafana $(DESTDIR)$(PREFIX)/share/iottalk/templates \
		$(DESTDIR)$(PREFIX)/share/iottalk/examples $(DESTDIR)$(PREFIX)/share/iottalk $(DESTDIR)$(PREFIX)/lib/iottalk $(DESTDIR)$(dir $(CONF))

uninstall-sdk:
	rm -f $(DESTDIR)$(PREFIX)/include/dan.h $(addprefix $(DESTDIR)$(LIBDIR)/,$(DAN_SO) libdan.so libdan.a pkgconfig/dan.pc)

deb:
	@scripts/deb $(VERSION)

clean:
	rm -rf $(B)

.PHONY: all docs test test-unit test-system bench bench-programs bench-ccm bench-devices bench-report soak crash faults check format sdk install \
	install-suite install-sdk uninstall uninstall-sdk deb clean fuzz
.DELETE_ON_ERROR:
