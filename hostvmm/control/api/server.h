/* `hostvmm api`, and `hostvmm --api-sock ...`. */
#ifndef HOSTVMM_CONTROL_API_SERVER_H
#define HOSTVMM_CONTROL_API_SERVER_H

/* The process's exit code: the guest's, or as exit.h has it. argv[0] is any word. */
int api_main(int argc, char **argv);

#endif
