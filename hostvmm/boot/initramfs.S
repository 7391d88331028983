/*
 * The initramfs with Rekindle's init, as a part of this program: boot_initramfs .. boot_initramfs_end.
 * INITRAMFS_PATH comes from the Makefile. Read-only data: pages are read from the executable when needed.
 */
    .section .rodata.boot_initramfs, "a", @progbits
    .global boot_initramfs
    .global boot_initramfs_end
    .balign 4096
boot_initramfs:
    .incbin INITRAMFS_PATH
boot_initramfs_end:
    .byte 0

    .section .note.GNU-stack, "", @progbits
