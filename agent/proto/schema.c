/*
 * The rows of schema.h. PROTOCOL.md shows the same tables to people; tests/unit/proto compares neither but
 * holds every row's limits from both sides.
 */
#include "agent/proto/schema.h"

#include <string.h>

/* The texts of every fault of one field, so that a refusal names the field without a buffer to print into. In
 * parentheses, so that no checker takes the joined literals for a forgotten comma. */
#define WHY(name)                                                                                            \
    {                                                                                                        \
        [FAULT_MISSING] = (name ": missing"), [FAULT_KIND] = (name ": wrong kind of item"),                  \
        [FAULT_LIMITS] = (name ": outside its limits"),                                                      \
        [FAULT_TEXT] = (name ": text has a character that is not allowed"),                                  \
        [FAULT_INDEFINITE] = (name ": indefinite length"),                                                   \
        [FAULT_LONG_FORM] = (name ": not in its shortest form"),                                             \
        [FAULT_TRUNCATED] = (name ": goes past the end of the frame"),                                       \
        [FAULT_MALFORMED] = (name ": not well-formed CBOR"),                                                 \
    }

#define FIELD(member, name, key_, kind_, optional_, min_, max_)                                              \
    {                                                                                                        \
        .key = (key_), .kind = (kind_), .optional = (optional_),                                             \
        .offset = offsetof(struct proto_message, u.member), .min = (min_), .max = (max_), .why = WHY(name)   \
    }
#define REQUIRED(member, name, key, kind, min, max) FIELD(member, name, key, kind, false, min, max)
#define OPTIONAL(member, name, key, kind, min, max) FIELD(member, name, key, kind, true, min, max)

#define FAILURE_FIELD(member, name, key_, kind_, optional_, min_, max_)                                      \
    {                                                                                                        \
        .key = (key_), .kind = (kind_), .optional = (optional_),                                             \
        .offset = offsetof(struct proto_failure, member), .min = (min_), .max = (max_), .why = WHY(name)     \
    }

#define SHAPE(name, rows)                                                                                    \
    {                                                                                                        \
        .fields = (rows), .count = sizeof(rows) / sizeof *(rows), .why_unknown = name ": unknown key",       \
        .why_order = name ": keys repeated or not in ascending order", .why_key = WHY(name " key")           \
    }

#define EMPTY_SHAPE(name)                                                                                    \
    {                                                                                                        \
        .why_unknown = name ": unknown key", .why_order = name ": keys repeated or not in ascending order",  \
        .why_key = WHY(name " key")                                                                          \
    }

static const struct field hello_fields[] = {
    REQUIRED(hello.version, "hello.version", PROTO_KEY_VERSION, FIELD_UINT32, 1, UINT32_MAX),
    REQUIRED(hello.state, "hello.state", PROTO_KEY_STATE, FIELD_UINT32, PROTO_STATE_STARTING,
             PROTO_STATE_FAILED),
    REQUIRED(hello.name, "hello.name", PROTO_KEY_NAME, FIELD_TEXT, 1, PROTO_NAME_MAX_BYTES),
    REQUIRED(hello.wants_logs, "hello.wants_logs", PROTO_KEY_WANTS_LOGS, FIELD_BOOL, 0, 1),
};

static const struct field init_fields[] = {
    OPTIONAL(init.failure, "init.failure", PROTO_KEY_FAILURE, FIELD_FAILURE, 0, 0),
    REQUIRED(init.state, "init.state", PROTO_KEY_STATE, FIELD_UINT32, PROTO_STATE_READY, PROTO_STATE_FAILED),
    REQUIRED(init.duration_us, "init.duration_us", PROTO_KEY_DURATION, FIELD_UINT64, 0, UINT64_MAX),
};

static const struct field invoke_fields[] = {
    REQUIRED(invoke.id, "invoke.id", PROTO_KEY_ID, FIELD_ID, 1, PROTO_ID_MAX_BYTES),
    OPTIONAL(invoke.trace, "invoke.trace", PROTO_KEY_TRACE, FIELD_TEXT, 1, PROTO_TRACE_MAX_BYTES),
    REQUIRED(invoke.timeout_ms, "invoke.timeout_ms", PROTO_KEY_TIMEOUT, FIELD_UINT32, 1,
             PROTO_TIMEOUT_MAX_MS),
    REQUIRED(invoke.total_bytes, "invoke.total_bytes", PROTO_KEY_TOTAL, FIELD_UINT32, 0,
             PROTO_PAYLOAD_MAX_BYTES),
    REQUIRED(invoke.offset_bytes, "invoke.offset_bytes", PROTO_KEY_OFFSET, FIELD_UINT32, 0,
             PROTO_PAYLOAD_MAX_BYTES),
    REQUIRED(invoke.body, "invoke.body", PROTO_KEY_BODY, FIELD_BYTES, 0, PROTO_FRAGMENT_MAX_BYTES),
};

