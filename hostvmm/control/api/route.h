/*
 * From a method, a path and bytes to a handler: all that is between HTTP and the resources. No I/O.
 */
#ifndef HOSTVMM_CONTROL_API_ROUTE_H
#define HOSTVMM_CONTROL_API_ROUTE_H

#include "hostvmm/control/api/api.h"

#define ROUTE_NAME_MAX 127

/* The route, and what stands for {...} in it (empty: nothing). NULL: there is none. */
const struct api_route *route_find(const char *method, const char *path, char name[ROUTE_NAME_MAX + 1]);

/* How many bytes a body for that route may have; `route` may be NULL. */
size_t route_body_max(const struct api_route *route);

/* Handle a request whose id, method, path and connection are set. The body may be changed. Takes the lock. */
void route_handle(struct api *api, struct api_request *request, void *body, size_t bytes,
                  struct api_response *response);

/* The same for a body that is parsed already, with the lock held; for configuration files. */
void route_resource(struct api *api, struct api_request *request, const json_t *json,
                    struct api_response *response);

/* What a response holds is let go. */
void route_free(struct api_response *response);

/* 16 random hex digits. */
void route_new_id(char id[API_ID_BYTES]);

#endif
