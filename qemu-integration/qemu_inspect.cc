#include "qemu-integration/qemu_inspect.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
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

using Answers = std::vector<Result<Json>>;

QmpCommand Property(const std::string& path, const char* name) {
  return {"qom-get", {{"path", path}, {"property", name}}};
}

QmpCommand Children(const char* path) { return {"qom-list", {{"path", path}}}; }

/// Null where this QEMU, machine or object does not know the question.
Json IfKnown(const Result<Json>& answer) { return answer.value_or(Json()); }

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

/// What any QEMU is asked, all at once, by the places of the answers.
enum Question : size_t {
  kMachineType,
  kGuard,
  kKvm,
  kCpus,
  kRunState,
  kMigration,
  kCapabilities,
  kNetwork,
  kBackends,
  kAddressSpace,
  kFirstChildren,  ///< and one more for each of kPlacesOfDevices
};
constexpr std::array kPlacesOfDevices = {"/machine/peripheral", "/machine/peripheral-anon",
                                         "/machine/unattached"};

std::vector<QmpCommand> Questions() {
  std::vector<QmpCommand> questions(kFirstChildren);
  questions[kMachineType] = Property("/machine", "type");
  questions[kGuard] = Property("/machine", "confidential-guest-support");
  questions[kKvm] = {"query-kvm"};
  questions[kCpus] = {"query-cpus-fast"};
  questions[kRunState] = {"query-status"};
  questions[kMigration] = {"query-migrate"};
  questions[kCapabilities] = {"query-migrate-capabilities"};
  questions[kNetwork] = HumanCommand("info network");
  questions[kBackends] = {"query-memdev"};
  questions[kAddressSpace] = HumanCommand("info mtree -f");
  for (const char* place : kPlacesOfDevices) questions.push_back(Children(place));
  return questions;
}

Status ReadMachine(const Answers& answers, QemuFacts& facts) {
  facts.machine = StringOf(IfKnown(answers[kMachineType]));
  constexpr std::string_view kSuffix = "-machine";
  const size_t suffix = facts.machine.rfind(kSuffix);
  if (suffix != std::string::npos) facts.machine.erase(suffix);
  facts.confidential = StringOf(IfKnown(answers[kGuard]));
  facts.kvm = BoolOf(Member(IfKnown(answers[kKvm]), "enabled"));
  FAULTLINE_ASSIGN(const Json cpus, answers[kCpus]);
  facts.vcpus = cpus.is_array() ? cpus.size() : 0;
  return {};
}

Status ReadState(const Answers& answers, QemuFacts& facts) {
  FAULTLINE_ASSIGN(const Json status, answers[kRunState]);
  facts.status = StringOf(Member(status, "status"));
  FAULTLINE_ASSIGN(const Json migration, answers[kMigration]);
  facts.migration_status = StringOf(Member(migration, "status"));
  // 7.2 gives an -incoming that listens already no status, but its address.
  if (facts.migration_status.empty() && Member(migration, "socket-address").is_array()) {
    facts.migration_status = "setup";
  }
  for (const Json& reason : Member(migration, "blocked-reasons")) {
    facts.blocked_reasons.push_back(StringOf(reason));
  }
  FAULTLINE_ASSIGN(const Json capabilities, answers[kCapabilities]);
  for (const Json& capability : capabilities) {
    facts.capabilities.push_back(StringOf(Member(capability, "capability")));
  }
  return {};
}

Status ReadDevices(const Answers& answers, QemuFacts& facts) {
  constexpr std::string_view kChild = "child<";
  for (size_t i = 0; i < kPlacesOfDevices.size(); ++i) {
    for (const Json& child : IfKnown(answers[kFirstChildren + i])) {
      const std::string type = StringOf(Member(child, "type"));
      if (!StartsWith(type, kChild) || type.back() != '>') continue;
      facts.devices.push_back(
          {fmt::format("{}/{}", kPlacesOfDevices[i], StringOf(Member(child, "name"))),
           type.substr(kChild.size(), type.size() - kChild.size() - 1)});
    }
  }
  FAULTLINE_ASSIGN(const Json network, answers[kNetwork]);
  facts.netdev_types = WordsAfter(StringOf(network), "type=");
  FAULTLINE_ASSIGN(const Json tree, answers[kAddressSpace]);
  facts.address_space = StringOf(tree);
  return {};
}

/// Devices that use a backend other than as plain RAM.
bool ShowsBackend(const DeviceFact& device) {
  return StartsWith(device.type, "nvdimm") || StartsWith(device.type, "virtio-mem") ||
         StartsWith(device.type, "virtio-pmem") || StartsWith(device.type, "ivshmem");
}

