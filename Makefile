# SPDX-License-Identifier: GPL-2.0-only
#
# The only entry point; "make help" lists what it does.

KVM_NMI_VERSION := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"$$/\1/p' dkms.conf)

# The kernel's build and make itself take a path with a space for two; a comma, a colon
# or a quote means something to one tool or the other. Letters of any language do not.
ifneq ($(shell pwd -P | LC_ALL=C tr -d 'A-Za-z0-9_./+~@\200-\377\n-' | wc -c),0)
$(error the path "$(CURDIR)" has a space, or a sign like a colon or a comma, which the kernel's build \
	cannot take: move the checkout to a path of letters, digits, - and _)
endif

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
MAKEFLAGS += --no-print-directory

# Empty when there is no such kernel: "modules" then says what there is. Not
# every target needs one, and "deps" may yet install it.
wanted := $(KVER)
# KDIR is the build folder of a kernel, SRC its source where that is not beside it.
ifneq ($(KDIR),)
override KDIR := $(abspath $(KDIR))
endif
export KDIR SRC ALLOW_SERIES
# Shells and systems have a HOST and a NAME of their own, which are this machine's.
ifneq ($(origin HOST),command line)
override undefine HOST
endif
ifneq ($(origin NAME),command line)
override undefine NAME
endif
ask-kernel = $(shell ALLOW_SERIES='$(ALLOW_SERIES)' KDIR='$(KDIR)' SRC='$(SRC)' KVER='$1' scripts/kernel $2 2>/dev/null)
override KVER := $(call ask-kernel,$(wanted))
KHEADERS := $(call ask-kernel,$(KVER),--headers)
export KVER KHEADERS KVM_NMI_VERSION

series := $(shell echo $(KVER) | cut -d. -f1,2)
out := build/$(KVER)
graft := $(out)/graft
modules := $(out)/kvm-intel.ko $(out)/kvm-amd.ko

cocci := $(sort $(filter-out arch/x86/kvm/fixes/%,$(wildcard arch/x86/kvm/*/*.cocci)))
ours := $(sort $(wildcard arch/x86/kvm/*.[ch] arch/x86/kvm/*/*.[ch]))

# For a make that was not told how many.
jobs = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

all: modules

# What "make help" names, and of that what needs packages first: each has a recipe by
# the name of run-.
named := $(shell sed -n 's/^.. make \([a-z-]*\) .*/\1/p' Makefile)
after-deps := $(shell sed -n 's/^run-\([a-z-]*\):.*/\1/p' Makefile)
.PHONY: all help modules known-host known-hosts report-possible iso-parts FORCE $(named) $(after-deps:%=run-%)

help:
	@sed -n 's/^## //p' Makefile

## make               build kvm-intel.ko and kvm-amd.ko (KVER= or KDIR=, SRC= choose the kernel,
##                    ALLOW_SERIES= one that is not supported)
ifeq ($(KVER),)
modules $(out)/src/.version:
	@KVER='$(wanted)' scripts/kernel >/dev/null
	@echo "make: a kernel to build for came only now: the same again" >&2; exit 1
else
modules: $(modules)

# A package that replaces another keeps its files' times, which may be older
# than what was made from the one before. When dpkg did it is in its lists.
dpkg-lists := $(wildcard $(foreach package,linux-source-$(series) linux-headers-$(KVER),\
	/var/lib/dpkg/info/$(package).list /var/lib/dpkg/info/$(package):*.list \
	$(out)/headers/.packages/$(package)))

# Somebody's own source may have changed since.
own := $(call ask-kernel,$(KVER),--source)
$(out)/src/.version: scripts/unpack-source $(dpkg-lists) $(if $(own),FORCE)
	@scripts/unpack-source $(out)/src
endif

# Editing a file of ours compiles it again; only another set of files, or
# another semantic patch, needs a new graft.
ifneq ($(file <$(graft)/.inputs),$(strip $(cocci) $(ours)))
$(graft)/.inputs: FORCE
endif
$(graft)/.inputs: $(cocci) $(out)/src/.version scripts/graft
	@flock $(out) scripts/graft $(out)/src . $(graft)
	@echo $(strip $(cocci) $(ours)) > $@

# The .ko are for loading: the debug information stays in the grafted tree. BTF
# needs the vmlinux that a headers package does not have, and is asked for here
# by nobody. A kernel built anew where it was built before is another kernel.
$(modules) &: $(graft)/.inputs $(ours) Kbuild Makefile scripts/same-kernel \
		$(wildcard $(KHEADERS)/Module.symvers $(KHEADERS)/include/generated/autoconf.h)
	@echo "compiling kvm-intel.ko and kvm-amd.ko for $(KVER)"
	@flock $(out) $(MAKE) $(jobs) -C $(KHEADERS) \
		M=$(CURDIR)/$(graft)/arch/x86/kvm CONFIG_DEBUG_INFO_BTF_MODULES= modules 2>&1 | \
		sed -u 's|$(CURDIR)/$(graft)/||g'
	@scripts/same-kernel /lib/modules/$(KVER) $(modules:$(out)/%=$(graft)/arch/x86/kvm/%)
	@for module in $(notdir $(modules)); do \
		objcopy --strip-debug $(graft)/arch/x86/kvm/$$module $(out)/$$module; \
	done

## make selftests     build the tests that run in a host or on this machine
selftests: $(out)/src/.version
	@$(MAKE) -s $(jobs) -C tools/testing/selftests/kvm \
		KSRC=$(CURDIR)/$(out)/src OUTPUT=$(CURDIR)/$(out)/selftests

$(out)/selftests/cpu_facts: tools/report/cpu_facts.c
	@mkdir -p $(@D)
	@gcc -O2 -Wall -Wextra -static -o $@ $<

## make image         fetch the kernel that the hosts boot; KVER= may be one without headers
# It is unpacked, not installed. One that was built from its own source is taken from
# where it was built, or from IMAGE.
ifneq ($(own)$(IMAGE),)
image:
	@scripts/own-image '$(IMAGE)'
else
image:
	@kver=$${KVER:-$$([ -z '$(wanted)' ] && scripts/kernel || scripts/suite --for '$(wanted)' scripts/newest-kernel '$(wanted)')}; \
	scripts/suite --for "$$kver" scripts/fetch-packages build/$$kver/image linux-image-$$kver

endif

## make deps          install the Debian packages that all this needs, fetch the kernels of the hosts
# After that everything but updates, other releases, make strict-cpu and the kernels of other
# series in make compare works without a network.
# With sudo make the user is to go on in build/ afterwards, however it ends.
give-back = trap scripts/give-back EXIT
no-apt := $(if $(shell command -v apt-get),,y)
deps:
	@$(give-back); KVER='$(wanted)' scripts/deps $(purposes)
	@$(give-back); [ -n '$(own)$(IMAGE)' ] || $(if $(filter test,$(or $(purposes),test)),$(MAKE) KVER='$(wanted)' image,:)
	@$(give-back); $(if $(or $(purposes),$(no-apt)),:,python3 -B tools/testing/harness/other_l1.py && tools/testing/clients/run --fetch)

## make strict-cpu    build the CPU of the hosts amd-strict and amd-strict-vnmi, once, in ten minutes
## make strict-cpu-patches   the same as patches on QEMU's tree, in build/strict-cpu/patches
run-strict-cpu:
	@tools/testing/hosts/strict/build

run-strict-cpu-patches: run-strict-cpu
	@tools/testing/hosts/strict/patches

# Where one of those is asked for, what boots it comes first.
strict := $(if $(filter amd-strict%,$(HOSTS) $(HOST)),strict)
ifneq ($(strict),)
run-check run-check-clients run-check-long run-check-debug run-compare run-fuzz run-report run-shell: run-strict-cpu
endif

## make demo          boot an emulated AMD host, send NMIs to a guest there, show what happens (HOST=intel)
## make check         the tests on the hosts amd, amd-vnmi, intel and intel-soft, and those of the build
##                    (HOSTS="amd intel-pml" for other hosts, PARTS="amd unit" for some parts)
## make check-fresh   demo and check in a minimal Debian made for it (RELEASE=bookworm or trixie, as root)
## make check-long    make check and more of it: all tests on amd-vnmi and under the other L1, what comes at
##                    random five to ten times, check-debug
## make check-clients what people do with NMIs: QEMU's monitor, libvirt, dumps, sysrq-l, migration, KGDB
##                    (HOST=amd-strict-vnmi on a CPU with vNMI, HOST=intel, HOST=intel-soft,
##                    STOCK=1 with the distribution's module)
## make check-debug   the tests on a kernel with KASAN, UBSAN and lockdep, built here once
## make model         search all states of the models of the NMI paths
## make compare       the same tests and what NMIs cost, ours beside the distribution's modules
##                    (PARTS=claims or costs, HOSTS=)
## make fuzz          random programs beside a model for MINUTES=10 on HOST=amd, from SEED= on
##                    (PROGRAMS= for so many, STOCK=1 with the distribution's module)
## make report        what this machine's CPU does, with the distribution's module and ours (as root; HOST=amd
##                    on an emulated one; PROGRAMS=, SAMPLES=, TESTS= for other amounts, NAME= of its files)
## make iso           an image for a stick or CD, BIOS or UEFI, that says what a CPU or hypervisor does
##                    (KVERS="6.1 6.12 7.3" for several kernels)
## make shell         a root prompt on an emulated host (HOST=amd, amd-vnmi, amd-strict, amd-strict-vnmi,
##                    intel, intel-soft, intel-pml, intel-arrow-lake)
## make lint          checkpatch, sparse, shellcheck, spatch, pyflakes3, pycodestyle on all there is here
## make docs          these pages as HTML in build/docs; a warning of sphinx is an error
## make dkms          have DKMS build the modules, now and at each kernel update (as root)
## make deb           a Debian package that does the same, in build/deb
# "deps" may install the headers that decide which kernel all this is for, so
# what comes after it is another make.
check-clients: purposes := build test clients $(strict)
compare fuzz shell: purposes := build test $(strict)
demo: purposes := build test
strict-cpu: purposes := strict
strict-cpu-patches: purposes := strict patches
model: purposes := model
dkms: purposes := build dkms
deb: purposes := build deb
lint: purposes := build lint
docs: purposes := docs
check-debug: purposes := build test debug $(strict)
patches check-patches: purposes := build patches
nmi-guest: purposes := guest
iso: purposes := build iso guest
# Only with HOST= is it for an emulated host.
report-host := $(HOST)
report: purposes := build report $(if $(report-host),test $(strict))
# What is in the way of it is told before anything is installed or built. So is the name of a
# host misspelt, if Python is there to tell. It is deps that has to wait: what a target with a
# recipe needs for that comes ahead of all else that it needs.
ifneq ($(filter report,$(MAKECMDGOALS)),)
deps: report-possible
endif
ifneq ($(filter demo shell fuzz check-clients report,$(MAKECMDGOALS)),)
deps: known-host
endif
ifneq ($(filter check-clients,$(MAKECMDGOALS)),)
deps: known-stock
endif
$(after-deps): deps
	@$(give-back); $(MAKE) KVER='$(wanted)' run-$@

# A name misspelt is told before anything is built.
known-host:
	@$(if $(HOST),! command -v python3 >/dev/null || HOST='$(HOST)' python3 -B tools/testing/harness/suite.py HOST,:)

known-stock:
	@case '$(STOCK)' in '' | 1) ;; *) \
		echo "STOCK: it is 1, for the distribution's module, or not set, but not $(STOCK)" >&2; exit 1 ;; esac

