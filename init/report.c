/* See report.h. */
#include "init/report.h"

#include "init/arch.h"

static uint16_t report_port;

int report_open(uint16_t port)
{
    int error = port ? arch_ports_open(port, 2) : 0;
    report_port = error ? 0 : port;
    return error;
}

void report_stage(enum guest_stage stage)
{
    if (report_port)
        arch_port_write((uint16_t)(report_port + 1), (uint8_t)stage);
}

void report_reason(enum guest_exit reason)
{
    if (report_port)
        arch_port_write(report_port, (uint8_t)reason);
}