bool IsBalloon(const DeviceFact& device) { return StartsWith(device.type, "virtio-balloon"); }

/// Backends that the guest's address space shows: "… (prio 0, ram): ram0 @0000000000100000".
/// QMP does not tell which backends the machine and its NUMA nodes took; the memory tree does.
std::vector<std::string> BackendsInAddressSpace(const std::string& tree) {
  std::vector<std::string> names;
  for (const char* kind : {", ram): ", ", nv-ram): ", ", rom): "}) {
    for (const std::string& name : WordsAfter(tree, kind)) names.push_back(LastPart(name));
  }
  return names;
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

RamBackend BackendOf(const Json& memdev) {
  RamBackend backend;
  backend.id = StringOf(Member(memdev, "id"));
  backend.size = ByteCount(UnsignedOf(Member(memdev, "size")));
  backend.share = BoolOf(Member(memdev, "share"));
  backend.prealloc = BoolOf(Member(memdev, "prealloc"));
  return backend;
}

std::vector<DeviceFact> DevicesToAsk(const std::vector<DeviceFact>& devices) {
  std::vector<DeviceFact> asked;
  std::copy_if(devices.begin(), devices.end(), std::back_inserter(asked),
               [](const DeviceFact& device) { return IsBalloon(device) || ShowsBackend(device); });
  return asked;
}

/// The second round of questions: about what the answers to the first have named.
Status ReadProperties(QmpClient& qmp, QemuFacts& facts) {
  const std::vector<DeviceFact> devices = DevicesToAsk(facts.devices);
  std::vector<QmpCommand> questions;
  for (const DeviceFact& device : devices) {
    const char* property = IsBalloon(device) ? "free-page-reporting" : "memdev";
    questions.push_back(Property(device.path, property));
  }
  for (const RamBackend& backend : facts.backends) {
    questions.push_back(Property("/objects/" + backend.id, "type"));
    questions.push_back(Property("/objects/" + backend.id, "mem-path"));
  }
  FAULTLINE_ASSIGN(const Answers answers, qmp.ExecuteAll(questions));
  auto answer = answers.begin();
  std::map<std::string, std::string> users;
  for (const DeviceFact& device : devices) {
    const Json value = IfKnown(*answer++);
    facts.free_page_reporting |= BoolOf(value);
    if (value.is_string()) users.emplace(LastPart(StringOf(value)), device.type);
  }
  for (RamBackend& backend : facts.backends) {
    backend.type = StringOf(IfKnown(*answer++));
    backend.mem_path = StringOf(IfKnown(*answer++));
    backend.user = users[backend.id];
  }
  return {};
}

/// What stays is guest RAM, or a device's.
void DropUnused(QemuFacts& facts) {
  const std::vector<std::string> shown = BackendsInAddressSpace(facts.address_space);
  std::erase_if(facts.backends, [&](const RamBackend& backend) {
    const bool in_use = std::find(shown.begin(), shown.end(), backend.id) != shown.end();
    return !in_use && backend.user.empty();
  });
}

Status LocateBackend(const QemuFacts& facts, const std::vector<MappedFile>& mappings,
                     RamBackend& backend) {
  if (backend.mem_path.empty()) return {};
  backend.mapping = FindMapping(facts.pid, backend, mappings);
  if (!backend.mapping) return {};
  FAULTLINE_ASSIGN(backend.file, StatMapping(facts.pid, *backend.mapping));
  return {};
}

Status ReadBackends(QmpClient& qmp, const Answers& answers, QemuFacts& facts) {
  FAULTLINE_ASSIGN(const Json memdevs, answers[kBackends]);
  for (const Json& memdev : memdevs) facts.backends.push_back(BackendOf(memdev));
  FAULTLINE_TRY(ReadProperties(qmp, facts));
  DropUnused(facts);
  FAULTLINE_ASSIGN(const auto mappings, ReadMaps(facts.pid));
  for (RamBackend& backend : facts.backends) {
    FAULTLINE_TRY(LocateBackend(facts, mappings, backend));
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
  FAULTLINE_ASSIGN(const Answers answers, qmp.ExecuteAll(Questions()));
  FAULTLINE_TRY(ReadMachine(answers, facts));
  FAULTLINE_TRY(ReadState(answers, facts));
  FAULTLINE_TRY(ReadDevices(answers, facts));
  FAULTLINE_TRY(ReadBackends(qmp, answers, facts));
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