known-hosts:
	@HOSTS='$(HOSTS)' python3 -B tools/testing/harness/suite.py

run-check: known-hosts modules selftests $(out)/selftests/cpu_facts image run-nmi-guest
	@HOSTS='$(HOSTS)' tools/testing/harness/check

check-fresh: purposes := fresh
check-fresh: deps
	@HOSTS='$(HOSTS)' tools/testing/install/fresh '$(RELEASE)' tools/testing/install/fresh-check

run-check-long: known-hosts modules selftests $(out)/selftests/cpu_facts image run-nmi-guest
	@status=0; LONG=1 HOSTS='$(HOSTS)' tools/testing/harness/check || status=1; \
	$(MAKE) run-check-debug || status=1; exit $$status

# The guest's kernel first, for it is seen then how far that is. The parts are there only with amd.
clients-hosts = amd $(filter-out amd,$(HOST))
run-check-clients: modules selftests image
	@tools/testing/clients/run --kernel
	@LONG=1 STOCK='$(STOCK)' HOSTS='$(clients-hosts)' \
	PARTS='$(if $(STOCK),,xen) guests clients observers $(if $(STOCK),,$(if $(filter intel% amd-strict%,$(HOST)),cpus-$(HOST),cpus))' \
		tools/testing/harness/check