static const struct field response_fields[] = {
    REQUIRED(response.id, "response.id", PROTO_KEY_ID, FIELD_ID, 1, PROTO_ID_MAX_BYTES),
    REQUIRED(response.total_bytes, "response.total_bytes", PROTO_KEY_TOTAL, FIELD_UINT32, 0,
             PROTO_PAYLOAD_MAX_BYTES),
    REQUIRED(response.offset_bytes, "response.offset_bytes", PROTO_KEY_OFFSET, FIELD_UINT32, 0,
             PROTO_PAYLOAD_MAX_BYTES),
    REQUIRED(response.body, "response.body", PROTO_KEY_BODY, FIELD_BYTES, 0, PROTO_FRAGMENT_MAX_BYTES),
};

static const struct field error_fields[] = {
    OPTIONAL(error.id, "error.id", PROTO_KEY_ID, FIELD_ID, 1, PROTO_ID_MAX_BYTES),
    REQUIRED(error.failure, "error.failure", PROTO_KEY_FAILURE, FIELD_FAILURE, 0, 0),
};

static const struct field log_fields[] = {
    OPTIONAL(log.id, "log.id", PROTO_KEY_ID, FIELD_ID, 1, PROTO_ID_MAX_BYTES),
    REQUIRED(log.stream, "log.stream", PROTO_KEY_STREAM, FIELD_UINT32, PROTO_STREAM_STDOUT,
             PROTO_STREAM_STDERR),
    OPTIONAL(log.dropped_bytes, "log.dropped_bytes", PROTO_KEY_DROPPED, FIELD_UINT64, 1, UINT64_MAX),
    REQUIRED(log.body, "log.body", PROTO_KEY_BODY, FIELD_BYTES, 0, PROTO_LOG_MAX_BYTES),
};

static const struct field checkpoint_fields[] = {
    REQUIRED(checkpoint.timeout_ms, "checkpoint.timeout_ms", PROTO_KEY_TIMEOUT, FIELD_UINT32, 1,
             PROTO_TIMEOUT_MAX_MS),
};

static const struct field quiesced_fields[] = {
    OPTIONAL(quiesced.failure, "quiesced.failure", PROTO_KEY_FAILURE, FIELD_FAILURE, 0, 0),
    REQUIRED(quiesced.duration_us, "quiesced.duration_us", PROTO_KEY_DURATION, FIELD_UINT64, 0, UINT64_MAX),
};

static const struct field resumed_fields[] = {
    OPTIONAL(resumed.failure, "resumed.failure", PROTO_KEY_FAILURE, FIELD_FAILURE, 0, 0),
    REQUIRED(resumed.duration_us, "resumed.duration_us", PROTO_KEY_DURATION, FIELD_UINT64, 0, UINT64_MAX),
};

static const struct field collected_fields[] = {
    OPTIONAL(collected.failure, "collected.failure", PROTO_KEY_FAILURE, FIELD_FAILURE, 0, 0),
    REQUIRED(collected.duration_us, "collected.duration_us", PROTO_KEY_DURATION, FIELD_UINT64, 0, UINT64_MAX),
};

static const struct field resume_fields[] = {
    REQUIRED(resume.timeout_ms, "resume.timeout_ms", PROTO_KEY_TIMEOUT, FIELD_UINT32, 1,
             PROTO_TIMEOUT_MAX_MS),
    REQUIRED(resume.generation, "resume.generation", PROTO_KEY_GENERATION, FIELD_UINT64, 1, UINT64_MAX),
    OPTIONAL(resume.seed, "resume.seed", PROTO_KEY_SEED, FIELD_BYTES, PROTO_SEED_BYTES, PROTO_SEED_BYTES),
    OPTIONAL(resume.realtime_ns, "resume.realtime_ns", PROTO_KEY_REALTIME, FIELD_UINT64, 1, UINT64_MAX),
    OPTIONAL(resume.clone_id, "resume.clone_id", PROTO_KEY_CLONE_ID, FIELD_BYTES, PROTO_CLONE_ID_BYTES,
             PROTO_CLONE_ID_BYTES),
    OPTIONAL(resume.hostname, "resume.hostname", PROTO_KEY_HOSTNAME, FIELD_ID, 1, PROTO_HOSTNAME_MAX_BYTES),
    OPTIONAL(resume.network, "resume.network", PROTO_KEY_NETWORK, FIELD_NETWORK, 1, PROTO_NETWORK_MAX_BYTES),
};

