/*
 * An engine's data and state, as the owner of a connection sees them. See engine.h.
 */
#include <string.h>

#include "agent/tls/engine.h"

bool engine_is_open(const struct upstream_engine *engine)
{
    return br_ssl_engine_current_state(&engine->client.eng) & (BR_SSL_SENDAPP | BR_SSL_RECVAPP);
}

bool engine_peer_ended(const struct upstream_engine *engine)
{
    return engine->client.eng.shutdown_recv != 0;
}

bool engine_can_receive(const struct upstream_engine *engine)
{
    return br_ssl_engine_current_state(&engine->client.eng) & BR_SSL_RECVREC;
}

bool engine_has_output(const struct upstream_engine *engine)
{
    return br_ssl_engine_current_state(&engine->client.eng) & BR_SSL_SENDREC;
}

bool engine_is_quiet(const struct upstream_engine *engine)
{
    const br_ssl_engine_context *tls = &engine->client.eng;
    size_t wanted = 0;
    const uint8_t *into = br_ssl_engine_recvrec_buf(tls, &wanted);
    /* Between two records the next header is wanted, to the start of the buffer; and no record has begun to
     * be filled: each write is flushed. */
    return into == engine->in && wanted == 5 &&
           !(br_ssl_engine_current_state(tls) & (BR_SSL_SENDREC | BR_SSL_RECVAPP));
}

size_t engine_write(struct upstream_engine *engine, const void *data, size_t size)
{
    size_t room = 0;
    uint8_t *into = br_ssl_engine_sendapp_buf(&engine->client.eng, &room);
    if (!into)
        return 0;
    size_t part = size < room ? size : room;
    memcpy(into, data, part);
    size_t end = (size_t)(into - engine->out) + part;
    if (end > engine->out_used)
        engine->out_used = end;
    br_ssl_engine_sendapp_ack(&engine->client.eng, part);
    engine_wipe_stack(true);
    return part;
}

void engine_flush(struct upstream_engine *engine)
{
    br_ssl_engine_flush(&engine->client.eng, 0);
    engine_wipe_stack(true);
}

const void *engine_peek(struct upstream_engine *engine, size_t *size)
{
    return br_ssl_engine_recvapp_buf(&engine->client.eng, size);
}

void engine_read(struct upstream_engine *engine, size_t size)
{
    size_t have = 0;
    if (!br_ssl_engine_recvapp_buf(&engine->client.eng, &have))
        return;
    if (size)
        br_ssl_engine_recvapp_ack(&engine->client.eng, size < have ? size : have);
}

void engine_end(struct upstream_engine *engine)
{
    engine_read(engine, SIZE_MAX);
    br_ssl_engine_close(&engine->client.eng);
    engine_wipe_stack(true);
}

bool engine_has_resumed(const struct upstream_engine *engine)
{
    br_ssl_session_parameters now;
    br_ssl_engine_get_session_parameters(&engine->client.eng, &now);
    bool same = engine->offered.session_id_len && now.session_id_len == engine->offered.session_id_len &&
                !memcmp(now.session_id, engine->offered.session_id, now.session_id_len);
    explicit_bzero(&now, sizeof now);
    return same;
}

void engine_keep_session(const struct upstream_engine *engine, struct upstream_sessions *sessions)
{
    br_ssl_engine_get_session_parameters(&engine->client.eng, &sessions->last);
    sessions->has_last = sessions->last.session_id_len != 0;
    if (!sessions->has_last)
        explicit_bzero(sessions, sizeof *sessions);
}
