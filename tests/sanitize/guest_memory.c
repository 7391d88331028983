/*
 * What a hostvmm under ThreadSanitizer is not to be blamed for. Two drives' threads move bytes to the same page of
 * the guest, one after the other, when the guest uses the page for one and then for the other. That it does so in
 * order is the guest's doing, through rings and memory of its own, and nothing that the sanitizer sees.
 */
const char *
__tsan_default_suppressions(void); /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

const char *
__tsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
{
    return "race:hostvmm/device/virtio/blk_request.c\n";
}
