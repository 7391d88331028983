# Rekindle: one non-recursive Makefile. Objects and products live under $(BUILD); file lists are explicit.
#
#   make demo    boot a function in a microVM, send it an event, print the answer and the time each stage took
#   make test    unit, fuzz and integration tests
#   make check   format, static analysis, include arrows, sizes
#   make fuzz    run the fuzz targets for long
#   make prove   prove, for all inputs within bounds, what tests/proof states
#   make bench   measure, print and write build/bench.json
#   make all     build everything
#
# What is missing on a Debian machine is installed by the targets that need it (.setup/), once.

BUILD ?= $(if $(SANITIZE),build/$(SANITIZE),build)
SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

include .setup/versions

# Built once, whatever $(BUILD) is.
THIRD := build/third-party
LINUX_TREE := build/linux-source
KERNEL := build/kernel
KVMHOST := build/kvmhost

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wswitch-enum -Wimplicit-fallthrough -Wmissing-prototypes -Wvla -Wconversion
CSTD := -std=c11 -D_GNU_SOURCE
INCLUDES := -I. -isystem $(THIRD)/include

# What ships: static, musl. Relocation-read-only and stack protection everywhere; PIE where the address layout matters.
MUSL_CC := musl-gcc
MUSL_CFLAGS := $(CSTD) $(WARNINGS) -Os -g -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections \
	-fstack-protector-strong -D_FORTIFY_SOURCE=2 $(INCLUDES) -isystem $(THIRD)/linux/include
MUSL_LDFLAGS := -static -Wl,--gc-sections -Wl,-z,relro,-z,now,-z,noexecstack -s

# Unit tests: the machine's own compiler and libc, with sanitizers.
UNIT_CC := gcc
UNIT_CFLAGS := $(CSTD) $(WARNINGS) -O1 -g -fno-omit-frame-pointer $(INCLUDES)
# make SANITIZE=thread or SANITIZE=address: in a BUILD of its own, the unit tests under that one, and a hostvmm of the machine's own
# libc under it in place of the static one, for the integration tests, but for those of the jail: a sanitizer has a thread or files
# of its own, and no jail lets it. (Warnings: what GCC says of fences, which that one does not understand, of differences
# between the two libcs, and of ranges that sanitizers hide from it.)
ifdef SANITIZE
UNIT_CFLAGS += -Wno-error -Wno-conversion -Wno-format-truncation
endif
ifeq ($(SANITIZE),thread)
UNIT_CFLAGS += -fsanitize=thread -Wno-tsan -static-libtsan
else
UNIT_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined $(if $(SANITIZE),-static-libasan -static-libubsan)
endif
# BearSSL calls nothing of a libc but memory functions: one build serves both.
UNIT_LIBS := $(THIRD)/lib/libcbor-host.a $(THIRD)/lib/libbearssl-host.a $(THIRD)/lib/libmicrohttpd-host.a \
	$(THIRD)/lib/libjansson-host.a -lcmocka -lpthread

# Fuzz targets: clang's libFuzzer with the same sanitizers.
FUZZ_CC := clang
FUZZ_CFLAGS := $(CSTD) -Wall -Wextra -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=undefined $(INCLUDES)
FUZZ_SECONDS ?= 60

musl = $(patsubst %.c,$(BUILD)/musl/%.o,$(1))
unit = $(patsubst %.c,$(BUILD)/unit-objects/%.o,$(1))
fuzz = $(patsubst %.c,$(BUILD)/fuzz-objects/%.o,$(1))

