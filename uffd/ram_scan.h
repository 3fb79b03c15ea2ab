// Which bytes of a region hold data, where the file system does not say: hugetlbfs, whose
// SEEK_DATA calls everything data.
//
// 1. The VMM's page tables (/proc/PID/pagemap): what is mapped there is data.
// 2. If the file occupies no more than that (st_blocks), nothing else is.
// 3. Otherwise (an earlier owner wrote the file, or a mapping was dropped): every other page is
//    read with pread, which allocates nothing, and is data if one byte of it is not zero.
// Source: Documentation/admin-guide/mm/pagemap.rst.
#pragma once

#include <functional>

#include "engine/core/result.h"
#include "uffd/ram_file.h"

namespace faultline {

/// As RamFile::VisitData, for hugetlbfs; `pid` is the VMM's.
Status VisitHugePageData(int pid, const RamFile& file,
                         const std::function<void(ByteExtent)>& visit);

}  // namespace faultline
