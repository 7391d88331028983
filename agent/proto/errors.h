/*
 * Every errorType the agent itself gives (PROTOCOL.md, "Errors"). A function may give any other of its own.
 *
 * One list, so that the agent, the host's client and the tests spell them alike.
 */
#ifndef AGENT_PROTO_ERRORS_H
#define AGENT_PROTO_ERRORS_H

/* Of an invocation; the next one works, after a restart of the function where it says so. */
#define PROTO_ERROR_CRASHED       "Function.Crashed"              /* ended by a signal; restarted */
#define PROTO_ERROR_EXITED        "Function.Exited"               /* exited by itself; restarted */
#define PROTO_ERROR_TIMED_OUT     "Function.TimedOut"             /* deadline passed; killed, restarted */
#define PROTO_ERROR_OUT_OF_MEMORY "Function.OutOfMemory"          /* its cgroup's limit; killed, restarted */
#define PROTO_ERROR_TOO_LARGE     "Function.ResponseSizeTooLarge" /* answer past PROTO_PAYLOAD_MAX_BYTES */
#define PROTO_ERROR_BAD_RESPONSE                                                                             \
    "Function.BadResponse"                            /* not for this request, or twice; killed, restarted */
#define PROTO_ERROR_BAD_CHANNEL "Function.BadChannel" /* not a frame of this protocol; killed, restarted */
#define PROTO_ERROR_INIT        "Function.InitError"  /* the function is not up: its init failed */

/* Around a snapshot. */
#define PROTO_ERROR_NOT_QUIESCED "Agent.NotQuiesced" /* no snapshot may be taken now */
#define PROTO_ERROR_NOT_RESUMED                                                                              \
    "Agent.NotResumed" /* this clone never serves: the message begins with the step that failed */

/* Of the client. Connection-wide where marked *: the agent closes after it. */
#define PROTO_ERROR_BUSY        "Agent.Busy"       /* its turn did not come in time, or one client too many */
#define PROTO_ERROR_BAD_REQUEST "Agent.BadRequest" /* a fragment out of order, or past its total */
#define PROTO_ERROR_BAD_MESSAGE                                                                              \
    "Agent.BadMessage" /* * not a valid frame, or not one a client may send now                              \
                        */
#define PROTO_ERROR_BAD_VERSION   "Agent.BadVersion"   /* * hello with another version */
#define PROTO_ERROR_SHUTTING_DOWN "Agent.ShuttingDown" /* no more invocations */
#define PROTO_ERROR_INTERNAL      "Agent.Internal"     /* the agent failed: its log says how */

#endif
