/* See samples.h. */
#include "tests/unit/proto/samples.h"

#define TEXT(literal)                                                                                        \
    {                                                                                                        \
        (const uint8_t *)(literal), sizeof(literal) - 1                                                      \
    }

const struct sample samples[] = {
    {"hello-client",
     "00000016a5000101010a010c6b686f7374766d6d20302e310df5",
     {.type = PROTO_HELLO,
      .u.hello =
          {.version = 1, .name = TEXT("hostvmm 0.1"), .wants_logs = true, .state = PROTO_STATE_STARTING}}},
    {"hello-agent",
     "00000014a5000101010a020c696167656e7420302e310df4",
     {.type = PROTO_HELLO, .u.hello = {.version = 1, .name = TEXT("agent 0.1"), .state = PROTO_STATE_READY}}},
    {"init-ready",
     "00000009a300020a020b1905dc",
     {.type = PROTO_INIT, .u.init = {.state = PROTO_STATE_READY, .duration_us = 1500}}},
    {"init-failed",
     "00000032a4000207a2007246756e6374696f6e2e496e69744572726f72016f696e69742072657475726e6564"
     "20330a030b1a00011170",
     {.type = PROTO_INIT,
      .u.init = {.state = PROTO_STATE_FAILED,
                 .duration_us = 70000,
                 .failure = {.type = TEXT("Function.InitError"), .message = TEXT("init returned 3")}}}},
    {"invoke-whole",
     "00000023a700030263722d31036a526f6f743d312d61626304190bb8050506001745776f726c64",
     {.type = PROTO_INVOKE,
      .u.invoke = {.id = TEXT("r-1"),
                   .trace = TEXT("Root=1-abc"),
                   .timeout_ms = 3000,
                   .total_bytes = 5,
                   .body = TEXT("world")}}},
    {"invoke-empty",
     "00000010a600030263722d320401050006001740",
     {.type = PROTO_INVOKE, .u.invoke = {.id = TEXT("r-2"), .timeout_ms = 1}}},
    {"invoke-last",
     "00000019a600030263722d3304190bb80519f0030619f0001743656e64",
     {.type = PROTO_INVOKE,
      .u.invoke = {.id = TEXT("r-3"),
                   .timeout_ms = 3000,
                   .total_bytes = 61443,
                   .offset_bytes = 61440,
                   .body = TEXT("end")}}},
    {"response",
     "0000001ba500040263722d31050d0600174d48656c6c6f2c20776f726c6421",
     {.type = PROTO_RESPONSE,
      .u.response = {.id = TEXT("r-1"), .total_bytes = 13, .body = TEXT("Hello, world!")}}},
    {"error-invocation",
     "0000003ca300050263722d3107a3007046756e6374696f6e2e4372617368656401697369676e616c20313102"
     "82686d61696e2e633a376973746172742e633a31",
     {.type = PROTO_ERROR,
      .u.error = {.id = TEXT("r-1"),
                  .failure = {.type = TEXT("Function.Crashed"),
                              .message = TEXT("signal 11"),
                              .stack = {TEXT("main.c:7"), TEXT("start.c:1")},
                              .stack_count = 2}}}},
    {"error-connection",
     "00000028a2000507a200704167656e742e42616456657273696f6e016f737065616b2076657273696f6e2031",
     {.type = PROTO_ERROR,
      .u.error.failure = {.type = TEXT("Agent.BadVersion"), .message = TEXT("speak version 1")}}},
    {"log",
     "00000014a400060263722d31080217486361726566756c0a",
     {.type = PROTO_LOG,
      .u.log = {.id = TEXT("r-1"), .stream = PROTO_STREAM_STDERR, .body = TEXT("careful\n")}}},
    {"log-dropped",
     "0000000ba400060801091910001740",
     {.type = PROTO_LOG, .u.log = {.stream = PROTO_STREAM_STDOUT, .dropped_bytes = 4096}}},
    {"shutdown", "00000003a1000b", {.type = PROTO_SHUTDOWN}},
};
const size_t sample_count = sizeof samples / sizeof *samples;