# The kernel gets modules of its own, and tests: one of them holds a module, too.
run-check-debug: known-hosts
	@tools/testing/debug/build-kernel
	@debug=$$(tools/testing/debug/build-kernel --name); \
	$(MAKE) KVER=$$debug modules selftests; \
	HOSTS='$(HOSTS)' tools/testing/debug/check $$debug

run-compare: known-hosts modules selftests image
	@HOSTS='$(HOSTS)' tools/testing/harness/compare

run-model:
	@tools/testing/model/verify

run-fuzz: modules selftests image
	@HOST='$(HOST)' MINUTES='$(MINUTES)' SEED='$(SEED)' PROGRAMS='$(PROGRAMS)' STOCK='$(STOCK)' \
		tools/testing/harness/fuzz

tried := $(or $(if $(KDIR),$(KVER),$(wanted)),$(shell uname -r))
report-possible:
	@$(if $(report-host),:,KVER='$(tried)' CALLER=report scripts/load-module check && \
		KVER='$(tried)' CALLER=report scripts/deps --possible $(purposes))

run-report: modules selftests $(out)/selftests/cpu_facts $(if $(report-host),image)
	@TESTS='$(TESTS)' PROGRAMS='$(PROGRAMS)' SAMPLES='$(SAMPLES)' tools/report/report \
		$(if $(NAME),--name '$(NAME)') $(if $(report-host),--host '$(report-host)')