static const struct field secret_fields[] = {
    REQUIRED(secret.name, "secret.name", PROTO_KEY_NAME, FIELD_ID, 1, PROTO_NAME_MAX_BYTES),
    REQUIRED(secret.body, "secret.body", PROTO_KEY_BODY, FIELD_BYTES, 0, PROTO_SECRET_MAX_BYTES),
};

static const struct field step_fields[] = {
    OPTIONAL(step.failure, "step.failure", PROTO_KEY_FAILURE, FIELD_FAILURE, 0, 0),
    REQUIRED(step.duration_us, "step.duration_us", PROTO_KEY_DURATION, FIELD_UINT64, 0, UINT64_MAX),
    REQUIRED(step.name, "step.name", PROTO_KEY_NAME, FIELD_ID, 1, PROTO_NAME_MAX_BYTES),
};

static const struct field fact_fields[] = {
    REQUIRED(fact.name, "fact.name", PROTO_KEY_NAME, FIELD_ID, 1, PROTO_NAME_MAX_BYTES),
    REQUIRED(fact.body, "fact.body", PROTO_KEY_BODY, FIELD_BYTES, 0, PROTO_FACT_MAX_BYTES),
};

static const struct field failure_fields[] = {
    FAILURE_FIELD(type, "failure.type", PROTO_KEY_FAILURE_TYPE, FIELD_TEXT, false, 1,
                  PROTO_ERROR_TYPE_MAX_BYTES),
    FAILURE_FIELD(message, "failure.message", PROTO_KEY_FAILURE_MESSAGE, FIELD_TEXT, false, 0,
                  PROTO_ERROR_TEXT_MAX_BYTES),
    FAILURE_FIELD(stack, "failure.stack", PROTO_KEY_FAILURE_STACK, FIELD_STACK, true, 1, PROTO_STACK_MAX),
};

static const struct shape shapes[] = {
    [PROTO_HELLO] = SHAPE("hello", hello_fields),
    [PROTO_INIT] = SHAPE("init", init_fields),
    [PROTO_INVOKE] = SHAPE("invoke", invoke_fields),
    [PROTO_RESPONSE] = SHAPE("response", response_fields),
    [PROTO_ERROR] = SHAPE("error", error_fields),
    [PROTO_LOG] = SHAPE("log", log_fields),
    [PROTO_CHECKPOINT] = SHAPE("checkpoint", checkpoint_fields),
    [PROTO_QUIESCED] = SHAPE("quiesced", quiesced_fields),
    [PROTO_RESUME] = SHAPE("resume", resume_fields),
    [PROTO_RESUMED] = SHAPE("resumed", resumed_fields),
    [PROTO_SHUTDOWN] = EMPTY_SHAPE("shutdown"),
    [PROTO_SECRET] = SHAPE("secret", secret_fields),
    [PROTO_STEP] = SHAPE("step", step_fields),
    [PROTO_COLLECT] = EMPTY_SHAPE("collect"),
    [PROTO_FACT] = SHAPE("fact", fact_fields),
    [PROTO_COLLECTED] = SHAPE("collected", collected_fields),
};

const struct shape schema_failure = SHAPE("failure", failure_fields);
const char *const schema_why_type[FAULT_COUNT] = WHY("type");
const char *const schema_why_stack_entry[FAULT_COUNT] = WHY("failure.stack entry");

/* The deepest shape is error { failure { stack [ text ] } }; the one with most items has a full stack:
 * map, type, id, failure (key and value each), its three keys and values, the entries. */
_Static_assert(4 <= PROTO_DEPTH_MAX, "a stack entry is nested deeper than the protocol allows");
_Static_assert(1 + 3 * 2 + 3 * 2 + PROTO_STACK_MAX <= PROTO_ITEMS_MAX, "a full error has too many items");
/* Whole frames fit: the largest error, and a fragment with every other field (72 bytes cover keys, heads and
 * integers). */
