// faultline: the command line. Parses, then hands over to one command.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <string>

#include "engine/app/commands.h"
#include "engine/app/options.h"
#include "engine/app/quantities.h"
#include "engine/core/shard_map.h"

namespace faultline {
namespace {

void AddCommon(CLI::App& command, CommonOptions& common) {
  command.add_option("--qmp", common.qmp_path, "QMP socket (UNIX) of the QEMU")
      ->required()
      ->type_name("PATH");
  command.add_option("--pid", common.pid, "QEMU's process id, where a manager holds the socket")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command.add_flag("-v,--verbose", common.verbose, "log each step to stderr");
}

void AddMigration(CLI::App& command, CommonOptions& common, bool& insecure) {
  command.add_option("--state-dir", common.state_dir, "where the engine keeps its state")
      ->type_name("DIR")
      ->capture_default_str();
  command.add_option("--json", common.json_path, "write the summary of both sides to FILE")
      ->type_name("FILE");
  command.add_option("--io", common.io, "how sockets are driven")
      ->check(CLI::IsMember({"auto", "uring", "epoll"}))
      ->capture_default_str();
  command.add_flag("-q,--quiet", common.quiet, "no progress");
  command.add_flag("--insecure", insecure,
                   "allow an address other than loopback: guest memory then crosses the network "
                   "unencrypted, and anyone who reaches the port can send a guest");
}

void AddRdma(CLI::App& command, RdmaOptions& rdma, const std::string& standard) {
  const auto take = [&rdma](const std::string& word) {
    rdma.transport = word == "rdma"  ? Transport::kRdma
                     : word == "tcp" ? Transport::kTcp
                                     : Transport::kAuto;
  };
  command
      .add_option_function<std::string>(
          "--transport", take,
          "how pages cross the network: auto takes RDMA where both sides can (default " + standard +
              ")")
      ->check(CLI::IsMember({"auto", "rdma", "tcp"}))
      ->type_name("auto|rdma|tcp");
  command.add_option("--rdma-device", rdma.device, "RDMA device, as ibv_devices lists it")
      ->type_name("NAME");
}

/// What only the side that reads decides.
void AddReading(CLI::App& command, RdmaOptions& rdma) {
  AddRdma(command, rdma, "auto");
  command
      .add_option("--rdma-tos", rdma.urgent_type_of_service,
                  "type of service (RFC 2474) of demand fetches by RDMA; picks the service level")
      ->check(CLI::Range(0, 255));
  command
      .add_option("--rdma-bulk-tos", rdma.bulk_type_of_service, "the same for background fetches")
      ->check(CLI::Range(0, 255));
}

/// Adapts a parser that returns Result<T> to the command line.
template <class T>
CLI::Option* AddParsed(CLI::App& command, const std::string& name, T& target,
                       Result<T> (*parse)(std::string_view), const std::string& help) {
  return command.add_option(
      name,
      [&target, parse](const CLI::results_t& words) {
        const Result<T> parsed = parse(words.front());
        if (!parsed.has_value()) throw CLI::ValidationError(parsed.error().message);
        target = *parsed;
        return true;
      },
      help);
}

/// What only the side that sends decides about the background lanes.
void AddBulk(CLI::App& command, MigrateOptions& migrate) {
  AddParsed<uint64_t>(command, "--max-bandwidth", migrate.bulk_bytes_per_second, ParseRate,
                      "limit of the background lanes, e.g. 10Gbit or 500MiB per second; demand "
                      "fetches are never limited")
      ->type_name("RATE");
  AddParsed<wire::Compression>(command, "--compress", migrate.compression, ParseCompression,
                               "packing of background pages: auto (default) packs where the link "
                               "is slower than the codec; demand fetches are never packed")
      ->type_name("auto|off|lz4|zstd");
  command.add_option("--streams", migrate.streams, "background connections")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
}

void SetUpLogging(bool verbose) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("faultline"));
  spdlog::set_pattern("%H:%M:%S.%e %^%l%$ %v");
  spdlog::set_level(verbose ? spdlog::level::debug : spdlog::level::info);
}

int Main(int argc, char** argv) {
  CLI::App app{
      "faultline moves a running virtual machine to another host by post-copy: the destination\n"
      "runs the guest at once and fetches pages as they are touched, the rest follows behind.\n"
      "QEMU stays unmodified; start `receive` at the destination first, then `migrate`."};
  app.require_subcommand(1);
  app.set_version_flag("--version", FAULTLINE_VERSION);
  app.footer(
      "Exit codes: 0 done; 1 nothing changed, the source still runs; 2 wrong usage;\n"
      "3 the migration is paused.");

  CheckOptions check;
  CLI::App* check_command =
      app.add_subcommand("check", "Can this guest be moved? Says what to change");
  AddCommon(*check_command, check.common);
  check_command->add_flag("--destination", check.destination,
                          "check a QEMU that waits to receive (-incoming defer)");

  ReceiveOptions receive;
  CLI::App* receive_command =
      app.add_subcommand("receive", "Take one guest into a QEMU started with -incoming defer");
  AddCommon(*receive_command, receive.common);
  AddMigration(*receive_command, receive.common, receive.insecure);
  receive_command->add_option("--listen", receive.listen, "where the source connects to")
      ->required()
      ->type_name("ADDR:PORT");
  AddParsed<std::optional<ByteCount>>(
      *receive_command, "--window", receive.window, ParseWindow,
      "background bytes in flight: auto (default) follows the link, a size such as 1MiB fixes it")
      ->type_name("auto|SIZE");

  receive_command
      ->add_option("--fault-shards", receive.fault_shards,
                   "threads that serve page faults, each with its own userfaultfd and connection "
                   "(default: one for each 8 processors)")
      ->check(CLI::Range(size_t{1}, kShardsMax))
      ->type_name("N");
  AddReading(*receive_command, receive.rdma);

  MigrateOptions migrate;
  CLI::App* migrate_command = app.add_subcommand("migrate", "Move a running guest to a `receive`");
  AddCommon(*migrate_command, migrate.common);
  AddMigration(*migrate_command, migrate.common, migrate.insecure);
  migrate_command->add_option("--to", migrate.to, "address of the `receive`")
      ->required()
      ->type_name("ADDR:PORT");
  AddRdma(*migrate_command, migrate.rdma, "tcp");
  migrate_command
      ->add_option("--rdma-port", migrate.rdma.port, "where queue pairs are accepted (default any)")
      ->type_name("PORT");
  AddBulk(*migrate_command, migrate);
  migrate_command->add_flag("--quit-source", migrate.quit_source,
                            "end the source QEMU when the destination has everything");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int shown = app.exit(error);
    return shown == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  SetUpLogging(check.common.verbose || receive.common.verbose || migrate.common.verbose);
  if (check_command->parsed()) return static_cast<int>(RunCheck(check));
  if (receive_command->parsed()) return static_cast<int>(RunReceive(receive));
  return static_cast<int>(RunMigrate(migrate));
}

}  // namespace
}  // namespace faultline

int main(int argc, char** argv) { return faultline::Main(argc, argv); }
