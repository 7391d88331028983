/*
 * An edge-triggered interrupt line of a device: an eventfd bound to a GSI with KVM_IRQFD. Raising it is one
 * write from any thread, without entering KVM's VM lock. In unit tests it is a bare eventfd whose count the
 * test reads.
 */
#ifndef HOSTVMM_DEVICE_IRQ_H
#define HOSTVMM_DEVICE_IRQ_H

struct irq_line {
    int fd; /* eventfd, owned by the VM; -1: nobody listens, raising does nothing */
};

void irq_raise(const struct irq_line *line);

#endif