_Static_assert(PROTO_ID_MAX_BYTES + PROTO_ERROR_TYPE_MAX_BYTES + PROTO_ERROR_TEXT_MAX_BYTES +
                       PROTO_STACK_MAX * (PROTO_STACK_ENTRY_MAX_BYTES + 3) + 72 <=
                   PROTO_FRAME_MAX_BYTES,
               "the largest error does not fit a frame");
_Static_assert(PROTO_ID_MAX_BYTES + PROTO_TRACE_MAX_BYTES + 72 <= PROTO_HEAD_MAX_BYTES,
               "the largest head does not fit its buffer");
_Static_assert(PROTO_HEAD_MAX_BYTES + PROTO_FRAGMENT_MAX_BYTES <= PROTO_FRAME_MAX_BYTES,
               "the largest fragment does not fit a frame");
/* Enumerations are stored through FIELD_UINT32. */
_Static_assert(sizeof(enum proto_state) == 4 && sizeof(enum proto_stream) == 4,
               "enumerations are 32 bits wide");

const struct shape *schema_of(unsigned type)
{
    if (type >= sizeof shapes / sizeof *shapes || !shapes[type].why_unknown)
        return NULL;
    return &shapes[type];
}

/* Letters, digits and these. */
static bool is_made_of(struct proto_slice text, const char *marks)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        bool digit = c >= '0' && c <= '9';
        if (!letter && !digit && (c == '\0' || !strchr(marks, c)))
            return false;
    }
    return true;
}

bool schema_id_valid(struct proto_slice id)
{
    return is_made_of(id, "._-");
}

bool schema_network_valid(struct proto_slice network)
{
    return is_made_of(network, "._:/,;=-");
}

#define FRAGMENT_RULES(name, part)                                                                           \
    do {                                                                                                     \
        if ((part).offset_bytes > (part).total_bytes ||                                                      \
            (part).body.size > (part).total_bytes - (part).offset_bytes)                                     \
            return name ".body: goes past " name ".total_bytes";                                             \
        if ((part).body.size == 0 && (part).total_bytes > 0)                                                 \
            return name ".body: empty fragment of a payload that is not";                                    \
    } while (0)

/* Towards the agent it says all of a clone; towards the function only what is the function's. */
static const char *resume_rules(const struct proto_message *message)
{
    const bool has_seed = message->u.resume.seed.size > 0;
    if (has_seed != (message->u.resume.realtime_ns > 0) || has_seed != (message->u.resume.clone_id.size > 0))
        return "resume: seed, realtime_ns and clone_id come together";
    if (!has_seed && message->u.resume.hostname.size > 0)
        return "resume.hostname: comes only with resume.seed";
    if (!has_seed && message->u.resume.network.size > 0)
        return "resume.network: comes only with resume.seed";
    return NULL;
}

const char *schema_broken_rule(const struct proto_message *message)
{
    switch (message->type) {
    case PROTO_INIT:
        if ((message->u.init.state == PROTO_STATE_FAILED) != (message->u.init.failure.type.size > 0))
            return "init.failure: must be there when init.state is failed, and only then";
        return NULL;
    case PROTO_INVOKE:
        FRAGMENT_RULES("invoke", message->u.invoke);
        if (message->u.invoke.offset_bytes > 0 && message->u.invoke.trace.size > 0)
            return "invoke.trace: only the first fragment carries it";
        return NULL;
    case PROTO_RESPONSE:
        FRAGMENT_RULES("response", message->u.response);
        return NULL;
    case PROTO_LOG:
        if (message->u.log.body.size == 0 && message->u.log.dropped_bytes == 0)
            return "log.body: empty, and nothing was dropped";
        return NULL;
    case PROTO_RESUME:
        return resume_rules(message);
    case PROTO_SECRET:
        if (message->u.secret.name.size > 0 && message->u.secret.name.data[0] == '.')
            return "secret.name: begins with a dot";
        return NULL;
    case PROTO_HELLO:
    case PROTO_ERROR:
    case PROTO_CHECKPOINT:
    case PROTO_QUIESCED:
    case PROTO_RESUMED:
    case PROTO_SHUTDOWN:
    case PROTO_STEP:
    case PROTO_COLLECT:
    case PROTO_FACT:
    case PROTO_COLLECTED:
        return NULL;
    }
    return NULL;
}
