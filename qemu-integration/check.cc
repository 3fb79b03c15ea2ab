#include "qemu-integration/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "qemu-integration/migration_setup.h"

namespace faultline {

namespace {

using Findings = std::vector<Finding>;

void Refuse(Findings& findings, std::string line) {
  findings.push_back({Severity::kRefusal, std::move(line)});
}
void Warn(Findings& findings, std::string line) {
  findings.push_back({Severity::kWarning, std::move(line)});
}
void Note(Findings& findings, std::string line) {
  findings.push_back({Severity::kNote, std::move(line)});
}

uint64_t Mib(ByteCount bytes) { return bytes.value() >> 20; }

ByteCount RamOf(const QemuFacts& facts) {
  ByteCount sum;
  for (const RamBackend& backend : facts.backends) sum += backend.size;
  return sum;
}

/// The option that would have made this backend right.
std::string GoodBackend(const RamBackend& backend) {
  return fmt::format("-object memory-backend-file,id={},size={}M,mem-path=/dev/shm/NAME,share=on",
                     backend.id == "pc.ram" ? "ram0" : backend.id, Mib(backend.size));
}

/// `-m` alone, or with -mem-path: QEMU made the backend itself, and made it private.
bool MadeByQemu(const RamBackend& backend) {
  constexpr std::string_view kSuffix = ".ram";  // "pc.ram": the machine's default-ram-id
  const std::string& id = backend.id;
  return id.size() > kSuffix.size() && id.rfind(kSuffix) == id.size() - kSuffix.size();
}

/// Whether the backend is of a kind that can be moved; says why not.
bool CheckKind(const RamBackend& backend, Findings& findings) {
  if (!backend.user.empty()) {
    Refuse(findings, fmt::format("memory backend '{}' belongs to a {} device, which faultline "
                                 "cannot move: start QEMU without it",
                                 backend.id, backend.user));
  } else if (MadeByQemu(backend)) {
    Refuse(findings, fmt::format("guest RAM '{}' is private memory (-m without a backend of its "
                                 "own): start QEMU with {} and -machine …,memory-backend=ram0",
                                 backend.id, GoodBackend(backend)));
  } else if (backend.type != "memory-backend-file") {
    // QEMU >= 9 skips only RAM from named files with x-ignore-shared (migration/ram.c).
    Refuse(findings, fmt::format("guest RAM '{}' is a {}: make it {}", backend.id, backend.type,
                                 GoodBackend(backend)));
  } else if (!backend.share) {
    Refuse(findings, fmt::format("guest RAM '{}' is not share=on, so nobody else can reach it: "
                                 "add share=on to its -object memory-backend-file",
                                 backend.id));
  } else {
    return true;
  }
  return false;
}

/// Whether the backend's file is where it can be moved from; says why not.
bool CheckFile(const RamBackend& backend, const QemuFacts& facts, Findings& findings) {
  if (!backend.mapping || !backend.file) {
    Refuse(findings, fmt::format("process {} ({}) does not map the file {} of guest RAM '{}': is "
                                 "it QEMU's pid? Give the right one with --pid",
                                 facts.pid, facts.process_name, backend.mem_path, backend.id));
  } else if (!backend.mapping->shared) {
    Refuse(findings, fmt::format("guest RAM '{}' is mapped privately: add share=on", backend.id));
  } else if (backend.file->filesystem == FileSystem::kOther) {
    Refuse(findings, fmt::format("guest RAM '{}' is the file {}, which is neither on tmpfs nor on "
                                 "hugetlbfs: use mem-path=/dev/shm/NAME or a hugetlbfs mount",
                                 backend.id, backend.mem_path));
  } else {
    return true;
  }
  return false;
}

void CheckPages(const RamBackend& backend, Findings& findings) {
  const FileFacts& file = *backend.file;
  if (file.page_size.bytes() >= uint64_t{1} << 30) {
    Warn(findings, fmt::format("guest RAM '{}' has 1 GiB pages: every fault waits for a whole GiB "
                               "— 2 MiB pages move far better",
                               backend.id));
  }
  // "never", "deny" and anything unknown: 4 KiB pages.
  const bool huge = file.huge == "advise" || file.huge == "within_size" || file.huge == "always";
  if (file.filesystem == FileSystem::kTmpfs && !huge) {
    Warn(findings, fmt::format("guest RAM '{}' has 4 KiB pages only, which costs the guest speed: "
                               "mount -o remount,huge=advise the tmpfs of {}, or use hugetlbfs",
                               backend.id, backend.mem_path));
  }
  constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
  const MappedFile& mapping = *backend.mapping;
  if (huge && (mapping.base.value() - mapping.file_offset.value()) % kHugePageBytes != 0) {
    Warn(findings, fmt::format("guest RAM '{}' lies where no huge page can be mapped, which costs "
                               "the guest speed: add align=2M to its -object memory-backend-file",
                               backend.id));
  }
}

void CheckEmpty(const RamBackend& backend, Findings& findings) {
  if (backend.prealloc) {
    Refuse(findings, fmt::format("guest RAM '{}' is prealloc=on, so the destination's memory is "
                                 "there before its content: remove prealloc=on (and -mem-prealloc)",
                                 backend.id));
  } else if (backend.file->populated > ByteCount(0)) {
    Refuse(findings,
           fmt::format("guest RAM '{}' already holds {} KiB: the destination needs an "
                       "empty file — remove {} and start QEMU again",
                       backend.id, backend.file->populated.value() >> 10, backend.mem_path));
  }
}

void CheckBackends(const QemuFacts& facts, VmRole role, Findings& findings) {
  if (facts.backends.empty()) {
    Refuse(findings,
           "no guest RAM comes from a memory backend: start QEMU with -object "
           "memory-backend-file,id=ram0,size=…,mem-path=/dev/shm/NAME,share=on and "
           "-machine …,memory-backend=ram0");
  }
  if (facts.backends.size() > kRegionsMax) {
    Refuse(findings, fmt::format("guest RAM has {} backends, faultline moves at most {}",
                                 facts.backends.size(), kRegionsMax));
  }
  for (const RamBackend& backend : facts.backends) {
    if (!CheckKind(backend, findings) || !CheckFile(backend, facts, findings)) continue;
    CheckPages(backend, findings);
    if (role == VmRole::kDestination) CheckEmpty(backend, findings);
  }
}

/// Two backends on one file are one memory under two names.
void CheckFilesDiffer(const QemuFacts& facts, Findings& findings) {
  for (size_t i = 0; i < facts.backends.size(); ++i) {
    for (size_t j = i + 1; j < facts.backends.size(); ++j) {
      const auto& a = facts.backends[i].mapping;
      const auto& b = facts.backends[j].mapping;
      if (!a || !b || a->inode != b->inode || a->device != b->device) continue;
      Refuse(findings, fmt::format("guest RAM '{}' and '{}' are the same file {}: give each its "
                                   "own mem-path",
                                   facts.backends[i].id, facts.backends[j].id, a->path));
    }
  }
}

/// Devices whose accesses pass by QEMU's page tables, so that no fault would tell of them.
void CheckBypass(const QemuFacts& facts, Findings& findings) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kKinds = {{
      {"vfio", "a passed-through device (VFIO)"},
      {"vhost-user", "a vhost-user back end"},
      {"vhost-vdpa", "a vDPA device"},
      {"ivshmem", "memory shared with other guests (ivshmem)"},
  }};
  for (const auto& [prefix, what] : kKinds) {
    std::string where;
    for (const DeviceFact& device : facts.devices) {
      if (device.type.find(prefix) != std::string::npos) where = device.path;
    }
    for (const std::string& type : facts.netdev_types) {
      if (type == prefix) where = "-netdev " + type;
    }
    for (const std::string& file : facts.special_files) {
      if (file.find(prefix) != std::string::npos) where = file;
    }
    if (where.empty()) continue;
    Refuse(findings, fmt::format("the guest has {} ({}), which reads guest RAM past QEMU's page "
                                 "tables: unplug it first, or start QEMU without it",
                                 what, where));
  }
}

void CheckGuest(const QemuFacts& facts, Findings& findings) {
  if (!facts.confidential.empty()) {
    Refuse(findings, fmt::format("the guest is confidential ({}): its memory cannot be read from "
                                 "outside, so it cannot be moved",
                                 facts.confidential));
  }
  for (const std::string& reason : facts.blocked_reasons) {
    Refuse(findings, fmt::format("QEMU cannot migrate this guest: {}", reason));
  }
  for (const char* needed : kNeededCapabilities) {
    const auto& known = facts.capabilities;
    if (std::find(known.begin(), known.end(), needed) != known.end()) continue;
    Refuse(findings, fmt::format("QEMU {} has no migration capability '{}': use 7.2 or later",
                                 facts.version, needed));
  }
  if (facts.free_page_reporting) {
    Warn(findings,
         "virtio-balloon has free-page-reporting=on: pages that the guest frees during "
         "the move may be fetched for nothing");
  }
}

bool IsUnderWay(std::string_view migration) {
  return !migration.empty() && migration != "none" && migration != "completed" &&
         migration != "failed" && migration != "cancelled";
}

void CheckSourceState(const QemuFacts& facts, Findings& findings) {
  if (facts.status == "inmigrate") {
    Refuse(findings, "this QEMU waits for a migration (-incoming): it has no guest to move");
  } else if (facts.status == "postmigrate") {
    Refuse(findings, "this guest has been migrated away: its copy here must not run again");
  } else if (IsUnderWay(facts.migration_status)) {
    Refuse(findings, fmt::format("a migration is under way already ({}): wait for it, or "
                                 "migrate_cancel it",
                                 facts.migration_status));
  } else if (facts.status != "running") {
    Refuse(findings, fmt::format("the guest does not run (status '{}'), and would run after the "
                                 "move: `cont` it first",
                                 facts.status));
  }
}

void CheckDestinationState(const QemuFacts& facts, Findings& findings) {
  if (facts.status != "inmigrate") {
    Refuse(findings, fmt::format("this QEMU does not wait for a migration (status '{}'): start it "
                                 "anew with -incoming defer",
                                 facts.status));
  } else if (!facts.migration_status.empty() && facts.migration_status != "none") {
    Refuse(findings, fmt::format("this QEMU's -incoming is in use already (migration '{}'): start "
                                 "it anew with -incoming defer",
                                 facts.migration_status));
  }
  if (facts.locked >= RamOf(facts) && facts.locked > ByteCount(0)) {
    Refuse(findings, fmt::format("QEMU has locked {} MiB of memory: start the destination without "
                                 "-overcommit mem-lock=on",
                                 Mib(facts.locked)));
  }
}

void Describe(const QemuFacts& facts, Findings& findings) {
  Note(findings, fmt::format("QEMU {} (pid {}), {}, {}, {} vCPU(s), {} MiB in {} backend(s)",
                             facts.version, facts.pid, facts.machine, facts.kvm ? "KVM" : "TCG",
                             facts.vcpus, Mib(RamOf(facts)), facts.backends.size()));
  for (const RamBackend& backend : facts.backends) {
    if (!backend.file) continue;
    Note(findings, fmt::format("guest RAM '{}': {} MiB, pages of {} KiB, {} MiB in memory, {}",
                               backend.id, Mib(backend.size), backend.file->page_size.bytes() >> 10,
                               Mib(backend.file->populated), backend.mapping->path));
  }
}

}  // namespace

