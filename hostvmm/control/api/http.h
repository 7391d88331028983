/* HTTP by libmicrohttpd: connections, bodies within bounds, answers. */
#ifndef HOSTVMM_CONTROL_API_HTTP_H
#define HOSTVMM_CONTROL_API_HTTP_H

#include <pthread.h>

#include "hostvmm/control/api/api.h"
#include "hostvmm/listen.h"

struct MHD_Daemon;

struct http {
    struct api *api;
    struct listen_place place;
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    unsigned active; /* requests that are not answered yet */
};

/* Serve at this path. 0, or an error that has been logged. */
int http_open(struct http *http, struct api *api, const char *path);
/* No new connection, answers that are due (for two seconds at most), the end. Safe after a failed open. */
void http_close(struct http *http);

#endif
