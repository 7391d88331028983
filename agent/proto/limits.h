/*
 * Every limit of the runtime protocol, in one place. Both sides enforce them; PROTOCOL.md explains them.
 */
#ifndef AGENT_PROTO_LIMITS_H
#define AGENT_PROTO_LIMITS_H

#define PROTO_VERSION         1
#define PROTO_PORT            1024  /* vsock port the agent listens on */
#define PROTO_HEADER_BYTES    4     /* big-endian length of the body that follows */
#define PROTO_FRAME_MAX_BYTES 65536 /* header and body together */
#define PROTO_FRAGMENT_MAX_BYTES                                                                             \
    61440 /* body bytes of a payload in one frame: leaves 4 KiB for the other fields */
#define PROTO_PAYLOAD_MAX_BYTES     6291556 /* 6 MiB + 100: the synchronous payload limit of AWS Lambda */
#define PROTO_DEPTH_MAX             4       /* nesting of CBOR items in a frame */
#define PROTO_ITEMS_MAX             128     /* CBOR items in a frame */
#define PROTO_ID_MAX_BYTES          64      /* request id */
#define PROTO_TRACE_MAX_BYTES       256     /* trace id */
#define PROTO_NAME_MAX_BYTES        64      /* program name and version in hello */
#define PROTO_ERROR_TYPE_MAX_BYTES  128
#define PROTO_ERROR_TEXT_MAX_BYTES  4096
#define PROTO_STACK_MAX             32 /* entries of a stack trace */
#define PROTO_STACK_ENTRY_MAX_BYTES 256
#define PROTO_LOG_MAX_BYTES         16384  /* log bytes in one frame */
#define PROTO_TIMEOUT_MAX_MS        900000 /* 15 minutes */
#define PROTO_SEED_BYTES            32     /* of entropy in a resume */
#define PROTO_CLONE_ID_BYTES        16     /* the VM generation id of a clone */
#define PROTO_HOSTNAME_MAX_BYTES    64     /* what Linux takes */
#define PROTO_SECRET_MAX_BYTES      4096
#define PROTO_FACT_MAX_BYTES        16384 /* of one fact for the audit */
#define PROTO_NETWORK_MAX_BYTES     1024  /* of a guest's network, as text (network.h) */
#define PROTO_CONNECTIONS_MAX       16    /* clients of the agent at once */

#endif