iso-parts: modules selftests $(out)/selftests/cpu_facts image

run-iso: run-nmi-guest
	@for kver in $(or $(KVERS),$(KVER)); do \
		$(MAKE) KVER=$$kver purposes='build iso' deps; \
		$(MAKE) KVER=$$kver iso-parts; \
	done
	@tools/iso/build build/iso/kvm-nmi.iso \
		$$(for kver in $(or $(KVERS),$(KVER)); do KVER=$$kver scripts/kernel; done)

HOST ?= amd
run-demo: modules image
	@HOST='$(HOST)' tools/demo/demo

run-shell: modules image
	@tools/testing/hosts/run $(HOST) --shell

run-lint: modules
	@scripts/lint

run-docs:
	@sphinx-build -q -W --keep-going -b html -d build/docs/.doctrees Documentation build/docs
	@echo "docs: build/docs/index.html"

run-dkms:
	@scripts/dkms install

## make dkms-remove   take the modules out of DKMS again, for all kernels (as root)
dkms-remove:
	@scripts/dkms remove

run-deb:
	@scripts/deb

## make patches       write the same code as patches for the kernel's source, in build/KVER/patches
## make check-patches the same, and compile both modules after each patch
run-patches: $(graft)/.inputs
	@scripts/patches $(out)/src . $(graft) $(out)/patches

run-check-patches: modules
	@scripts/patches --build $(out)/src . $(graft) $(out)/patches

## make port-report   try the semantic patches on the newest kernel of Debian (SUITE= for that of one suite)
port-report: purposes := build
port-report: deps
	@scripts/port-report '$(SUITE)'

## make check-updates graft onto every kernel of the supported series that Debian offers (SUITES=)
check-updates: purposes := build
check-updates: deps
	@scripts/check-updates $(SUITES)

## make nmi-guest     build a program to boot that tells what a CPU or hypervisor does with NMIs
run-nmi-guest:
	@$(MAKE) -s -C tools/nmi-guest OUTPUT=$(CURDIR)/build/nmi-guest VERSION=$(KVM_NMI_VERSION)
	@echo "nmi-guest: build/nmi-guest/nmi-guest; where it can run: tools/nmi-guest/run --help"

## make kselftest     run the tests on this machine, with the module of make load
# Nothing run is no success.
kselftest:
	@if ! [ -r /dev/kvm -a -w /dev/kvm ]; then \
		echo "kselftest: skipped, /dev/kvm is missing or not yours to use" >&2; exit 4; \
	elif ! [ -e /sys/module/kvm_intel/version -o -e /sys/module/kvm_amd/version ]; then \
		echo "kselftest: skipped, the loaded module is not this project's: sudo make load" >&2; exit 4; \
	else \
		$(MAKE) selftests; \
		$(MAKE) -C tools/testing/selftests/kvm KSRC=$(CURDIR)/$(out)/src \
			OUTPUT=$(CURDIR)/$(out)/selftests run_tests; \
	fi

## make load          use the built module on this machine (as root)
## make unload        use the distribution's again (as root)
unload load:
	@KVER='$(or $(KVER),$(wanted))' scripts/load-module $@

## make clean         remove modules, selftests and patches (all there is: rm -r build)
clean:
	rm -rf $(addprefix build/*/,src graft kvm-*.ko selftests patches)

FORCE:
.DELETE_ON_ERROR:
