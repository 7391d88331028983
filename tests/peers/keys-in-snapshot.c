/*
 * keys-in-snapshot: is any key of a TLS connection, which its server saw, in a snapshot (or a process)?
 *
 *   keys-in-snapshot [--log FILE --keylog FILE] [--private-key FILE] (--process PID | PATH...)
 *
 * FILEs are tls-peer's: the randoms and suites of the handshakes, and the master secrets. A PATH is a file,
 * or a directory whose files are searched. Sought for, of each connection: the master secret, its two halves
 * apart each side's write key, the two initial vectors together, MAC keys what AES implementations keep
 * instead of the key: the first words of BearSSL's bitsliced schedule (those of all others begin with the key
 * itself), and GHASH's key A key is found wherever it lies, aligned or not, unless it is cut by the edge of a
 * page whose neighbour in memory is not its neighbour in the file, or by a run of zeros left out of a
 * snapshot's state.
 *
 * Exit code 0: none is there; 1: some are, each on a line; 2: the search could not be made whole. No
 * handshake in the log is such a case: a search for nothing finds nothing.
 */
#include <bearssl.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/peers/keys.h"
#include "tests/peers/lines.h"

#define NEEDLE_MAX   32
#define NEEDLES_MAX  65536
#define PREFIX_BYTES 4
#define TABLE_BITS   18
#define BLOCK_BYTES  (1u << 20)

struct needle {
    uint8_t bytes[NEEDLE_MAX];
    size_t size;
    const char *what;
    unsigned connection;
    int next; /* of the same slot */
};
static struct needle needles[NEEDLES_MAX];
static int needle_count, table[1 << TABLE_BITS];
static unsigned connection_count, found_count;
static uint64_t searched_bytes;

_Noreturn static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "keys-in-snapshot: %s: %s\n", what, why);
    exit(2);
}

static uint32_t slot_of(const uint8_t *bytes)
{
    uint32_t prefix;
    memcpy(&prefix, bytes, sizeof prefix);
    return prefix * 2654435761u >> (32 - TABLE_BITS);
}

static void seek(unsigned connection, const char *what, const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return;
    if (needle_count == NEEDLES_MAX || size > NEEDLE_MAX)
        die(what, "too many keys to search for");
    struct needle *needle = &needles[needle_count];
    *needle = (struct needle){.size = size, .connection = connection, .what = what};
    memcpy(needle->bytes, bytes, size);
    int *slot = &table[slot_of(bytes)]; /* numbered from 1: 0 is none */
    needle->next = *slot;
    *slot = ++needle_count;
}

/* ---- what to search for ---- */

static void seek_aes(unsigned connection, const uint8_t *key, size_t size, const char *const names[2])
{
    static const uint8_t zeros[16];
    uint8_t hash_key[32];
    int length;
    br_aes_ct64_ctr_keys schedule;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    br_aes_ct64_ctr_init(&schedule, key, size);
    seek(connection, names[0], (const uint8_t *)schedule.skey, 16);
    if (!context ||
        !EVP_EncryptInit_ex(context, size == 16 ? EVP_aes_128_ecb() : EVP_aes_256_ecb(), NULL, key, NULL) ||
        !EVP_EncryptUpdate(context, hash_key, &length, zeros, sizeof zeros))
        die("AES", "failed");
    EVP_CIPHER_CTX_free(context);
    seek(connection, names[1], hash_key, 16);
}

static void seek_connection(unsigned connection, const struct tls_keys *keys, const uint8_t *master)
{
    static const char *const client[] = {"client's bitsliced key", "client's GHASH key"};
    static const char *const server[] = {"server's bitsliced key", "server's GHASH key"};
    const size_t half = TLS_MASTER_BYTES / 2;
    seek(connection, "master secret, first half", master, half);
    seek(connection, "master secret, second half", master + half, half);
    seek(connection, "client's write key", tls_keys_client_key(keys), keys->key_bytes);
    seek(connection, "server's write key", tls_keys_server_key(keys), keys->key_bytes);
    seek(connection, "initial vectors", tls_keys_client_iv(keys), 2 * keys->iv_bytes);
    if (keys->mac_bytes > 0) {
        seek(connection, "client's MAC key", keys->block, 16);
        seek(connection, "server's MAC key", keys->block + keys->mac_bytes, 16);
    }
    if (keys->is_aes) {
        seek_aes(connection, tls_keys_client_key(keys), keys->key_bytes, client);
        seek_aes(connection, tls_keys_server_key(keys), keys->key_bytes, server);
    }
}

static int find_master(const struct lines *keylog, const char *random, uint8_t master[TLS_MASTER_BYTES])
{
    char wanted[16 + 2 * TLS_RANDOM_BYTES + 2];
    const int size = snprintf(wanted, sizeof wanted, "CLIENT_RANDOM %s ", random);
    for (size_t i = 0; i < keylog->count; i++)
        if (strncmp(keylog->at[i], wanted, (size_t)size) == 0)
            return from_hex(master, TLS_MASTER_BYTES, keylog->at[i] + size);
    return -ENOENT;
}

static void seek_handshake(const char *line, const struct lines *keylog)
{
    char random[2 * TLS_RANDOM_BYTES + 1], server[2 * TLS_RANDOM_BYTES + 1], cipher[64], version[16];
    uint8_t client_random[TLS_RANDOM_BYTES], server_random[TLS_RANDOM_BYTES], master[TLS_MASTER_BYTES];
    struct tls_keys keys;
    if (!line_field(line, "version", version, sizeof version) || strcmp(version, "TLSv1.2") != 0)
        die(line, "a handshake that is not of TLS 1.2");
    if (!line_field(line, "client_random", random, sizeof random) ||
        !line_field(line, "server_random", server, sizeof server) ||
        !line_field(line, "cipher", cipher, sizeof cipher) ||
        from_hex(client_random, sizeof client_random, random) ||
        from_hex(server_random, sizeof server_random, server))
        die(line, "not as tls-peer logs a handshake");
    if (find_master(keylog, random, master))
        die(random, "its master secret is not in the key log");
    if (tls_keys_derive(&keys, cipher, master, client_random, server_random))
        die(cipher, "a suite of unknown sizes");
    seek_connection((unsigned)line_number(line, "connection"), &keys, master);
    connection_count++;
}

static void seek_private_key(const char *path)
{
    char text[8192] = "";
    uint8_t number[512];
    BIGNUM *value = NULL;
    FILE *file = fopen(path, "re");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
    if (!key || (!EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_FACTOR1, &value) &&
                 !EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &value)))
        die(path, "no private key of RSA or EC, in PEM");
    const int size = BN_bn2binpad(value, number, BN_num_bytes(value));
    if (size < NEEDLE_MAX / 2)
        die(path, "a key too short to search for");
    seek(0, "private key", number, (size_t)size < NEEDLE_MAX ? (size_t)size : NEEDLE_MAX);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    const char *line = strchr(text, '\n');
    /* The first half of the line says the kind and is the same in all keys. */
    if (!line || strlen(line) < 1 + 64)
        die(path, "not as PEM is written");
    seek(0, "private key's text", (const uint8_t *)line + 1 + 32, NEEDLE_MAX);
    BN_free(value);
    EVP_PKEY_free(key);
    (void)fclose(file);
}

/* ---- the search ---- */

static void search_at(const char *path, uint64_t offset, const uint8_t *bytes, size_t left)
{
    for (int i = table[slot_of(bytes)]; i > 0; i = needles[i - 1].next) {
        const struct needle *needle = &needles[i - 1];
        if (needle->size > left || memcmp(needle->bytes, bytes, needle->size) != 0)
            continue;
        printf("found: connection %u, %s: %s, at 0x%" PRIx64 "\n", needle->connection, needle->what, path,
               offset);
        found_count++;
    }
}

