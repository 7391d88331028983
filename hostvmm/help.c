/* What `hostvmm run|snapshot|restore --help` print. */
#include "hostvmm/config.h"

#define NET_BACKENDS                                                                                         \
    "                 tap=NAME        a TAP device that is there: ip tuntap add NAME mode tap vnet_hdr\n"    \
    "                 tap-fd=N        one that is open already, as this descriptor\n"                        \
    "                 stream=PATH     the Unix socket of passt (passt --socket PATH), or of its like\n"      \
    "                 none            a wire that ends in the air\n"                                         \
    "                 mac=, mtu=, address=A/PREFIX (up to 8), gateway=, dns= (up to 4): IPv4 and IPv6, "     \
    "such as\n"                                                                                              \
    "                 --net tap=tap0,address=192.0.2.2/24,gateway=192.0.2.1\n"                               \
    "                 rx-RATE, tx-RATE: limits to what the guest receives and sends\n"

/* For a clone: limits are the snapshot's unless they are given. */
#define RATE_OPTIONS                                                                                         \
    "  --rootfs-rate RATE,...  limits to what is read of the root image\n"                                   \
    "  --rng-rate RATE,...     limits to what the guest takes from the entropy device\n"                     \
    "                 RATE is bandwidth=SIZE/MS[/BURST] in bytes, or operations=SIZE/MS[/BURST]: SIZE in "   \
    "MS\n"                                                                                                   \
    "                 milliseconds, BURST once besides; K, M, G are times 1024; `none` for no limit\n"

#define MACHINE_OPTIONS                                                                                      \
    "  --kernel FILE           x86-64 Linux: vmlinux (ELF) or bzImage\n"                                     \
    "  --rootfs FILE           root image (erofs, squashfs, ext4): the first drive, read-only\n"             \
    "  --initrd FILE           initrd to give instead of the built-in one, which starts Rekindle's init\n"   \
    "  --cpus N                1 to 32 vCPUs (1)\n"                                                          \
    "  --cpu host|baseline     CPU features: all of this machine's, or x86-64-v2, which other machines "     \
    "have\n"                                                                                                 \
    "  --memory MIB            16 to 524288 MiB of memory (128)\n"                                           \
    "  --huge-pages            memory from the host's reserve of 2 MiB pages (/proc/sys/vm/nr_hugepages)\n"  \
    "  --balloon target=MIB[,deflate-on-oom][,reporting][,hinting][,stats=SECONDS]  a memory balloon\n"      \
    "                          of that size at first; the guest names free pages always (reporting),\n"      \
    "                          or when it is asked (hinting)\n"                                              \
    "  --drive FILE[,ro][,id=NAME][,RATE]...  a further drive, up to 15\n" RATE_OPTIONS                      \
    "  --net BACKEND[,ITEM]... a network interface, up to 4; the guest sets itself up as the items "         \
    "say\n" NET_BACKENDS                                                                                     \
    "  --vsock PATH[,cid=N]    vsock device with the Unix socket PATH as its host side (cid 3)\n"            \
    "  --console stdio|none|FILE    where the guest's console goes (standard output; input from a "          \
    "terminal)\n"                                                                                            \
    "  --bootarg K=V           an argument for Rekindle's init, such as hostname=alpha\n"                    \
    "  --cmdline TEXT          more text for the kernel's command line\n"                                    \
    "  --bare-cmdline          nothing but that text: for a guest without Rekindle's init\n"                 \
    "  --timeline FILE         write the boot's stages as JSON; as a picture when the name ends in .svg\n"   \
    "  --no-rng                no entropy device\n"                                                          \
    "  --hooks-limit MS        how long the function's before_checkpoint and after_restore may take "        \
    "(10000)\n"

#define OPERATION_OPTIONS                                                                                    \
    "  --control PATH          a Unix socket to operate the guest through: `hostvmm snapshot --control "     \
    "PATH`, "                                                                                                \
    "...\n"                                                                                                  \
    "  --control-fd N          the same through an open connection; when its other end closes, the guest "   \
    "is "                                                                                                    \
    "stopped\n"                                                                                              \
    "  --paused                nothing runs before the operator says resume\n"

#define WATCH_OPTIONS                                                                                        \
    "  --log FILE              append this program's messages to FILE (standard error)\n"                    \
    "  --log-level LEVEL       up to error, warning, info or debug (info)\n"                                 \
    "  --log-format text|json  lines of text, or a JSON object a line (text)\n"                              \
    "  --metrics FILE          write the counters at the end, and whenever they are asked for, as JSON; as " \
    "text for\n"                                                                                             \
    "                          Prometheus when the name ends in .prom\n"

#define JAIL_OPTION                                                                                          \
    "  --jail default|ITEMS    give up all rights before the guest runs: uid=N, gid=N, cgroup=PATH|none,\n"  \
    "                          cpu=PERCENT, memory=MIB, pids=N, files=N, io=MAJOR:MINOR/READ/WRITE, "        \
    "dir=PATH\n"

#define EXIT_CODES                                                                                           \
    "exit codes:\n"                                                                                          \
    "  0   the guest powered off in order        4   the guest reset itself or crashed\n"                    \
    "  1   the host failed                       5   KVM internal error\n"                                   \
    "  2   bad command line                      10+ the guest's own reason: 11 no root file system,\n"      \
    "  3   an input cannot be used                   12 no overlay, 13 no agent, 14 agent ended too "        \
    "often,\n"                                                                                               \
    "  8   the clone could not prove that it is      15 init failed\n"                                       \
    "      no twin, and was stopped              128+N  stopped at once by signal N\n"

static const char run_help[] =
    "usage: hostvmm run --kernel FILE [option]...\n"
    "\n"
    "Boots a guest and runs it until it powers off.\n"
    "\n" MACHINE_OPTIONS OPERATION_OPTIONS WATCH_OPTIONS JAIL_OPTION "\n"
    "SIGINT, SIGTERM and SIGHUP shut the guest down in order; a second one stops it at once.\n"
    "\n" EXIT_CODES;

static const char snapshot_help[] =
    "usage: hostvmm snapshot --kernel FILE --rootfs FILE --out DIR [option]...\n"
    "       hostvmm snapshot --control PATH --out DIR [--parent DIR] [--no-checkpoint] [--stop|--pause]\n"
    "                        [--wait MS] [--json]\n"
    "\n"
    "The first form boots a guest, waits until its function is ready, makes a snapshot of it and ends. The\n"
    "second makes one of a running guest, which goes on; with --parent one of what changed since that one.\n"
    "\n"
    "  --out DIR               the snapshot: a directory that does not exist yet\n"
    "  --no-rehearsal          do not find out, with a first clone, which pages clones touch before they are "
    "ready\n" MACHINE_OPTIONS WATCH_OPTIONS JAIL_OPTION "\n" EXIT_CODES;

static const char restore_help[] =
    "usage: hostvmm restore --snapshot DIR [option]...\n"
    "\n"
    "Restores clones of a snapshot and runs them until they power off. In names, %n is the clone's number.\n"
    "\n"
    "  --snapshot DIR          the snapshot\n"
    "  --clones N              how many, each a process of its own (1)\n"
    "  --drive FILE,id=NAME[,RATE]...  the clone's own file in the place of the drive NAME: every writable "
    "one\n"
    "                          needs it; limits that are not given are the snapshot's\n" RATE_OPTIONS
    "  --net BACKEND[,ITEM]... one for each of the snapshot's interfaces, in their order; the clone's own "
    "MAC is\n"
    "                          made anew unless it is given; addresses, gateways, dns and mtu that are not\n"
    "                          given are the snapshot's; address=A+%n/PREFIX is that many after "
    "A\n" NET_BACKENDS
    "  --vsock PATH            the Unix socket of the clone's vsock device; served once the clone is unique\n"
    "  --console stdio|none|FILE    where the guest's console goes (standard output)\n" OPERATION_OPTIONS
    "  --hostname NAME         the clone's host name (made from its id)\n"
    "  --secret NAME=FILE      put into the clone's memory as /run/secrets/NAME; up to 16\n"
    "  --hooks-limit MS        how long the function's after_restore may take (10000)\n"
    "  --resume-limit MS       how long the clone may take to prove that it is no twin (60000)\n"
    "  --rehearse              write down which pages a clone touches before it is ready, and stop: later "
    "ones are faster\n"
    "  --verify                compare all of the snapshot's memory with its digests first\n"
    "  --timeline FILE         write the restore's steps as JSON; as a picture when the name ends in "
    ".svg\n" WATCH_OPTIONS JAIL_OPTION "\n" EXIT_CODES;

const char *config_help(enum config_command command)
{
    switch (command) {
    case CONFIG_SNAPSHOT:
        return snapshot_help;
    case CONFIG_RESTORE:
        return restore_help;
    case CONFIG_RUN:
        break;
    }
    return run_help;
}
