#include "qemu-integration/qemu_inspect.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "qemu-integration/json_read.h"

namespace faultline {

namespace {

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::string LastPart(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// Each word (up to a comma, space or line end) that follows `mark` in the monitor's text.
std::vector<std::string> WordsAfter(const std::string& text, std::string_view mark) {
  std::vector<std::string> words;
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at)) {
    at += mark.size();
    words.push_back(text.substr(at, text.find_first_of(", \r\n", at) - at));
  }
  return words;
}

/// A question that this QEMU, machine or object may not know: then null.
Result<Json> AskIfKnown(QmpClient& qmp, std::string_view command, Json arguments) {
  auto answer = qmp.Execute(command, std::move(arguments));
  if (!answer && answer.error().kind == ErrorKind::kRefused) return Json();
  return answer;
}

Result<Json> Property(QmpClient& qmp, const std::string& path, const char* name) {
  return AskIfKnown(qmp, "qom-get", {{"path", path}, {"property", name}});
}

/// The pid of the QEMU behind the socket, checked as far as /proc can tell.
Result<int> FindPid(const QmpClient& qmp, std::optional<int> given) {
  const int pid = given.value_or(qmp.peer_pid());
  if (pid <= 0) {
    return Fail(ErrorKind::kRefused,
                fmt::format("QMP socket {}: its owner's pid cannot be seen from here (another pid "
                            "namespace?) — give QEMU's pid with --pid",
                            qmp.path()));
  }
  FAULTLINE_ASSIGN(const std::string name, ProcessName(pid));
  FAULTLINE_ASSIGN(const auto holds, HoldsSocket(pid, qmp.path()));
  if (holds.value_or(true)) return pid;
  return Fail(ErrorKind::kRefused,
              fmt::format("process {} ({}) does not hold the QMP socket {} — give the pid of that "
                          "QEMU with --pid",
                          pid, name, qmp.path()));
}

Status ReadProcess(QemuFacts& facts) {
  FAULTLINE_ASSIGN(facts.process_name, ProcessName(facts.pid));
  FAULTLINE_ASSIGN(facts.locked, LockedMemory(facts.pid));
  FAULTLINE_ASSIGN(const auto files, OpenFiles(facts.pid));
  for (const std::string& file : files) {
    if (StartsWith(file, "/dev/vfio/") || StartsWith(file, "/dev/vhost-vdpa") ||
        StartsWith(file, "/dev/iommu")) {
      facts.special_files.push_back(file);
    }
  }
  return {};
}

Status ReadMachine(QmpClient& qmp, QemuFacts& facts) {
  FAULTLINE_ASSIGN(const Json type, Property(qmp, "/machine", "type"));
  facts.machine = StringOf(type);
  constexpr std::string_view kSuffix = "-machine";
  const size_t suffix = facts.machine.rfind(kSuffix);
  if (suffix != std::string::npos) facts.machine.erase(suffix);
  FAULTLINE_ASSIGN(const Json guard, Property(qmp, "/machine", "confidential-guest-support"));
  facts.confidential = StringOf(guard);
  FAULTLINE_ASSIGN(const Json kvm, AskIfKnown(qmp, "query-kvm", Json::object()));
  facts.kvm = BoolOf(Member(kvm, "enabled"));
  FAULTLINE_ASSIGN(const Json cpus, qmp.Execute("query-cpus-fast"));
  facts.vcpus = cpus.is_array() ? cpus.size() : 0;
  return {};
}

Status ReadState(QmpClient& qmp, QemuFacts& facts) {
  FAULTLINE_ASSIGN(const Json status, qmp.Execute("query-status"));
  facts.status = StringOf(Member(status, "status"));
  FAULTLINE_ASSIGN(const Json migration, qmp.Execute("query-migrate"));
  facts.migration_status = StringOf(Member(migration, "status"));
  // 7.2 gives an -incoming that listens already no status, but its address.
  if (facts.migration_status.empty() && Member(migration, "socket-address").is_array()) {
    facts.migration_status = "setup";
  }
  for (const Json& reason : Member(migration, "blocked-reasons")) {
    facts.blocked_reasons.push_back(StringOf(reason));
  }
  FAULTLINE_ASSIGN(const Json capabilities, qmp.Execute("query-migrate-capabilities"));
  for (const Json& capability : capabilities) {
    facts.capabilities.push_back(StringOf(Member(capability, "capability")));
  }
  return {};
}

Status ReadDevices(QmpClient& qmp, QemuFacts& facts) {
  constexpr std::string_view kChild = "child<";
  for (const char* place :
       {"/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached"}) {
    FAULTLINE_ASSIGN(const Json children, AskIfKnown(qmp, "qom-list", {{"path", place}}));
    for (const Json& child : children) {
      const std::string type = StringOf(Member(child, "type"));
      if (!StartsWith(type, kChild) || type.back() != '>') continue;
      facts.devices.push_back({fmt::format("{}/{}", place, StringOf(Member(child, "name"))),
                               type.substr(kChild.size(), type.size() - kChild.size() - 1)});
    }
  }
  for (const DeviceFact& device : facts.devices) {
    if (!StartsWith(device.type, "virtio-balloon")) continue;
    FAULTLINE_ASSIGN(const Json reporting, Property(qmp, device.path, "free-page-reporting"));
    facts.free_page_reporting |= BoolOf(reporting);
  }
  FAULTLINE_ASSIGN(const std::string network, qmp.Human("info network"));
  facts.netdev_types = WordsAfter(network, "type=");
  return {};
}

/// Backends that the guest's address space shows: "… (prio 0, ram): ram0 @0000000000100000".
/// QMP does not tell which backends the machine and its NUMA nodes took; the memory tree does.
Result<std::vector<std::string>> BackendsInAddressSpace(QmpClient& qmp) {
  FAULTLINE_ASSIGN(const std::string tree, qmp.Human("info mtree -f"));
  std::vector<std::string> names;
  for (const char* kind : {", ram): ", ", nv-ram): ", ", rom): "}) {
    for (const std::string& name : WordsAfter(tree, kind)) names.push_back(LastPart(name));
  }
  return names;
}

/// Which devices use a backend other than as plain RAM: (backend id, device type).
Result<std::vector<std::pair<std::string, std::string>>> SpecialUsers(QmpClient& qmp,
                                                                      const QemuFacts& facts) {
  std::vector<std::pair<std::string, std::string>> users;
  for (const DeviceFact& device : facts.devices) {
    const bool special =
        StartsWith(device.type, "nvdimm") || StartsWith(device.type, "virtio-mem") ||
        StartsWith(device.type, "virtio-pmem") || StartsWith(device.type, "ivshmem");
    if (!special) continue;
    FAULTLINE_ASSIGN(const Json backend, Property(qmp, device.path, "memdev"));
    if (backend.is_string()) users.emplace_back(LastPart(StringOf(backend)), device.type);
  }
  return users;
}

/// "dev:inode" of mem-path as QEMU's process sees it, or empty: it may have been unlinked.
std::string IdentityOf(int pid, const std::string& mem_path) {
  const char* view = StartsWith(mem_path, "/") ? "root" : "cwd/";
  struct stat status {};
  const std::string path = fmt::format("/proc/{}/{}{}", pid, view, mem_path);
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  return fmt::format("{:02x}:{:02x}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino);
}

/// The name that QEMU gives its unlinked file where mem-path is a folder (softmmu/physmem.c).
std::string TemporaryName(const RamBackend& backend) {
  std::string name = backend.id;
  std::replace(name.begin(), name.end(), '/', '_');
  const bool slash = !backend.mem_path.empty() && backend.mem_path.back() == '/';
  return fmt::format("{}{}qemu_back_mem.{}.", backend.mem_path, slash ? "" : "/", name);
}

std::optional<MappedFile> FindMapping(int pid, const RamBackend& backend,
                                      const std::vector<MappedFile>& mappings) {
  const std::string identity = IdentityOf(pid, backend.mem_path);
  const std::string temporary = TemporaryName(backend);
  for (const MappedFile& mapping : mappings) {
    if (mapping.length < backend.size) continue;
    const bool same_file = identity == fmt::format("{}:{}", mapping.device, mapping.inode);
    if (same_file || mapping.path == backend.mem_path || StartsWith(mapping.path, temporary)) {
      return mapping;
    }
  }
  return std::nullopt;
}

Result<RamBackend> ReadBackend(QmpClient& qmp, const Json& memdev) {
  RamBackend backend;
  backend.id = StringOf(Member(memdev, "id"));
  backend.size = ByteCount(UnsignedOf(Member(memdev, "size")));
  backend.share = BoolOf(Member(memdev, "share"));
  backend.prealloc = BoolOf(Member(memdev, "prealloc"));
  const std::string path = "/objects/" + backend.id;
  FAULTLINE_ASSIGN(const Json type, Property(qmp, path, "type"));
  backend.type = StringOf(type);
  FAULTLINE_ASSIGN(const Json mem_path, Property(qmp, path, "mem-path"));
  backend.mem_path = StringOf(mem_path);
  return backend;
}

Status LocateBackend(const QemuFacts& facts, const std::vector<MappedFile>& mappings,
                     RamBackend& backend) {
  if (backend.mem_path.empty()) return {};
  backend.mapping = FindMapping(facts.pid, backend, mappings);
  if (!backend.mapping) return {};
  FAULTLINE_ASSIGN(backend.file, StatMapping(facts.pid, *backend.mapping));
  return {};
}

Status ReadBackends(QmpClient& qmp, QemuFacts& facts) {
  FAULTLINE_ASSIGN(const Json memdevs, qmp.Execute("query-memdev"));
  FAULTLINE_ASSIGN(const auto shown, BackendsInAddressSpace(qmp));
  FAULTLINE_ASSIGN(const auto users, SpecialUsers(qmp, facts));
  FAULTLINE_ASSIGN(const auto mappings, ReadMaps(facts.pid));
  for (const Json& memdev : memdevs) {
    FAULTLINE_ASSIGN(RamBackend backend, ReadBackend(qmp, memdev));
    const auto user = std::find_if(users.begin(), users.end(),
                                   [&](const auto& pair) { return pair.first == backend.id; });
    if (user != users.end()) backend.user = user->second;
    const bool in_use = std::find(shown.begin(), shown.end(), backend.id) != shown.end();
    if (!in_use && backend.user.empty()) continue;
    FAULTLINE_TRY(LocateBackend(facts, mappings, backend));
    facts.backends.push_back(std::move(backend));
  }
  std::sort(facts.backends.begin(), facts.backends.end(),
            [](const RamBackend& a, const RamBackend& b) { return a.id < b.id; });
  return {};
}

}  // namespace

Result<QemuFacts> InspectQemu(QmpClient& qmp, std::optional<int> pid) {
  QemuFacts facts;
  facts.qmp_path = qmp.path();
  facts.version = qmp.qemu_version();
  facts.version_major = qmp.qemu_major();
  FAULTLINE_ASSIGN(facts.pid, FindPid(qmp, pid));
  FAULTLINE_TRY(ReadProcess(facts));
  FAULTLINE_TRY(ReadMachine(qmp, facts));
  FAULTLINE_TRY(ReadState(qmp, facts));
  FAULTLINE_TRY(ReadDevices(qmp, facts));
  FAULTLINE_TRY(ReadBackends(qmp, facts));
  return facts;
}

VmDescription Describe(const QemuFacts& facts) {
  VmDescription description;
  description.pid = facts.pid;
  description.version = "QEMU " + facts.version;
  for (const RamBackend& backend : facts.backends) {
    const uint64_t page = backend.file->page_size.bytes();
    const ByteCount length((backend.size.value() + page - 1) / page * page);
    description.regions.push_back({{backend.id, length, backend.file->page_size},
                                   backend.mapping->base,
                                   backend.mapping->file_offset,
                                   backend.mapping->shared});
  }
  return description;
}

}  // namespace faultline
