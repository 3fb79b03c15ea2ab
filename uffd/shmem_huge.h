// Whether a tmpfs gives its memory in huge folios (transparent huge pages).
//
// Source: Documentation/admin-guide/mm/transhuge.rst, "Hugepages in tmpfs/shmem"; proc(5),
// mountinfo.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace faultline {

/// `file`: what fstat says of a file of process `pid`. It names the huge page as its block size
/// (shmem_getattr) unless they are given to mappings with MADV_HUGEPAGE only: that is in the
/// mount's options, as the process sees them, or for files of no mount (memfd) in the system's
/// setting.
[[nodiscard]] bool TmpfsGivesHugePages(int pid, const struct stat& file);

/// The text of a mountinfo file → the option's value; "" if no mount has that device number.
[[nodiscard]] std::string HugeOptionIn(std::string_view mountinfo, uint64_t device);
/// "always within_size [advise] never" → "advise"; "" if nothing is chosen.
[[nodiscard]] std::string ChosenIn(std::string_view setting);

}  // namespace faultline