VmRole RoleOf(const QemuFacts& facts) {
  return facts.status == "inmigrate" ? VmRole::kDestination : VmRole::kSource;
}

std::vector<Finding> CheckQemu(const QemuFacts& facts, VmRole role) {
  Findings findings;
  if (role == VmRole::kSource) CheckSourceState(facts, findings);
  if (role == VmRole::kDestination) CheckDestinationState(facts, findings);
  CheckBackends(facts, role, findings);
  CheckFilesDiffer(facts, findings);
  CheckBypass(facts, findings);
  CheckGuest(facts, findings);
  Describe(facts, findings);
  std::stable_sort(findings.begin(), findings.end(),
                   [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
  return findings;
}

MachineFacts MachineOf(const QemuFacts& facts) {
  return {facts.machine, facts.kvm, facts.vcpus, RamOf(facts)};
}

std::vector<Finding> CompareMachines(const MachineFacts& source, const MachineFacts& destination) {
  Findings findings;
  if (source.machine != destination.machine) {
    Refuse(findings, fmt::format("the source's machine is {}, the destination's {}: start the "
                                 "destination with -machine {}",
                                 source.machine, destination.machine, source.machine));
  }
  if (source.ram != destination.ram) {
    Refuse(findings, fmt::format("the source has {} MiB of RAM, the destination {} MiB: give both "
                                 "the same backends",
                                 Mib(source.ram), Mib(destination.ram)));
  }
  if (source.vcpus != destination.vcpus) {
    Refuse(findings, fmt::format("the source has {} vCPU(s), the destination {}: give both the "
                                 "same -smp",
                                 source.vcpus, destination.vcpus));
  }
  if (source.kvm != destination.kvm) {
    Warn(findings, fmt::format("the source runs under {}, the destination under {}: QEMU may not "
                               "load the one's device state into the other",
                               source.kvm ? "KVM" : "TCG", destination.kvm ? "KVM" : "TCG"));
  }
  return findings;
}

Status FirstRefusal(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    if (finding.severity == Severity::kRefusal) return Fail(ErrorKind::kRefused, finding.line);
  }
  return {};
}

}  // namespace faultline
