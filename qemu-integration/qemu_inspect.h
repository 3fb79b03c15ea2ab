// What a running QEMU is: its process, machine, RAM backends and everything that decides whether
// it can be moved. Only asks; changes nothing. What the facts mean is check.h's business.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/core/result.h"
#include "engine/core/vm.h"
#include "qemu-integration/proc_files.h"
#include "qemu-integration/qmp_client.h"

namespace faultline {

/// One memory backend that is guest RAM, or that a device uses.
struct RamBackend {
  std::string id;    ///< "ram0": the last part of its QOM path
  std::string type;  ///< "memory-backend-file"
  std::string mem_path;
  ByteCount size;
  bool share = false;
  bool prealloc = false;
  std::string user;  ///< type of a device that exposes it other than as RAM ("nvdimm"), or empty
  std::optional<MappedFile> mapping;  ///< where QEMU has it; nothing if it was not found
  std::optional<FileFacts> file;
};

struct DeviceFact {
  std::string path;  ///< QOM path
  std::string type;  ///< "virtio-net-pci"
};

struct QemuFacts {
  std::string qmp_path;
  int pid = 0;
  std::string process_name;
  std::string version;  ///< "7.2.22"
  int version_major = 0;
  std::string machine;  ///< "pc-q35-7.2": aliases resolved
  bool kvm = false;
  size_t vcpus = 0;
  std::string status;            ///< query-status: "running", "inmigrate", …
  std::string migration_status;  ///< query-migrate: "", "active", "completed", …
  std::vector<std::string> blocked_reasons;
  std::vector<std::string> capabilities;  ///< that this QEMU knows
  std::string confidential;               ///< QOM path of the guest's protection, or empty
  bool free_page_reporting = false;
  ByteCount locked;                        ///< VmLck
  std::vector<std::string> special_files;  ///< /dev/vfio/7, /dev/vhost-vdpa-0 that it has open
  std::vector<std::string> netdev_types;   ///< "tap", "vhost-user"
  std::vector<DeviceFact> devices;
  std::string address_space;         ///< "info mtree -f", as QEMU prints it
  std::vector<RamBackend> backends;  ///< rising by id: both sides number pages alike
};

/// Which QEMU: its QMP socket, and its pid where a manager made the socket for it.
struct QemuTarget {
  std::string qmp_path;
  std::optional<int> pid;
};

/// Errors: the process cannot be found or read; QMP failed. Says nothing about fitness.
Result<QemuFacts> InspectQemu(QmpClient& qmp, std::optional<int> pid);

/// The engine's view. REQUIRES: CheckQemu refused nothing (every backend has mapping and file).
VmDescription Describe(const QemuFacts& facts);

}  // namespace faultline