$(BUILD)/musl/%.o: %.c | $(THIRD)/stamp
	@mkdir -p $(@D)
	$(QUIET_CC)$(MUSL_CC) $(MUSL_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/unit-objects/%.o: %.c | $(THIRD)/stamp build/.packages-test
	@mkdir -p $(@D)
	$(QUIET_CC)$(UNIT_CC) $(UNIT_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/fuzz-objects/%.o: %.c | $(THIRD)/stamp build/.packages-test
	@mkdir -p $(@D)
	$(QUIET_CC)$(FUZZ_CC) $(FUZZ_CFLAGS) -MMD -MP -c $< -o $@

ifndef V
QUIET_CC = @echo "  CC    $<";
QUIET_LD = @echo "  LINK  $@";
endif

# Link rules. $(call musl_program,NAME,SOURCES,LIBRARIES), $(call unit_test,NAME,SOURCES), $(call fuzz_target,NAME,SOURCES,LIBRARIES)
define musl_program
MUSL_PROGRAMS += $(BUILD)/$(1)
$(BUILD)/$(1): $(call musl,$(2))
	@mkdir -p $$(@D)
	$$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $$^ $(3) -o $$@
endef
define unit_test
UNIT_TESTS += $(BUILD)/tests/unit/$(1)
$(BUILD)/tests/unit/$(1): $(call unit,$(2))
	@mkdir -p $$(@D)
	$$(QUIET_LD)$(UNIT_CC) $(UNIT_CFLAGS) $$^ $(UNIT_LIBS) -o $$@
endef
define fuzz_target
FUZZ_TARGETS += $(BUILD)/tests/fuzz/$(1)
$(BUILD)/tests/fuzz/$(1): $(call fuzz,$(2))
	@mkdir -p $$(@D)
	$$(QUIET_LD)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer $$^ $(THIRD)/lib/libcbor-host.a $(THIRD)/lib/libbearssl-host.a $(3) -lpthread -o $$@
endef

BASE_SOURCES := agent/base/log.c agent/base/fd.c agent/base/loop.c
$(eval $(call unit_test,base_test,tests/unit/base/base_test.c $(BASE_SOURCES)))

# ---- agent/proto, agent, agent/function ------------------------------------------------------------------------
# proto and function
PROTO_SOURCES := agent/proto/schema.c agent/proto/decode.c agent/proto/encode.c agent/proto/utf8.c agent/proto/frame.c \
	agent/proto/network.c
PROTO_TEST_SOURCES := tests/unit/proto/support.c tests/unit/proto/samples.c $(PROTO_SOURCES)
$(eval $(call unit_test,proto_codec_test,tests/unit/proto/codec_test.c $(PROTO_TEST_SOURCES)))
$(eval $(call unit_test,proto_refusal_test,tests/unit/proto/refusal_test.c $(PROTO_TEST_SOURCES)))
$(eval $(call unit_test,proto_frame_test,tests/unit/proto/frame_test.c $(PROTO_SOURCES)))
$(eval $(call fuzz_target,proto,tests/fuzz/proto.c $(PROTO_SOURCES)))
$(eval $(call unit_test,proto_network_test,tests/unit/proto/network_test.c agent/proto/network.c))
$(eval $(call fuzz_target,network,tests/fuzz/network.c agent/proto/network.c))
# The seeds are kept in the tree; `$(BUILD)/tests/fuzz/proto-seeds tests/fuzz/corpus/proto` writes them again.
$(BUILD)/tests/fuzz/proto-seeds: $(call unit,tests/fuzz/proto_seeds.c tests/unit/proto/samples.c $(PROTO_SOURCES))
	@mkdir -p $(@D)
	$(QUIET_LD)$(UNIT_CC) $(UNIT_CFLAGS) $^ $(UNIT_LIBS) -o $@

# The function library carries the codec and libcbor in it: a function links this one archive.
FUNCTION_SOURCES := agent/function/function.c agent/function/wire.c agent/function/reply.c agent/function/local.c \
	agent/function/hooks.c agent/function/unique.c agent/function/connect.c
FUNCTION_LIBRARY_SOURCES := $(FUNCTION_SOURCES) $(PROTO_SOURCES) agent/base/fd.c agent/base/log.c
MUSL_PROGRAMS += $(BUILD)/libfunction.a $(BUILD)/libfunction-glibc.a
define function_library
	@rm -f $@
	$(QUIET_LD)printf '%s\n' 'create $@' 'addlib $(1)' $(patsubst %,'addmod %',$^) save end | ar -M
endef
$(BUILD)/libfunction.a: $(call musl,$(FUNCTION_LIBRARY_SOURCES))
	$(call function_library,$(THIRD)/lib/libcbor.a)
# The same for functions that use the machine's own libc and compiler.
$(BUILD)/libfunction-glibc.a: $(patsubst %.c,$(BUILD)/glibc/%.o,$(FUNCTION_LIBRARY_SOURCES))
	$(call function_library,$(THIRD)/lib/libcbor-host.a)
$(BUILD)/glibc/%.o: %.c | $(THIRD)/stamp
	@mkdir -p $(@D)
	$(QUIET_CC)gcc $(CSTD) $(WARNINGS) -O2 -g $(INCLUDES) -MMD -MP -c $< -o $@
-include $(patsubst %.c,$(BUILD)/glibc/%.d,$(FUNCTION_LIBRARY_SOURCES))

# Examples: a directory each, as the image builder takes it. function-exec is for directories that hold a script.
FUNCTION_EXAMPLES := hello wordcount misbehave identity identity-twin keepalive
FUNCTIONS := $(patsubst %,$(BUILD)/functions/%/bootstrap,$(FUNCTION_EXAMPLES))
MUSL_PROGRAMS += $(FUNCTIONS) $(BUILD)/function-exec
$(FUNCTIONS): $(BUILD)/functions/%/bootstrap: $(BUILD)/musl/agent/function/examples/%.o $(BUILD)/libfunction.a
	@mkdir -p $(@D)
	$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $^ -o $@
# One example is too long for one file.
$(BUILD)/functions/misbehave/bootstrap: $(BUILD)/musl/agent/function/examples/misbehave_guest.o
# The same source without its hook: what the audit has to find.
$(BUILD)/musl/agent/function/examples/identity-twin.o: agent/function/examples/identity.c | $(THIRD)/stamp
	@mkdir -p $(@D)
	$(QUIET_CC)$(MUSL_CC) $(MUSL_CFLAGS) -DIDENTITY_TWIN -MMD -MP -c $< -o $@
$(BUILD)/function-exec: $(call musl,agent/function/exec.c) $(BUILD)/libfunction.a
	$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $^ -o $@
$(eval $(call unit_test,function_test,tests/unit/function/function_test.c $(FUNCTION_LIBRARY_SOURCES)))
$(eval $(call unit_test,function_hooks_test,tests/unit/function/hooks_test.c $(FUNCTION_LIBRARY_SOURCES)))
$(eval $(call unit_test,function_connect_test,tests/unit/function/connect_test.c agent/function/connect.c agent/base/fd.c))
# These include the example's source.
$(eval $(call unit_test,function_keepalive_test,tests/unit/function/keepalive_test.c $(FUNCTION_LIBRARY_SOURCES)))
$(eval $(call fuzz_target,keepalive,tests/fuzz/keepalive.c $(FUNCTION_LIBRARY_SOURCES)))
SCRIPT_TESTS += tests/unit/function/local.test.sh

# The HTTP form of the function contract, as far as bytes go.
HTTP_SOURCES := agent/http.c agent/http_reply.c agent/http_failure.c
$(eval $(call unit_test,http_test,tests/unit/agent/http_test.c $(HTTP_SOURCES) $(PROTO_SOURCES)))
$(eval $(call fuzz_target,http,tests/fuzz/http.c $(HTTP_SOURCES) $(PROTO_SOURCES)))
# end of proto and function

# connections: their manifest, names to addresses, TLS
AGENT_TLS_SOURCES := agent/tls/manifest.c agent/tls/dns_message.c agent/tls/dns_system.c agent/tls/dns.c
$(eval $(call unit_test,tls/manifest_test,tests/unit/tls/manifest_test.c agent/tls/manifest.c))
$(eval $(call unit_test,tls/dns_message_test,tests/unit/tls/dns_message_test.c tests/unit/tls/dns_answers.c \
	agent/tls/dns_message.c))
$(eval $(call unit_test,tls/dns_test,tests/unit/tls/dns_test.c tests/unit/tls/dns_stage.c tests/unit/tls/dns_answers.c \
	tests/unit/tls/fake_network.c agent/tls/dns_message.c agent/tls/dns_system.c agent/tls/dns.c $(BASE_SOURCES)))
$(eval $(call fuzz_target,manifest,tests/fuzz/manifest.c agent/tls/manifest.c))
$(eval $(call fuzz_target,dns,tests/fuzz/dns.c agent/tls/dns_message.c))
# upstreams and what they trust
AGENT_CREDENTIALS_SOURCES := agent/tls/credentials.c agent/tls/anchors.c agent/tls/revocation.c agent/tls/certificate.c \
	agent/tls/der.c agent/tls/pem.c agent/base/fd.c
AGENT_UPSTREAM_SOURCES := agent/tls/upstream.c agent/tls/upstream_socket.c agent/tls/engine.c agent/tls/engine_data.c \
	agent/tls/trust.c agent/tls/proven.c agent/tls/failure.c agent/tls/wipe.c $(AGENT_CREDENTIALS_SOURCES)
AGENT_TLS_SOURCES += $(filter-out agent/base/%,$(AGENT_UPSTREAM_SOURCES))
# Certificates, right and wrong, for the tests of TLS (tests/support/tls-certs.sh says which).
TLS_CERTS := $(BUILD)/tests/tls-certs
$(TLS_CERTS)/ca.pem: tests/support/tls-certs.sh | build/.packages-test
	@rm -rf $(@D)
	@tests/support/tls-certs.sh $(@D)
UPSTREAM_TEST_SOURCES := tests/unit/tls/upstream_stage.c tests/unit/tls/upstream_server.c $(AGENT_UPSTREAM_SOURCES) \
	agent/base/log.c agent/base/loop.c
$(eval $(call unit_test,tls/upstream_test,tests/unit/tls/upstream_test.c $(UPSTREAM_TEST_SOURCES)))
$(eval $(call unit_test,tls/upstream_held_test,tests/unit/tls/upstream_held_test.c $(UPSTREAM_TEST_SOURCES)))
$(eval $(call unit_test,tls/upstream_failure_test,tests/unit/tls/upstream_failure_test.c $(UPSTREAM_TEST_SOURCES)))
$(eval $(call unit_test,tls/upstream_openssl_test,tests/unit/tls/upstream_openssl_test.c $(UPSTREAM_TEST_SOURCES)))
$(eval $(call unit_test,tls/proven_test,tests/unit/tls/proven_test.c agent/tls/proven.c $(AGENT_CREDENTIALS_SOURCES)))
$(eval $(call unit_test,tls/credentials_test,tests/unit/tls/credentials_test.c $(AGENT_CREDENTIALS_SOURCES)))
$(patsubst %,$(BUILD)/tests/unit/tls/%_test,upstream upstream_held upstream_failure upstream_openssl credentials proven): | $(TLS_CERTS)/ca.pem
$(eval $(call fuzz_target,pem,tests/fuzz/pem.c $(AGENT_CREDENTIALS_SOURCES)))
# end of upstreams

# The table of connections, against upstreams in memory.
TLS_TABLE_SOURCES := agent/tls/connections.c agent/tls/pool.c agent/tls/line.c agent/tls/report.c agent/tls/door.c \
	agent/loopback.c agent/tls/local.c agent/tls/pump.c agent/tls/ask.c agent/tls/turn.c
AGENT_TLS_SOURCES += $(TLS_TABLE_SOURCES)
TLS_TABLE_TEST_SOURCES := tests/unit/tls/connections_stage.c tests/unit/tls/fake_upstream.c agent/tls/manifest.c \
	$(TLS_TABLE_SOURCES) $(BASE_SOURCES)
$(foreach part,local pool ask turn,$(eval $(call unit_test,tls/connections_$(part)_test,\
	tests/unit/tls/connections_$(part)_test.c $(TLS_TABLE_TEST_SOURCES))))
# end of connections

# agent
AGENT_SOURCES := agent/parent.c agent/failure.c agent/backlog.c agent/lifecycle.c agent/link.c agent/output.c agent/cgroup.c \
	agent/client.c agent/event.c agent/answer.c agent/session.c agent/session_limits.c agent/server.c \
	agent/session_checkpoint.c agent/session_resume.c \
	agent/channel.c agent/http_link.c agent/http_serve.c agent/loopback.c $(HTTP_SOURCES)
# The guest's interfaces, set by the agent.
AGENT_NET_SOURCES := agent/net/net.c agent/net/plan.c agent/net/message.c agent/net/announce.c agent/net/kernel.c \
	agent/net/files.c agent/proto/network.c
$(eval $(call unit_test,agent_net/plan_test,tests/unit/agent_net/plan_test.c agent/net/plan.c agent/proto/network.c))
$(eval $(call unit_test,agent_net/message_test,tests/unit/agent_net/message_test.c agent/net/message.c agent/net/plan.c \
	agent/proto/network.c))
$(eval $(call unit_test,agent_net/announce_test,tests/unit/agent_net/announce_test.c agent/net/announce.c agent/net/plan.c \
	hostvmm/device/virtio/net_gate.c agent/proto/network.c))
$(eval $(call fuzz_target,rtnetlink,tests/fuzz/rtnetlink.c agent/net/message.c agent/net/plan.c agent/proto/network.c))
# The function's process, and what it may ask of the kernel.
AGENT_PROCESS_SOURCES := agent/process.c agent/confine.c agent/isolate.c agent/isolate_mounts.c agent/arch_x86_64.c
$(eval $(call unit_test,agent_confine_test,tests/unit/agent/confine_test.c agent/confine.c agent/arch_x86_64.c))
$(eval $(call unit_test,agent_isolate_test,tests/unit/agent/isolate_test.c agent/isolate.c agent/isolate_mounts.c $(BASE_SOURCES)))
# What the agent does to its guest around a snapshot, and what it tells the audit.
AGENT_RESUME_SOURCES := agent/resume.c agent/resume/clock.c agent/resume/page.c agent/resume/identity.c agent/resume/secrets.c \
	agent/resume/netlink.c agent/resume/sockets.c agent/drbg.c agent/facts.c agent/facts_net.c agent/facts_process.c \
	$(AGENT_NET_SOURCES) $(AGENT_TLS_SOURCES)
$(eval $(call musl_program,agent,agent/main.c $(AGENT_PROCESS_SOURCES) $(AGENT_SOURCES) $(AGENT_RESUME_SOURCES) $(PROTO_SOURCES) \
	$(BASE_SOURCES),$(THIRD)/lib/libcbor.a $(THIRD)/lib/libbearssl.a))
# The same agent with a step of a resume made to fail, for tests in a VM: its own table in place of the real one.
MUSL_PROGRAMS += $(BUILD)/tests/guest/agent-faulty
$(BUILD)/tests/guest/agent-faulty: $(call musl,tests/guest/agent-faulty.c agent/main.c $(AGENT_PROCESS_SOURCES) $(AGENT_SOURCES) \
		$(filter-out agent/resume.c,$(AGENT_RESUME_SOURCES)) $(PROTO_SOURCES) $(BASE_SOURCES)) $(BUILD)/tests/guest/resume-renamed.o
	@mkdir -p $(@D)
	$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $^ $(THIRD)/lib/libcbor.a $(THIRD)/lib/libbearssl.a -o $@
$(BUILD)/tests/guest/resume-renamed.o: $(BUILD)/musl/agent/resume.o
	@mkdir -p $(@D)
	@objcopy --redefine-sym resume_steps=real_resume_steps $< $@
# The same agent under sanitizers, against a function that breaks the channel by hand and one that misbehaves.
AGENT_TEST_PARTS := agent rude misbehave hello http-function identity identity-twin
AGENT_TEST_PARTS := $(patsubst %,$(BUILD)/tests/agent/%,$(AGENT_TEST_PARTS))
$(BUILD)/tests/agent/agent: $(call unit,agent/main.c $(AGENT_PROCESS_SOURCES) $(AGENT_SOURCES) $(AGENT_RESUME_SOURCES) $(PROTO_SOURCES) \
		$(BASE_SOURCES))
	@mkdir -p $(@D)
	$(QUIET_LD)$(UNIT_CC) $(UNIT_CFLAGS) $^ $(THIRD)/lib/libcbor-host.a $(THIRD)/lib/libbearssl-host.a -o $@
$(BUILD)/tests/agent/rude: $(call musl,tests/unit/agent/rude.c agent/base/fd.c $(PROTO_SOURCES))
	@mkdir -p $(@D)
	$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $^ $(THIRD)/lib/libcbor.a -o $@
$(patsubst %,$(BUILD)/tests/agent/%,misbehave hello identity identity-twin): $(BUILD)/tests/agent/%: $(BUILD)/functions/%/bootstrap
	@mkdir -p $(@D)
	@cp $< $@
$(BUILD)/tests/agent/http-function: $(BUILD)/tests/guest/http-function
	@mkdir -p $(@D)
	@cp $< $@
AGENT_STAGE_SOURCES := tests/unit/agent/stage.c tests/unit/agent/talk.c tests/unit/agent/fake_process.c \
	tests/unit/agent/fake_resume.c tests/unit/agent/fake_connections.c \
	$(AGENT_SOURCES) $(PROTO_SOURCES) $(BASE_SOURCES)
AGENT_SNAPSHOT_SOURCES := tests/unit/agent/snapshot_stage.c tests/unit/agent/snapshot_talk.c $(AGENT_STAGE_SOURCES)
$(eval $(call unit_test,agent_session_test,tests/unit/agent/session_test.c $(AGENT_STAGE_SOURCES)))
$(eval $(call unit_test,agent_session_flow_test,tests/unit/agent/session_flow_test.c $(AGENT_STAGE_SOURCES)))
$(eval $(call unit_test,agent_session_checkpoint_test,tests/unit/agent/session_checkpoint_test.c \
	$(AGENT_SNAPSHOT_SOURCES)))
$(eval $(call unit_test,agent_session_drain_test,tests/unit/agent/session_drain_test.c $(AGENT_SNAPSHOT_SOURCES)))
$(eval $(call unit_test,agent_session_resume_test,tests/unit/agent/session_resume_test.c \
	$(AGENT_SNAPSHOT_SOURCES)))
$(eval $(call unit_test,agent_session_clone_test,tests/unit/agent/session_clone_test.c \
	$(AGENT_SNAPSHOT_SOURCES)))
$(eval $(call unit_test,agent_session_http_test,tests/unit/agent/session_http_test.c \
	$(AGENT_SNAPSHOT_SOURCES)))
AGENT_HOST_SOURCES := tests/unit/agent/host.c tests/unit/agent/talk.c agent/base/fd.c $(PROTO_SOURCES)
$(eval $(call unit_test,agent_host_test,tests/unit/agent/host_test.c $(AGENT_HOST_SOURCES)))
$(eval $(call unit_test,agent_host_failure_test,tests/unit/agent/host_failure_test.c $(AGENT_HOST_SOURCES)))
$(eval $(call unit_test,agent_host_http_test,tests/unit/agent/host_http_test.c $(AGENT_HOST_SOURCES)))
$(eval $(call unit_test,agent_host_snapshot_test,tests/unit/agent/host_snapshot_test.c \
	tests/unit/agent/snapshot_talk.c $(AGENT_HOST_SOURCES)))
$(eval $(call unit_test,agent_host_connections_test,tests/unit/agent/host_connections_test.c \
	tests/unit/agent/snapshot_talk.c $(AGENT_HOST_SOURCES)))
$(BUILD)/tests/unit/agent_host_connections_test: | $(TLS_CERTS)/ca.pem
$(patsubst %,$(BUILD)/tests/unit/agent_host%,_test _failure_test _http_test _snapshot_test _connections_test): | $(AGENT_TEST_PARTS)
$(eval $(call unit_test,agent_resume/drbg_test,tests/unit/agent_resume/drbg_test.c agent/drbg.c))
$(eval $(call unit_test,agent_resume/netlink_test,tests/unit/agent_resume/netlink_test.c agent/resume/netlink.c))
$(eval $(call unit_test,agent_resume/life_test,tests/unit/agent_resume/life_test.c $(AGENT_RESUME_SOURCES) $(BASE_SOURCES)))
# end of agent

# ---- init, rootfs ----------------------------------------------------------------------------------------------
INIT_SOURCES := init/main.c init/bootargs.c init/report.c init/arch_x86_64.c init/system.c init/mounts.c init/image.c \
	init/root.c init/spawn.c init/supervise.c init/halt.c
# PID 1 stays in memory for good: its segments share pages instead of padding each to a page of its own.
INIT_LINK := -Wl,-z,noseparate-code
$(eval $(call musl_program,init,$(INIT_SOURCES) $(BASE_SOURCES),$(INIT_LINK)))
$(eval $(call unit_test,init/bootargs_test,tests/unit/init/bootargs_test.c init/bootargs.c))
$(eval $(call unit_test,init/image_test,tests/unit/init/image_test.c init/image.c))
$(eval $(call fuzz_target,bootargs,tests/fuzz/bootargs.c init/bootargs.c))

# What the kernel starts from: init alone as /init, the same bytes every time.
$(BUILD)/initramfs.cpio: $(BUILD)/init rootfs/initramfs.sh
	@rootfs/initramfs.sh $(BUILD)/init $@

# Images and agents of the tests of init.
$(eval $(call musl_program,tests/guest/stand-in,tests/guest/stand-in.c))
INIT_DATA := $(BUILD)/tests/data/init/.made
$(INIT_DATA): $(BUILD)/init $(BUILD)/tests/guest/stand-in tests/support/init-data.sh rootfs/build.sh rootfs/tree.sh
	@tests/support/init-data.sh $(BUILD) $(@D)
	@touch $@
integration-parts: $(INIT_DATA)
SCRIPT_TESTS += tests/unit/rootfs/images.sh

# Images of the example functions, on the minimal base.
IMAGES := $(patsubst %,$(BUILD)/images/%.erofs,$(FUNCTION_EXAMPLES))
ROOTFS_SCRIPTS := rootfs/build.sh rootfs/verify.sh rootfs/tree.sh
images: $(IMAGES)
.PHONY: images
$(IMAGES): $(BUILD)/images/%.erofs: $(BUILD)/functions/%/bootstrap $(BUILD)/init $(BUILD)/agent $(ROOTFS_SCRIPTS)
	@mkdir -p $(@D)
	@rootfs/build.sh --base minimal --function $(BUILD)/functions/$* --init $(BUILD)/init --agent $(BUILD)/agent --out $@

# ---- hostvmm: core (main, config, vm, vcpu, memory, bus, boot, arch, serial) --------------------------------------
HOSTVMM_ARCH_SOURCES := hostvmm/arch/x86_64/layout.c hostvmm/arch/x86_64/cpu.c hostvmm/arch/x86_64/cpuid.c \
	hostvmm/arch/x86_64/boot.c hostvmm/arch/x86_64/acpi.c hostvmm/arch/x86_64/aml.c hostvmm/arch/x86_64/state.c \
	hostvmm/arch/x86_64/cpu_features.c
HOSTVMM_CORE_SOURCES := hostvmm/main.c hostvmm/config.c hostvmm/config_options.c hostvmm/config_operate.c hostvmm/config_devices.c hostvmm/config_balloon.c hostvmm/config_net.c hostvmm/config_jail.c hostvmm/nets.c hostvmm/help.c hostvmm/run.c hostvmm/run_end.c hostvmm/run_jail.c hostvmm/restore.c hostvmm/snapshots.c hostvmm/operations.c hostvmm/operations_status.c hostvmm/operations_devices.c hostvmm/logs.c hostvmm/metrics.c hostvmm/metrics_table.c hostvmm/machine.c hostvmm/machine_state.c hostvmm/machine_rates.c hostvmm/listen.c hostvmm/files.c hostvmm/vm.c \
	hostvmm/vcpu.c hostvmm/memory.c hostvmm/memory_discard.c hostvmm/bus.c hostvmm/console.c hostvmm/timeline.c hostvmm/timeline_phases.c hostvmm/timeline_svg.c hostvmm/boot/kernel.c \
	hostvmm/boot/elf.c hostvmm/boot/bzimage.c hostvmm/boot/load.c hostvmm/boot/image.c hostvmm/device/serial.c \
	hostvmm/device/lifecycle.c hostvmm/device/vmgenid.c init/bootargs.c $(HOSTVMM_ARCH_SOURCES)
HOSTVMM_RATE_SOURCES := hostvmm/device/rate.c hostvmm/device/rate_bucket.c hostvmm/device/rate_text.c
RATE_TEST_SOURCES := $(HOSTVMM_RATE_SOURCES) hostvmm/snapshot/codec.c hostvmm/snapshot/item.c
HOSTVMM_LOAD_SOURCES := hostvmm/boot/kernel.c hostvmm/boot/elf.c hostvmm/boot/bzimage.c hostvmm/boot/load.c \
	hostvmm/boot/image.c hostvmm/memory.c hostvmm/arch/x86_64/layout.c agent/base/fd.c
$(eval $(call unit_test,hostvmm/memory_test,tests/unit/hostvmm/memory_test.c hostvmm/memory.c hostvmm/memory_discard.c \
	hostvmm/arch/x86_64/layout.c agent/base/fd.c))
$(eval $(call unit_test,hostvmm/bus_test,tests/unit/hostvmm/bus_test.c hostvmm/bus.c))
$(eval $(call unit_test,hostvmm/boot_test,tests/unit/hostvmm/boot_test.c tests/unit/hostvmm/images.c \
	$(HOSTVMM_LOAD_SOURCES)))
$(eval $(call unit_test,hostvmm/acpi_test,tests/unit/hostvmm/acpi_test.c hostvmm/arch/x86_64/acpi.c \
	hostvmm/arch/x86_64/aml.c hostvmm/arch/x86_64/layout.c))
$(eval $(call unit_test,hostvmm/cpuid_test,tests/unit/hostvmm/cpuid_test.c hostvmm/arch/x86_64/cpuid.c))
$(eval $(call unit_test,hostvmm/cpu_features_test,tests/unit/hostvmm/cpu_features_test.c \
	hostvmm/arch/x86_64/cpu_features.c hostvmm/arch/x86_64/cpuid.c))
$(eval $(call unit_test,hostvmm/serial_test,tests/unit/hostvmm/serial_test.c hostvmm/device/serial.c \
	hostvmm/device/lifecycle.c hostvmm/device/irq.c hostvmm/snapshot/codec.c hostvmm/snapshot/item.c))
$(eval $(call unit_test,hostvmm/vmgenid_test,tests/unit/hostvmm/vmgenid_test.c hostvmm/device/vmgenid.c \
	hostvmm/device/irq.c hostvmm/memory.c hostvmm/arch/x86_64/layout.c hostvmm/snapshot/codec.c hostvmm/snapshot/item.c agent/base/fd.c))
$(eval $(call unit_test,hostvmm/config_test,tests/unit/hostvmm/config_test.c $(RATE_TEST_SOURCES) hostvmm/config.c hostvmm/config_options.c hostvmm/config_operate.c hostvmm/config_devices.c hostvmm/config_balloon.c hostvmm/config_net.c \
	hostvmm/timeline.c hostvmm/timeline_phases.c hostvmm/timeline_svg.c agent/proto/network.c init/bootargs.c agent/base/fd.c hostvmm/config_jail.c hostvmm/jail/plan.c))
$(eval $(call unit_test,hostvmm/config_net_test,tests/unit/hostvmm/config_net_test.c $(RATE_TEST_SOURCES) hostvmm/config.c hostvmm/config_options.c hostvmm/config_operate.c hostvmm/config_devices.c hostvmm/config_balloon.c \
	hostvmm/config_net.c hostvmm/config_jail.c hostvmm/jail/plan.c agent/proto/network.c init/bootargs.c agent/base/fd.c))
$(eval $(call unit_test,hostvmm/config_balloon_test,tests/unit/hostvmm/config_balloon_test.c $(RATE_TEST_SOURCES) \
	$(filter hostvmm/config%,$(HOSTVMM_CORE_SOURCES)) hostvmm/jail/plan.c agent/proto/network.c init/bootargs.c agent/base/fd.c))
$(eval $(call unit_test,hostvmm/timeline_test,tests/unit/hostvmm/timeline_test.c hostvmm/timeline.c hostvmm/timeline_phases.c \
	hostvmm/timeline_svg.c agent/base/fd.c))
$(eval $(call unit_test,hostvmm/logs_test,tests/unit/hostvmm/logs_test.c hostvmm/logs.c agent/base/log.c agent/base/fd.c \
	agent/proto/utf8.c))
$(eval $(call unit_test,hostvmm/metrics_test,tests/unit/hostvmm/metrics_test.c hostvmm/metrics.c hostvmm/metrics_table.c \
	hostvmm/timeline.c hostvmm/timeline_phases.c hostvmm/timeline_svg.c hostvmm/control/text.c agent/base/fd.c))
$(eval $(call unit_test,hostvmm/console_test,tests/unit/hostvmm/console_test.c hostvmm/console.c \
	hostvmm/device/serial.c hostvmm/device/irq.c hostvmm/snapshot/codec.c hostvmm/snapshot/item.c $(BASE_SOURCES)))
$(eval $(call unit_test,hostvmm/rate_test,tests/unit/hostvmm/rate_test.c $(RATE_TEST_SOURCES) agent/base/fd.c))
$(eval $(call fuzz_target,kernel_loader,tests/fuzz/kernel_loader.c $(HOSTVMM_LOAD_SOURCES)))

# ---- hostvmm: jail -------------------------------------------------------------------------------------------------
# What threads need, and the way in.
JAIL_THREAD_SOURCES := hostvmm/jail/threads.c hostvmm/jail/filter.c hostvmm/jail/rules.c hostvmm/jail/rules_x86_64.c
HOSTVMM_JAIL_SOURCES := hostvmm/jail/plan.c hostvmm/jail/jail.c hostvmm/jail/tree.c hostvmm/jail/landlock.c hostvmm/jail/keeper.c \
	hostvmm/jail/cgroup.c
HOSTVMM_CORE_SOURCES += $(HOSTVMM_JAIL_SOURCES)
$(eval $(call unit_test,jail/plan_test,tests/unit/jail/plan_test.c hostvmm/jail/plan.c))
$(eval $(call unit_test,jail/filter_test,tests/unit/jail/filter_test.c $(JAIL_THREAD_SOURCES) $(BASE_SOURCES)))
# Tries to get out of it, in a VM host.
$(eval $(call musl_program,tests/jail/escape,tests/jail/escape.c tests/jail/escapes.c $(HOSTVMM_JAIL_SOURCES) $(JAIL_THREAD_SOURCES) \
	$(BASE_SOURCES)))
integration-parts: $(BUILD)/tests/jail/escape

# ---- hostvmm: device/virtio --------------------------------------------------------------------------------------
HOSTVMM_VIRTIO_SOURCES := $(HOSTVMM_RATE_SOURCES) hostvmm/device/irq.c hostvmm/device/virtio/queue.c hostvmm/device/virtio/chain.c \
	hostvmm/device/virtio/device.c hostvmm/device/virtio/mmio.c hostvmm/device/virtio/blk.c hostvmm/device/virtio/blk_request.c \
	hostvmm/device/virtio/rng.c hostvmm/device/virtio/vsock.c hostvmm/device/virtio/vsock_connection.c \
	hostvmm/device/virtio/vsock_guest.c hostvmm/device/virtio/vsock_host.c hostvmm/device/virtio/vsock_listen.c \
	hostvmm/device/virtio/net.c hostvmm/device/virtio/net_tx.c hostvmm/device/virtio/net_rx.c hostvmm/device/virtio/net_gate.c \
	hostvmm/device/net/tap.c hostvmm/device/net/stream.c hostvmm/device/net/none.c \
	hostvmm/device/virtio/balloon.c hostvmm/device/virtio/balloon_serve.c $(JAIL_THREAD_SOURCES)
VIRTIO_TEST_SOURCES := $(HOSTVMM_VIRTIO_SOURCES) hostvmm/listen.c hostvmm/memory.c hostvmm/memory_discard.c hostvmm/arch/x86_64/layout.c \
	hostvmm/snapshot/codec.c hostvmm/snapshot/item.c \
	tests/unit/virtio/guest.c $(BASE_SOURCES)
$(eval $(call unit_test,virtio/queue_test,tests/unit/virtio/queue_test.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call unit_test,virtio/mmio_test,tests/unit/virtio/mmio_test.c $(VIRTIO_TEST_SOURCES)))
BLK_TEST_SOURCES := tests/unit/virtio/blk_fixture.c $(VIRTIO_TEST_SOURCES)
$(eval $(call unit_test,virtio/blk_test,tests/unit/virtio/blk_test.c $(BLK_TEST_SOURCES)))
$(eval $(call unit_test,virtio/blk_change_test,tests/unit/virtio/blk_change_test.c $(BLK_TEST_SOURCES)))
$(eval $(call unit_test,virtio/rng_test,tests/unit/virtio/rng_test.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call unit_test,virtio/state_test,tests/unit/virtio/state_test.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call unit_test,virtio/vsock_test,tests/unit/virtio/vsock_test.c tests/unit/virtio/vsock_fixture.c \
	$(VIRTIO_TEST_SOURCES)))
$(eval $(call unit_test,virtio/vsock_abuse_test,tests/unit/virtio/vsock_abuse_test.c tests/unit/virtio/vsock_fixture.c \
	$(VIRTIO_TEST_SOURCES)))
$(eval $(call unit_test,virtio/vsock_life_test,tests/unit/virtio/vsock_life_test.c tests/unit/virtio/vsock_fixture.c \
	$(VIRTIO_TEST_SOURCES)))
$(eval $(call unit_test,virtio/vsock_reset_test,tests/unit/virtio/vsock_reset_test.c tests/unit/virtio/vsock_fixture.c \
	$(VIRTIO_TEST_SOURCES)))
NET_TEST_SOURCES := tests/unit/virtio/net_fixture.c $(VIRTIO_TEST_SOURCES)
$(eval $(call unit_test,virtio/net_test,tests/unit/virtio/net_test.c $(NET_TEST_SOURCES)))
$(eval $(call unit_test,virtio/net_rx_test,tests/unit/virtio/net_rx_test.c $(NET_TEST_SOURCES)))
$(eval $(call unit_test,virtio/net_gate_test,tests/unit/virtio/net_gate_test.c $(NET_TEST_SOURCES)))
$(eval $(call unit_test,virtio/net_life_test,tests/unit/virtio/net_life_test.c $(NET_TEST_SOURCES)))
$(eval $(call unit_test,virtio/net_rate_test,tests/unit/virtio/net_rate_test.c $(NET_TEST_SOURCES)))
$(eval $(call unit_test,netdev/backend_test,tests/unit/netdev/backend_test.c $(VIRTIO_TEST_SOURCES)))
BALLOON_TEST_SOURCES := tests/unit/virtio/balloon_fixture.c $(VIRTIO_TEST_SOURCES)
$(eval $(call unit_test,virtio/balloon_test,tests/unit/virtio/balloon_test.c $(BALLOON_TEST_SOURCES)))
$(eval $(call unit_test,virtio/balloon_free_test,tests/unit/virtio/balloon_free_test.c $(BALLOON_TEST_SOURCES)))
$(eval $(call unit_test,hostvmm/memory_discard_test,tests/unit/hostvmm/memory_discard_test.c hostvmm/memory.c hostvmm/memory_discard.c \
	hostvmm/arch/x86_64/layout.c agent/base/fd.c))
$(eval $(call fuzz_target,virtio_blk,tests/fuzz/virtio_blk.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call fuzz_target,virtio_net,tests/fuzz/virtio_net.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call fuzz_target,net_stream,tests/fuzz/net_stream.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call fuzz_target,vsock,tests/fuzz/vsock.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call fuzz_target,devices_load,tests/fuzz/devices_load.c hostvmm/device/serial.c hostvmm/device/lifecycle.c \
	hostvmm/device/vmgenid.c $(VIRTIO_TEST_SOURCES)))

# ---- hostvmm: snapshot ---------------------------------------------------------------------------------------------
HOSTVMM_SNAPSHOT_SOURCES := hostvmm/snapshot/codec.c hostvmm/snapshot/item.c hostvmm/snapshot/header.c hostvmm/snapshot/manifest.c \
	hostvmm/snapshot/open.c hostvmm/snapshot/chunks.c hostvmm/snapshot/layers.c hostvmm/snapshot/saver.c hostvmm/snapshot/pages.c \
	hostvmm/snapshot/prefetch.c hostvmm/snapshot/ahead.c hostvmm/snapshot/rehearsal.c \
	hostvmm/snapshot/inspect.c hostvmm/snapshot/dump.c hostvmm/snapshot/capture.c hostvmm/snapshot/resumption.c hostvmm/snapshot/uniqueness.c
# What is on disk, apart from the machine whose state it is.
SNAPSHOT_FILE_SOURCES := hostvmm/snapshot/codec.c hostvmm/snapshot/item.c hostvmm/snapshot/header.c hostvmm/snapshot/manifest.c \
	agent/proto/network.c \
	hostvmm/snapshot/open.c hostvmm/snapshot/chunks.c hostvmm/snapshot/layers.c hostvmm/snapshot/saver.c \
	hostvmm/memory.c hostvmm/arch/x86_64/layout.c agent/base/fd.c agent/base/log.c $(JAIL_THREAD_SOURCES)
$(eval $(call unit_test,snapshot/codec_test,tests/unit/snapshot/codec_test.c hostvmm/snapshot/codec.c hostvmm/snapshot/item.c))
$(eval $(call unit_test,snapshot/dump_test,tests/unit/snapshot/dump_test.c hostvmm/snapshot/dump.c hostvmm/control/text.c \
	hostvmm/snapshot/codec.c hostvmm/snapshot/item.c))
$(eval $(call fuzz_target,snapshot_state,tests/fuzz/snapshot_state.c hostvmm/snapshot/dump.c hostvmm/control/text.c \
	$(SNAPSHOT_FILE_SOURCES)))
$(eval $(call unit_test,snapshot/prefetch_test,tests/unit/snapshot/prefetch_test.c hostvmm/snapshot/prefetch.c agent/base/fd.c))
$(eval $(call unit_test,snapshot/files_test,tests/unit/snapshot/files_test.c $(SNAPSHOT_FILE_SOURCES)))

# ---- hostvmm: control ----------------------------------------------------------------------------------------------
HOSTVMM_CONTROL_SOURCES := hostvmm/control/client.c hostvmm/control/dial.c hostvmm/control/doctor.c \
	hostvmm/control/doctor_probe.c hostvmm/control/invoke.c hostvmm/control/output.c hostvmm/control/shutdown.c \
	hostvmm/control/text.c hostvmm/control/lifeline.c hostvmm/control/lifeline_message.c \
	hostvmm/control/operator.c hostvmm/control/operator_request.c hostvmm/control/ask.c hostvmm/control/metrics.c hostvmm/control/snapshot.c \
	hostvmm/control/audit_tokens.c hostvmm/control/audit_entropy.c hostvmm/control/audit_facts.c \
	hostvmm/control/audit_report.c hostvmm/control/audit.c hostvmm/control/audit_clones.c \
	hostvmm/control/ctl.c hostvmm/control/ctl_answer.c hostvmm/control/ctl_http.c hostvmm/control/ctl_text.c \
	hostvmm/control/ctl_words.c
CONTROL_TEST_SOURCES := $(HOSTVMM_CONTROL_SOURCES) hostvmm/listen.c tests/unit/control/fake.c $(PROTO_SOURCES) $(BASE_SOURCES)
$(eval $(call unit_test,control/client_test,tests/unit/control/client_test.c $(CONTROL_TEST_SOURCES)))
$(eval $(call unit_test,control/dial_test,tests/unit/control/dial_test.c $(CONTROL_TEST_SOURCES)))
$(eval $(call unit_test,control/shutdown_test,tests/unit/control/shutdown_test.c $(CONTROL_TEST_SOURCES)))
LIFELINE_SOURCES := hostvmm/control/lifeline.c hostvmm/control/lifeline_message.c $(PROTO_SOURCES) $(BASE_SOURCES)
LIFELINE_TEST_SOURCES := tests/unit/control/lifeline_fixture.c $(LIFELINE_SOURCES)
$(eval $(call unit_test,control/lifeline_test,tests/unit/control/lifeline_test.c $(LIFELINE_TEST_SOURCES)))
$(eval $(call unit_test,control/lifeline_abuse_test,tests/unit/control/lifeline_abuse_test.c $(LIFELINE_TEST_SOURCES)))
$(eval $(call fuzz_target,lifeline,tests/fuzz/lifeline.c $(LIFELINE_SOURCES)))
$(eval $(call unit_test,control/audit_tokens_test,tests/unit/control/audit_tokens_test.c \
	hostvmm/control/audit_tokens.c hostvmm/control/audit_entropy.c))
$(eval $(call unit_test,control/audit_facts_test,tests/unit/control/audit_facts_test.c $(CONTROL_TEST_SOURCES)))
$(eval $(call unit_test,control/audit_test,tests/unit/control/audit_test.c $(CONTROL_TEST_SOURCES)))
$(eval $(call unit_test,control/operator_test,tests/unit/control/operator_test.c $(CONTROL_TEST_SOURCES)))
$(eval $(call unit_test,control/operator_request_test,tests/unit/control/operator_request_test.c \
	hostvmm/control/operator_request.c))
$(eval $(call unit_test,control/snapshot_test,tests/unit/control/snapshot_test.c $(CONTROL_TEST_SOURCES)))
$(eval $(call fuzz_target,operator,tests/fuzz/operator.c hostvmm/control/operator_request.c))
$(eval $(call unit_test,control/doctor_test,tests/unit/control/doctor_test.c $(CONTROL_TEST_SOURCES)))
CTL_ANSWER_SOURCES := hostvmm/control/ctl_answer.c hostvmm/control/ctl_text.c
$(eval $(call unit_test,control/ctl_answer_test,tests/unit/control/ctl_answer_test.c $(CTL_ANSWER_SOURCES)))
$(eval $(call fuzz_target,ctl_answer,tests/fuzz/ctl_answer.c $(CTL_ANSWER_SOURCES)))
$(eval $(call unit_test,control/ctl_test,tests/unit/control/ctl_test.c $(CONTROL_TEST_SOURCES)))
$(eval $(call unit_test,control/invoke_test,tests/unit/control/invoke_test.c $(CONTROL_TEST_SOURCES)))

# ---- fuzz targets of several rooms' code together, or of a part that has tests in its own room ----------------------
# The function's channel, from its own side and from the agent's; connections held for it.
FUZZ_QUIET := tests/fuzz/quiet.c
$(eval $(call fuzz_target,function,tests/fuzz/function.c $(FUZZ_QUIET) $(filter-out agent/base/log.c,$(FUNCTION_LIBRARY_SOURCES))))
$(eval $(call fuzz_target,session,tests/fuzz/session.c $(FUZZ_QUIET) $(filter-out agent/base/log.c,$(AGENT_STAGE_SOURCES)),-lcmocka))
$(eval $(call fuzz_target,connections,tests/fuzz/connections.c tests/unit/tls/fake_upstream.c agent/tls/manifest.c \
	$(TLS_TABLE_SOURCES) $(BASE_SOURCES),-lcmocka))
$(eval $(call fuzz_target,connect_answer,tests/fuzz/connect_answer.c agent/base/fd.c))
$(eval $(call fuzz_target,sock_diag,tests/fuzz/sock_diag.c agent/resume/netlink.c))
# The machine that a guest's kernel sees.
$(eval $(call fuzz_target,virtqueue,tests/fuzz/virtqueue.c hostvmm/device/virtio/queue.c hostvmm/device/virtio/chain.c \
	hostvmm/memory.c hostvmm/arch/x86_64/layout.c hostvmm/snapshot/codec.c hostvmm/snapshot/item.c agent/base/fd.c))
$(eval $(call fuzz_target,virtio_rng,tests/fuzz/virtio_rng.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call fuzz_target,virtio_balloon,tests/fuzz/virtio_balloon.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call fuzz_target,device_tree,tests/fuzz/device_tree.c hostvmm/bus.c hostvmm/device/serial.c hostvmm/device/lifecycle.c \
	hostvmm/device/vmgenid.c $(VIRTIO_TEST_SOURCES)))
$(eval $(call fuzz_target,serial,tests/fuzz/serial.c hostvmm/device/serial.c hostvmm/device/irq.c hostvmm/snapshot/codec.c \
	hostvmm/snapshot/item.c))
$(eval $(call fuzz_target,acpi,tests/fuzz/acpi.c hostvmm/arch/x86_64/acpi.c hostvmm/arch/x86_64/aml.c))
# What hostvmm is given by the one who starts it.
$(eval $(call fuzz_target,config,tests/fuzz/config.c $(filter hostvmm/config%,$(HOSTVMM_CORE_SOURCES)) \
	$(HOSTVMM_RATE_SOURCES) hostvmm/jail/plan.c hostvmm/snapshot/codec.c hostvmm/snapshot/item.c agent/proto/network.c init/bootargs.c agent/base/fd.c))
$(eval $(call fuzz_target,prefetch,tests/fuzz/prefetch.c agent/base/fd.c))

# ---- hostvmm: control/api ------------------------------------------------------------------------------------------
# The only part with an HTTP and a JSON library in it: a process of its own, that never sees a guest's memory.
API := hostvmm/control/api
API_MACHINE_SOURCES := $(API)/arguments.c $(API)/balloon.c $(API)/child.c $(API)/child_run.c $(API)/config_file.c \
	$(API)/drives.c $(API)/flush.c $(API)/machine.c $(API)/model.c $(API)/nets.c $(API)/observe.c $(API)/rates.c $(API)/route.c \
	$(API)/routes.c $(API)/start.c $(API)/snapshot.c $(API)/snapshot_files.c $(API)/snapshot_copy.c $(API)/load.c
API_FUNCTION_SOURCES := $(API)/functions.c $(API)/functions_ask.c $(API)/functions_audit.c $(API)/functions_clones.c \
	$(API)/functions_invoke.c $(API)/functions_members.c $(API)/functions_metrics.c $(API)/functions_wish.c
HOSTVMM_API_SOURCES := $(API)/server.c $(API)/http.c $(API_MACHINE_SOURCES) $(API_FUNCTION_SOURCES)
HOSTVMM_API_LIBS := $(THIRD)/lib/libmicrohttpd.a $(THIRD)/lib/libjansson.a
API_TEST_SOURCES := tests/unit/control/api_server.c $(API_MACHINE_SOURCES) agent/proto/network.c $(BASE_SOURCES)
$(eval $(call unit_test,control/api_route_test,tests/unit/control/api_route_test.c $(API_TEST_SOURCES)))
$(eval $(call unit_test,control/api_body_test,tests/unit/control/api_body_test.c $(API_TEST_SOURCES)))
$(eval $(call unit_test,control/api_arguments_test,tests/unit/control/api_arguments_test.c $(API_TEST_SOURCES) \
	$(filter hostvmm/config%,$(HOSTVMM_CORE_SOURCES)) $(RATE_TEST_SOURCES) hostvmm/jail/plan.c init/bootargs.c))
$(eval $(call unit_test,control/api_snapshot_test,tests/unit/control/api_snapshot_test.c $(API_TEST_SOURCES)))
$(eval $(call unit_test,control/api_guest_test,tests/unit/control/api_guest_test.c $(API_TEST_SOURCES)))
$(eval $(call fuzz_target,api_json,tests/fuzz/api_json.c $(API_MACHINE_SOURCES) hostvmm/control/operator_request.c \
	$(HOSTVMM_RATE_SOURCES) hostvmm/snapshot/codec.c hostvmm/snapshot/item.c agent/proto/network.c $(BASE_SOURCES),$(THIRD)/lib/libjansson-host.a))
$(foreach part,functions clones,$(eval $(call unit_test,control/api_$(part)_test,tests/unit/control/api_$(part)_test.c \
	tests/unit/control/functions_stage.c $(API_FUNCTION_SOURCES) hostvmm/control/client.c hostvmm/control/text.c \
	hostvmm/control/dial.c tests/unit/control/fake.c $(PROTO_SOURCES) $(BASE_SOURCES))))

# The page of the API against the routes and their handlers; no HTTP between.
$(eval $(call unit_test,control/openapi_test,tests/unit/control/openapi_test.c tests/unit/control/openapi_page.c $(API_MACHINE_SOURCES) $(API_FUNCTION_SOURCES) \
	hostvmm/control/client.c hostvmm/control/text.c hostvmm/control/dial.c $(PROTO_SOURCES) $(BASE_SOURCES)))

# ---- hostvmm: link -------------------------------------------------------------------------------------------------
# The initramfs with init is a part of the program.
$(BUILD)/musl/hostvmm/boot/initramfs.o: hostvmm/boot/initramfs.S $(BUILD)/initramfs.cpio | $(THIRD)/stamp
	@mkdir -p $(@D)
	$(QUIET_CC)$(MUSL_CC) -DINITRAMFS_PATH='"$(BUILD)/initramfs.cpio"' -c $< -o $@
HOSTVMM_SOURCES := $(HOSTVMM_CORE_SOURCES) $(HOSTVMM_VIRTIO_SOURCES) $(HOSTVMM_CONTROL_SOURCES) \
	$(HOSTVMM_API_SOURCES) $(HOSTVMM_SNAPSHOT_SOURCES) $(PROTO_SOURCES) $(BASE_SOURCES)
ifdef SANITIZE
MUSL_PROGRAMS += $(BUILD)/hostvmm
$(BUILD)/hostvmm: $(call unit,$(HOSTVMM_SOURCES) $(if $(filter thread,$(SANITIZE)),tests/sanitize/guest_memory.c))
	@mkdir -p $(@D)
	$(QUIET_LD)$(UNIT_CC) $(UNIT_CFLAGS) $^ $(filter-out -lcmocka,$(UNIT_LIBS)) -o $@
else
$(eval $(call musl_program,hostvmm,$(HOSTVMM_SOURCES),$(HOSTVMM_API_LIBS) $(THIRD)/lib/libcbor.a $(THIRD)/lib/libbearssl.a))
endif
$(BUILD)/hostvmm: $(BUILD)/musl/hostvmm/boot/initramfs.o
# The same code in a program that makes a snapshot by hand and times its restores.
$(eval $(call musl_program,tests/bench/probe,tests/bench/probe.c $(filter-out hostvmm/main.c,$(HOSTVMM_CORE_SOURCES)) \
	$(HOSTVMM_VIRTIO_SOURCES) $(HOSTVMM_CONTROL_SOURCES) $(HOSTVMM_SNAPSHOT_SOURCES) $(PROTO_SOURCES) $(BASE_SOURCES),$(THIRD)/lib/libcbor.a \
	$(THIRD)/lib/libbearssl.a))
$(BUILD)/tests/bench/probe: $(BUILD)/musl/hostvmm/boot/initramfs.o

# Peers of the network tests, and what judges their evidence: programs of the machine's own libc and OpenSSL.
PEERS := $(patsubst %,$(BUILD)/tests/peers/%,tls-peer keys-in-snapshot no-twins tcp-peer dns-peer)
peer = $(patsubst %,$(BUILD)/peer-objects/tests/peers/%.o,$(1))
$(BUILD)/peer-objects/%.o: %.c | $(THIRD)/stamp build/.packages-build
	@mkdir -p $(@D)
	$(QUIET_CC)gcc $(CSTD) $(WARNINGS) -O2 -g $(INCLUDES) -MMD -MP -c $< -o $@
$(BUILD)/tests/peers/tls-peer: $(call peer,tls-peer peer-serve peer-watch keys)
$(BUILD)/tests/peers/keys-in-snapshot: $(call peer,keys-in-snapshot lines keys) $(THIRD)/lib/libbearssl-host.a
$(BUILD)/tests/peers/no-twins: $(call peer,no-twins capture lines keys)
$(BUILD)/tests/peers/tcp-peer: $(call peer,tcp-peer)
$(BUILD)/tests/peers/dns-peer: $(call peer,dns-peer)
$(PEERS):
	@mkdir -p $(@D)
	$(QUIET_LD)gcc $^ -lssl -lcrypto -lpthread -o $@
# A function that keeps connections of its manifest's, and images of it with each manifest there is.
$(BUILD)/tests/guest/keeper: $(call musl,tests/guest/keeper.c) $(BUILD)/libfunction.a
	@mkdir -p $(@D)
	$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $^ -o $@
KEEPERS := $(patsubst tests/peers/manifests/%,$(BUILD)/tests/data/keeper-%.erofs,$(wildcard tests/peers/manifests/*))
$(KEEPERS): $(BUILD)/tests/data/keeper-%.erofs: tests/peers/manifests/% $(BUILD)/tests/guest/keeper $(TLS_CERTS)/ca.pem \
		$(BUILD)/init $(BUILD)/agent tests/support/connections-image.sh $(ROOTFS_SCRIPTS)
	@mkdir -p $(@D)
	@tests/support/connections-image.sh $(BUILD) $(BUILD)/tests/guest/keeper $< $@
# The example that keeps a connection, as the demo runs it.
$(BUILD)/tests/data/keepalive-demo.erofs: tests/support/demo.connections $(BUILD)/functions/keepalive/bootstrap $(TLS_CERTS)/ca.pem \
		$(BUILD)/init $(BUILD)/agent tests/support/connections-image.sh $(ROOTFS_SCRIPTS)
	@mkdir -p $(@D)
	@tests/support/connections-image.sh $(BUILD) $(BUILD)/functions/keepalive/bootstrap $< $@
$(BUILD)/tests/peers/nginx: tests/support/nginx.sh
	@mkdir -p $(@D)
	@tests/support/nginx.sh $@
integration-parts: $(PEERS) $(BUILD)/tests/peers/nginx $(KEEPERS)
SCRIPT_TESTS += tests/peers/selftest.sh
script-parts: $(PEERS) $(TLS_CERTS)/ca.pem
-include $(shell find $(BUILD)/peer-objects -name '*.d' 2>/dev/null)

# Notes the time, then becomes what is timed.
$(eval $(call musl_program,tests/bench/stamp,tests/bench/stamp.c))

# ---- kernel, emulated host -----------------------------------------------------------------------------------------
KERNEL_INPUTS := $(wildcard kernel-config/*.config kernel-config/arch/*.config kernel-config/patches/*.patch \
	kernel-config/*.sh kernel-config/elf-pack.c kernel-config/WHY.md)
$(KERNEL)/vmlinux: $(KERNEL_INPUTS) | build/.packages-build
	@kernel-config/build.sh --source $(LINUX_TARBALL) --tree $(LINUX_TREE) --out $(KERNEL)
	@touch $@
$(KERNEL)/bzImage: $(KERNEL)/vmlinux
SCRIPT_TESTS += tests/unit/kernel-config/check.sh

# The emulated host's parts (hostvmm/kvmhost/README.md). run makes them too when it must; here they show among the set-up.
$(KVMHOST)/stamp: hostvmm/kvmhost/prepare hostvmm/kvmhost/init hostvmm/kvmhost/rate.c hostvmm/kvmhost/packages .setup/versions \
		| build/.packages-build build/.packages-kvmhost
	@hostvmm/kvmhost/prepare --out $(KVMHOST)
	@touch $@
$(eval $(call musl_program,kvmhost-count,hostvmm/kvmhost/count.c))
KVM_WHERE := $(shell hostvmm/kvmhost/needed)
ifneq ($(findstring emulated:,$(KVM_WHERE)),)
SCRIPT_TESTS += hostvmm/kvmhost/selftest
script-parts: $(BUILD)/kvmhost-count $(KERNEL)/vmlinux $(KVMHOST)/stamp
endif

# ---- tests -----------------------------------------------------------------------------------------------------------
# Guests of the tests and benchmarks: each a static program, run as PID 1 of an initramfs or in the agent's place.
$(eval $(call musl_program,tests/guest/poweroff,tests/guest/poweroff.c))
$(eval $(call musl_program,tests/guest/facts,tests/guest/facts.c))
$(eval $(call musl_program,tests/guest/drive,tests/guest/drive.c))
$(eval $(call musl_program,tests/guest/rates,tests/guest/rates.c))
$(eval $(call musl_program,tests/guest/devices,tests/guest/devices.c))
$(eval $(call musl_program,tests/guest/pusher,tests/guest/pusher.c))
$(eval $(call musl_program,tests/guest/state-cut,tests/guest/state-cut.c hostvmm/snapshot/header.c agent/base/fd.c,$(THIRD)/lib/libbearssl.a))
$(eval $(call musl_program,tests/guest/scribe,tests/guest/scribe.c))
$(eval $(call musl_program,tests/guest/quitter,tests/guest/quitter.c))
$(eval $(call musl_program,tests/guest/walkthrough,tests/guest/walkthrough.c))
$(eval $(call musl_program,tests/guest/http-function,tests/guest/http-function.c))
$(eval $(call musl_program,tests/guest/net-peer,tests/guest/net-peer.c))
$(eval $(call musl_program,tests/guest/operate,tests/guest/operate.c))
MUSL_PROGRAMS += $(BUILD)/tests/guest/net-function
$(BUILD)/tests/guest/net-function: $(call musl,tests/guest/net-function.c) $(BUILD)/libfunction.a
	@mkdir -p $(@D)
	$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $^ -o $@
$(eval $(call musl_program,tests/guest/kernel-features,tests/guest/kernel-features-limits.c tests/guest/kernel-features-machine.c tests/guest/kernel-features.c))
$(eval $(call musl_program,tests/guest/resume-steps,tests/guest/resume-steps.c tests/guest/resume-sockets.c \
	$(AGENT_RESUME_SOURCES) $(BASE_SOURCES),$(THIRD)/lib/libbearssl.a))
$(eval $(call musl_program,tests/guest/net-steps,tests/guest/net-steps.c tests/guest/net-show.c $(AGENT_RESUME_SOURCES) $(BASE_SOURCES),\
	$(THIRD)/lib/libbearssl.a))
MUSL_PROGRAMS += $(BUILD)/tests/guest/memory-function
$(BUILD)/tests/guest/memory-function: $(call musl,tests/guest/memory-function.c) $(BUILD)/libfunction.a
	@mkdir -p $(@D)
	$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $^ -o $@
MUSL_PROGRAMS += $(BUILD)/tests/guest/smp-function
$(BUILD)/tests/guest/smp-function: $(call musl,tests/guest/smp-function.c) $(BUILD)/libfunction.a
	@mkdir -p $(@D)
	$(QUIET_LD)$(MUSL_CC) $(MUSL_LDFLAGS) $^ -o $@
# A kernel of its own, which only abuses devices; and who watches hostvmm meanwhile.
GARBAGE_CFLAGS := $(CSTD) $(WARNINGS) -Wno-conversion -O1 -ffreestanding -fno-builtin -fno-pie -mgeneral-regs-only -mno-red-zone \
	-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -I. -isystem $(THIRD)/linux/include
GARBAGE_LDFLAGS := -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments
$(BUILD)/tests/guest/garbage: tests/guest/garbage.c tests/guest/garbage.ld hostvmm/arch/x86_64/layout.h | $(THIRD)/stamp
	@mkdir -p $(@D)
	$(QUIET_CC)gcc $(GARBAGE_CFLAGS) $(GARBAGE_LDFLAGS) -Wl,-T,tests/guest/garbage.ld $< -o $@
$(eval $(call musl_program,tests/guest/watch,tests/guest/watch.c))
integration-parts: $(BUILD)/tests/guest/garbage $(BUILD)/tests/guest/watch
GUEST_INITRAMFS := $(foreach guest,poweroff facts drive rates devices pusher kernel-features resume-steps net-steps,$(BUILD)/tests/guest/$(guest).cpio)
$(BUILD)/tests/guest/%.cpio: $(BUILD)/tests/guest/% rootfs/initramfs.sh
	@rootfs/initramfs.sh $< $@

# What the integration tests are given besides the guests: texts, kernels not ours, images made to fail.
TEST_DATA := $(patsubst %,$(BUILD)/tests/data/%,GPL-3 rngtest debian.release overlay.ext4 walkthrough.ext4 agents.erofs init-exit.erofs \
	init-crash.erofs init-fail.erofs http-function.erofs net-function.erofs smp-function.erofs memory-function.erofs) \
	$(patsubst %,$(BUILD)/tests/data/fault-%.erofs,entropy clock sockets identity network secrets connections generation)
$(BUILD)/tests/data/GPL-3: /usr/share/common-licenses/GPL-3
	@mkdir -p $(@D)
	@cp $< $@
$(BUILD)/tests/data/rngtest: tests/support/rngtest.sh
	@tests/support/rngtest.sh $@
$(BUILD)/tests/data/debian.release: tests/support/debian-kernel.sh | build/.packages-kvmhost
	@tests/support/debian-kernel.sh $(KVMHOST) $(@D)
$(BUILD)/tests/data/overlay.ext4: | build/.packages-test
	@mkdir -p $(@D)
	@rm -f $@
	@PATH=$$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 $@ 16M 2>/dev/null
# A root that is no image of ours, and that its guest writes.
$(BUILD)/tests/data/walkthrough.ext4: $(BUILD)/tests/guest/walkthrough | build/.packages-test
	@mkdir -p $(@D) $(BUILD)/tests/walkthrough/sbin $(BUILD)/tests/walkthrough/dev
	@cp $< $(BUILD)/tests/walkthrough/sbin/init
	@rm -f $@
	@PATH=$$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -d $(BUILD)/tests/walkthrough $@ 16M 2>/dev/null
# A base with programs that stand in for the agent.
$(BUILD)/tests/data/agents.erofs: $(BUILD)/tests/guest/scribe $(BUILD)/tests/guest/quitter $(BUILD)/images/hello.erofs
	@mkdir -p $(@D) $(BUILD)/tests/base/test
	@cp $(BUILD)/tests/guest/scribe $(BUILD)/tests/guest/quitter $(BUILD)/tests/base/test/
	@rootfs/build.sh --base $(BUILD)/tests/base --function $(BUILD)/functions/hello --init $(BUILD)/init --agent $(BUILD)/agent --out $@
# A function that speaks HTTP, and is no program of the function library's.
$(BUILD)/tests/data/http-function.erofs: $(BUILD)/tests/guest/http-function $(BUILD)/init $(BUILD)/agent $(ROOTFS_SCRIPTS)
	@mkdir -p $(@D) $(BUILD)/tests/http-function
	@cp $< $(BUILD)/tests/http-function/bootstrap
	@rootfs/build.sh --base minimal --function $(BUILD)/tests/http-function --init $(BUILD)/init --agent $(BUILD)/agent --out $@
# A function that speaks TCP, and tells of its interfaces.
$(BUILD)/tests/data/net-function.erofs: $(BUILD)/tests/guest/net-function $(BUILD)/tests/guest/net-peer $(BUILD)/init $(BUILD)/agent $(ROOTFS_SCRIPTS)
	@mkdir -p $(@D) $(BUILD)/tests/net-function
	@cp $< $(BUILD)/tests/net-function/bootstrap
	@rootfs/build.sh --base minimal --function $(BUILD)/tests/net-function --init $(BUILD)/init --agent $(BUILD)/agent --out $@
# A function that counts the guest's processors.
# A function that uses memory.
$(BUILD)/tests/data/memory-function.erofs: $(BUILD)/tests/guest/memory-function $(BUILD)/init $(BUILD)/agent $(ROOTFS_SCRIPTS)
	@mkdir -p $(@D) $(BUILD)/tests/memory-function
	@cp $< $(BUILD)/tests/memory-function/bootstrap
	@rootfs/build.sh --base minimal --function $(BUILD)/tests/memory-function --init $(BUILD)/init --agent $(BUILD)/agent --out $@
$(BUILD)/tests/data/smp-function.erofs: $(BUILD)/tests/guest/smp-function $(BUILD)/init $(BUILD)/agent $(ROOTFS_SCRIPTS)
	@mkdir -p $(@D) $(BUILD)/tests/smp-function
	@cp $< $(BUILD)/tests/smp-function/bootstrap
	@rootfs/build.sh --base minimal --function $(BUILD)/tests/smp-function --init $(BUILD)/init --agent $(BUILD)/agent --out $@
# The misbehaving function told by a file to misbehave before its first event.
$(BUILD)/tests/data/init-%.erofs: $(BUILD)/images/misbehave.erofs
	@mkdir -p $(@D) $(BUILD)/tests/init-$*
	@cp $(BUILD)/functions/misbehave/bootstrap $(BUILD)/tests/init-$*/
	@echo "$(if $(filter exit,$*),exit 3,$*)" >$(BUILD)/tests/init-$*/init-mode
	@rootfs/build.sh --base minimal --function $(BUILD)/tests/init-$* --init $(BUILD)/init --agent $(BUILD)/agent --out $@
# The same on a base that has a resolv.conf of its own.
$(BUILD)/tests/data/resolver.erofs: $(BUILD)/images/misbehave.erofs
	@mkdir -p $(@D) $(BUILD)/tests/resolver/etc
	@echo 'nameserver 192.0.2.99' >$(BUILD)/tests/resolver/etc/resolv.conf
	@tar -C $(BUILD)/tests/resolver -cf $(BUILD)/tests/resolver.tar etc
	@rootfs/build.sh --base $(BUILD)/tests/resolver.tar --function $(BUILD)/functions/misbehave --init $(BUILD)/init --agent $(BUILD)/agent --out $@
integration-parts: $(BUILD)/tests/data/resolver.erofs

# An agent one of whose steps fails in every clone.
$(BUILD)/tests/data/fault-%.erofs: $(BUILD)/functions/hello/bootstrap $(BUILD)/tests/guest/agent-faulty $(BUILD)/init $(ROOTFS_SCRIPTS)
	@mkdir -p $(@D) $(BUILD)/tests/fault-$*
	@cp $< $(BUILD)/tests/fault-$*/
	@echo $* >$(BUILD)/tests/fault-$*/fault
	@rootfs/build.sh --base minimal --function $(BUILD)/tests/fault-$* --init $(BUILD)/init --agent $(BUILD)/tests/guest/agent-faulty --out $@

# What running VMs needs besides: the emulated host's packages, on machines that need one.
HOST_PARTS := $(if $(findstring emulated:,$(KVM_WHERE)),build/.packages-kvmhost $(KVMHOST)/stamp)

# make test ONLY="unit fuzz" MATCH='misbehave_*' FUZZ_SECONDS=10 narrows it down.
.PHONY: integration-parts script-parts
integration-parts: $(BUILD)/hostvmm $(BUILD)/tests/guest/state-cut $(BUILD)/tests/guest/operate $(BUILD)/initramfs.cpio $(IMAGES) $(GUEST_INITRAMFS) $(TEST_DATA) $(KERNEL)/vmlinux | $(HOST_PARTS)
wanted = $(if $(filter $(1),$(or $(ONLY),$(1))),$(2))
test: $(call wanted,unit,$(UNIT_TESTS)) $(call wanted,script,$(MUSL_PROGRAMS) $(IMAGES) script-parts) \
	$(call wanted,fuzz,$(FUZZ_TARGETS)) $(call wanted,integration,integration-parts)
	@UNIT_TESTS="$(UNIT_TESTS)" SCRIPT_TESTS="$(SCRIPT_TESTS)" FUZZ_TARGETS="$(FUZZ_TARGETS)" \
		tests/support/run-tests.sh --build $(BUILD) --fuzz-seconds $(FUZZ_SECONDS) \
		$(foreach kind,$(ONLY),--only $(kind)) --match "$(or $(MATCH),*)" $(if $(SANITIZE),--except 'jail_*')

demo: $(BUILD)/hostvmm $(IMAGES) $(KERNEL)/vmlinux $(BUILD)/tests/peers/tls-peer $(BUILD)/tests/data/keepalive-demo.erofs | $(HOST_PARTS)
	@tests/support/demo.sh $(BUILD)

# Thousands of clones, one after the other: an hour or so in the emulated host.
CYCLES ?= 5000
soak: $(BUILD)/hostvmm $(IMAGES) $(KERNEL)/vmlinux | $(HOST_PARTS)
	@tests/soak/clones.sh $(BUILD) $(CYCLES)

# Clones that carry on over TLS connections of their own: some three seconds each in the emulated host.
CLONES ?= 100
soak-tls: $(BUILD)/hostvmm $(PEERS) $(BUILD)/tests/data/keeper-keeper.erofs $(KERNEL)/vmlinux | $(HOST_PARTS)
	@tests/soak/tls.sh $(BUILD) $(CLONES)
.PHONY: soak-tls

# Fuzz targets for longer, two at a time: make fuzz TIME=600 [TARGET="vsock dns"]. What they find is kept below
# $(BUILD)/tests/fuzz-work; tests/fuzz/keep.sh takes it over into the tree's corpus.
TIME ?= 600
FUZZ_WANTED := $(if $(TARGET),$(patsubst %,$(BUILD)/tests/fuzz/%,$(TARGET)),$(FUZZ_TARGETS))
.PHONY: fuzz
fuzz: $(FUZZ_WANTED)
	@tests/fuzz/run.sh --build $(BUILD) --seconds $(TIME) --table $(notdir $(FUZZ_WANTED))

# A crowd of VMs, started, snapshotted, cloned and stopped at random; nothing of them may be left.
CROWD_SECONDS ?= 600
CROWD_VMS ?= 64
soak-crowd: $(BUILD)/hostvmm $(IMAGES) $(KERNEL)/vmlinux | $(HOST_PARTS)
	@tests/soak/crowd.sh $(BUILD) $(CROWD_SECONDS) $(CROWD_VMS)
.PHONY: soak-crowd

# A guest whose kernel writes garbage into its devices, for longer than in `make test`.
GARBAGE_SECONDS ?= 60
.PHONY: soak-garbage
soak-garbage: integration-parts
	@tests/support/in-host.sh $(BUILD) 600 env GARBAGE_SECONDS=$(GARBAGE_SECONDS) tests/integration/run.sh $(BUILD) 'garbage_*'

# Parts of the code that hold for every input within stated bounds (tests/proof/README.md). make prove MATCH="cursor payload"
.PHONY: prove
prove: | $(THIRD)/stamp build/.packages-proof
	@tests/proof/run.sh $(MATCH)

bench: $(BUILD)/hostvmm $(BUILD)/initramfs.cpio $(IMAGES) $(GUEST_INITRAMFS) $(BUILD)/kvmhost-count \
	$(BUILD)/tests/bench/stamp $(BUILD)/tests/bench/probe $(PEERS) $(BUILD)/tests/data/keeper-bench.erofs \
	$(KERNEL)/vmlinux | build/.packages-kvmhost build/.packages-test
	@tests/bench/run.sh $(BUILD)

# ---- set-up: packages and third-party parts, each once ----------------------------------------------------------------
build/.packages-%: .setup/versions .setup/packages.sh
	@mkdir -p $(@D)
	@.setup/packages.sh $*
	@touch $@

$(THIRD)/stamp: .setup/third-party.sh | build/.packages-build $(LINUX_TREE)/.unpacked
	@.setup/third-party.sh $(THIRD) $(LINUX_TREE)

$(LINUX_TREE)/.unpacked: | build/.packages-build
	@echo "set-up: unpacking $(LINUX_TARBALL)"
	@mkdir -p $(LINUX_TREE)
	@tar -xf $(LINUX_TARBALL) -C $(LINUX_TREE) --strip-components=1
	@touch $@

# ---- make check ------------------------------------------------------------------------------------------------------
CHECKED_C := $(shell git ls-files --cached --others --exclude-standard -- 'agent/*.c' 'init/*.c' 'hostvmm/*.c')
FORMATTED := $(shell git ls-files --cached --others --exclude-standard -- '*.c' '*.h')

$(BUILD)/tidy/%.ok: %.c .clang-tidy | $(THIRD)/stamp build/.packages-test
	@mkdir -p $(@D)
	@echo "  TIDY  $<"
	@clang-tidy --quiet $< -- $(CSTD) $(INCLUDES) >$@.log 2>$@.err || { cat $@.log $@.err; exit 1; }
	@touch $@

.PHONY: check check-format check-tidy
check: check-format check-tidy
	@tests/support/check-words.sh
	@tests/support/check-arrows.sh
	@tests/support/check-sizes.sh
	@echo "check: all green"
check-format: | build/.packages-test
	@clang-format --dry-run -Werror $(wildcard $(FORMATTED))
check-tidy: $(patsubst %.c,$(BUILD)/tidy/%.ok,$(wildcard $(CHECKED_C)))

.PHONY: all demo test bench soak clean
all: $(MUSL_PROGRAMS)

clean:
	rm -rf $(BUILD)/musl $(BUILD)/unit-objects $(BUILD)/fuzz-objects $(BUILD)/tests $(MUSL_PROGRAMS)

-include $(shell find $(BUILD)/musl $(BUILD)/unit-objects $(BUILD)/fuzz-objects -name '*.d' 2>/dev/null)
