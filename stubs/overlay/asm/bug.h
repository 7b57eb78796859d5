/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replaces the BRK instruction and its bug frame: a failed ASSERT(), a BUG()
 * or a WARN() is handed to the machine with the tree's own file and line.
 */
#ifndef FFASHIM_ASM_BUG_H
#define FFASHIM_ASM_BUG_H

#include <xen/types.h>
#include <ffashim/host.h>

#define BUG_FRAME_STRUCT
struct bug_frame { unsigned int unused; };

#define BUG() host_fault(FFASHIM_BUG, __FILE__, __LINE__, "BUG")
#define WARN() \
    host_event(FFASHIM_EVENT_WARN, __LINE__, (unsigned long)__FILE__, 0)
#define assert_failed(msg) \
    host_fault(FFASHIM_ASSERT, __FILE__, __LINE__, "%s", msg)
#define run_in_exception_handler(fn) ((void)(fn))

/* Older trees define the rest from these in xen/lib.h or xen/bug.h. */
#define BUG_FRAME(type, line, file, has_msg, msg) ((void)0)

#endif /* FFASHIM_ASM_BUG_H */
