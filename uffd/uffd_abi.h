// The kernel's userfaultfd interface: <linux/userfaultfd.h>, and what headers older than the
// running kernel lack. Debian 12 ships the headers of Linux 6.1.
// Source: include/uapi/linux/userfaultfd.h of Linux 6.8;
// Documentation/admin-guide/mm/userfaultfd.rst.
#pragma once

#include <linux/userfaultfd.h>

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)  // Linux 6.4
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)  // Linux 6.6
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)  // Linux 6.7
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)  // Linux 6.8
#endif

#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP (1ULL << 1)  // Linux 6.4
#endif

#ifndef UFFDIO_POISON
#define _UFFDIO_POISON (0x08)
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)

struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;  // bytes done, or a negated errno
};
#endif
