/*
 * Comes before every file of a proof: what the tree uses and Frama-C's headers and parser do not have.
 *
 * An atomic load gives any value there is: the other side may write at any moment, and twice the same word
 * need not be twice the same value. So nothing is proven by what a shared word held before.
 */
#ifndef TESTS_PROOF_INCLUDE_PROOF_H
#define TESTS_PROOF_INCLUDE_PROOF_H

#define __atomic_load_n(at, order)          (*(volatile __typeof__(*(at)) *)(at))
#define __atomic_store_n(at, value, order)  ((void)(*(at) = (value)))
#define __atomic_fetch_or(at, value, order) (*(at) |= (value))
#define __atomic_thread_fence(order)        ((void)0)

/* Linux's, of calls that no proof goes through. */
#define MAP_NORESERVE 0x4000
#define MADV_HUGEPAGE 14
#define MADV_DONTDUMP 16
#define MFD_CLOEXEC   1
#define MFD_HUGETLB   4

#endif