/* Blocks overlap by the longest needle; what was searched in the last one is not searched again. */
static void search_range(const char *path, int fd, uint64_t from, uint64_t to)
{
    static uint8_t block[BLOCK_BYTES + NEEDLE_MAX];
    size_t have = 0;
    uint64_t at = from; /* of block[0] */
    for (;;) {
        const uint64_t wanted = to - at - have;
        const size_t room = sizeof block - have;
        const ssize_t got = pread(fd, block + have, wanted < room ? wanted : room, (off_t)(at + have));
        if (got < 0)
            die(path, strerror(errno));
        have += (size_t)got;
        const bool last = got == 0 || at + have == to;
        const size_t end = last ? have : have > NEEDLE_MAX ? have - NEEDLE_MAX : 0;
        for (size_t i = 0; i < end && have - i >= PREFIX_BYTES; i++)
            search_at(path, at + i, block + i, have - i);
        searched_bytes += end;
        if (last)
            return;
        memmove(block, block + end, have - end);
        at += end;
        have -= end;
    }
}

static void search_file(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        die(path, strerror(errno));
    /* A hole ends a range: what a key could straddle there is zeros. */
    for (off_t from = 0, to;; from = to) {
        from = lseek(fd, from, SEEK_DATA);
        if (from < 0)
            break;
        to = lseek(fd, from, SEEK_HOLE);
        search_range(path, fd, (uint64_t)from, (uint64_t)to);
    }
    if (errno != ENXIO)
        die(path, strerror(errno));
    close(fd);
}

static void search_path(const char *path)
{
    struct stat about;
    char inner[4096];
    if (stat(path, &about) < 0)
        die(path, strerror(errno));
    if (!S_ISDIR(about.st_mode)) {
        search_file(path);
        return;
    }
    DIR *directory = opendir(path);
    if (!directory)
        die(path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        search_file(inner);
    }
    closedir(directory);
}

/* The memory of a running process, as far as it may be read: what the tool's own test searches. */
static void search_process(const char *pid)
{
    char path[64], line[512];
    (void)snprintf(path, sizeof path, "/proc/%s/maps", pid);
    FILE *maps = fopen(path, "re");
    (void)snprintf(path, sizeof path, "/proc/%s/mem", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (!maps || fd < 0)
        die(path, strerror(errno));
    while (fgets(line, sizeof line, maps)) {
        uint64_t from, to;
        char mode[5];
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &from, &to, mode) == 3 &&
            strncmp(mode, "rw", 2) == 0 && !strstr(line, "[v"))
            search_range(path, fd, from, to);
    }
    (void)fclose(maps);
    close(fd);
}

static void seek_log(const char *log_path, const char *keylog_path)
{
    struct lines log, keylog;
    if (lines_read(&log, log_path) || lines_read(&keylog, keylog_path))
        die(log_path, "this, or the key log, cannot be read");
    for (size_t i = 0; i < log.count; i++)
        if (strstr(log.at[i], "\"event\":\"handshake\""))
            seek_handshake(log.at[i], &keylog);
    if (connection_count == 0)
        die(log_path, "no handshake is in it");
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"log", required_argument, NULL, 'l'},
                                          {"keylog", required_argument, NULL, 'k'},
                                          {"private-key", required_argument, NULL, 'P'},
                                          {"process", required_argument, NULL, 'p'},
                                          {0}};
    const char *log_path = NULL, *keylog_path = NULL, *process = NULL;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'l')
            log_path = optarg;
        else if (option == 'k')
            keylog_path = optarg;
        else if (option == 'P')
            seek_private_key(optarg);
        else if (option == 'p')
            process = optarg;
        else
            return 2;
    }
    if ((log_path == NULL) != (keylog_path == NULL) || (!log_path && needle_count == 0) ||
        (process == NULL) == (optind == argc)) {
        (void)fputs("usage: keys-in-snapshot [--log FILE --keylog FILE] [--private-key FILE]\n"
                    "                        (--process PID | PATH...)\n",
                    stderr);
        return 2;
    }
    if (log_path)
        seek_log(log_path, keylog_path);
    if (process)
        search_process(process);
    for (int i = optind; i < argc; i++)
        search_path(argv[i]);
    printf("%u connections, %d keys and parts, %" PRIu64 " bytes searched: %u found\n", connection_count,
           needle_count, searched_bytes, found_count);
    return found_count > 0 ? 1 : 0;
}
