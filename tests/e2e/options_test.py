"""What the command line offers, used in anger."""

import json

from lib.move import Move, require
from lib.node import Machine
from lib.scenario import add, scenario

MIB = 1 << 20
SMALL = Machine(ram=((128, "tmpfs"),))


def moves(machine=SMALL, **options):
    return lambda site: Move(site, machine, **options).go()


add("options.ipv6", moves(listen="[::1]:0"))
add("options.a_host_name", moves(listen="localhost:0"))
add("options.epoll_on_both_sides",
    moves(Machine(smp=2), receive_args=["--io", "epoll"], migrate_args=["--io", "epoll"]))
add("options.epoll_at_the_destination_only", moves(receive_args=["--io", "epoll"]))
add("options.uring_on_both_sides", moves(receive_args=["--io", "uring"], migrate_args=["--io", "uring"]))
for codec in ("lz4", "zstd"):
    add(f"options.pages_packed_with_{codec}", moves(Machine(smp=2), migrate_args=["--compress", codec]))
add("options.as_many_streams_as_the_engine_thinks_best", moves(streams=0))
add("options.four_streams", moves(Machine(), migrate_args=["--streams", "4"]))
add("options.sixteen_streams_and_a_small_window",
    moves(migrate_args=["--streams", "16"], receive_args=["--window", "256KiB"]))
add("options.a_large_window", moves(receive_args=["--window", "16MiB"]))
add("options.two_fault_shards_and_four_vcpus",
    moves(Machine(smp=4), receive_args=["--fault-shards", "2"]))
add("options.sixteen_fault_shards_on_two_nodes",
    moves(Machine(ram=((96, "tmpfs"), (96, "tmpfs")), smp=2), receive_args=["--fault-shards", "16"]))
add("options.fault_shards_on_epoll",
    moves(Machine(smp=2), receive_args=["--fault-shards", "3", "--io", "epoll"]))
add("options.any_address_with_insecure",
    moves(listen="0.0.0.0:0", receive_args=["--insecure"], migrate_args=["--insecure"]))


@scenario()
def max_bandwidth_binds_the_pusher_and_no_fault(site):
    """200 MiB/s for 400 MiB: two seconds, and demand fetches as quick as ever in them."""
    move = Move(site, Machine(ram=((448, "tmpfs"),), append="pattern=random touch_mib=400"))
    summary = move.go(migrate_args=["--max-bandwidth", "200MiB"])
    faults, latency = summary["faults"], summary["fault_latency_us"]
    at_limit = (summary["data_bytes"] - faults["from_urgent"] * 4096) / (200 * MIB) * 1e3
    after_switch = summary["total_ms"] - summary["prepare_ms"]
    print(f"after the switch {after_switch:.0f} ms, at the limit {at_limit:.0f} ms; faults "
          f"{faults['count']}, p50 {latency['p50']:.0f} p99 {latency['p99']:.0f} us")
    require(after_switch > 0.85 * at_limit, f"the limit does not bind: {summary}")
    # Twice that on a quiet machine would be wrong; a busy one gets its time.
    require(after_switch < 4 * at_limit + 2000, f"far slower than the limit: {summary}")
    require(faults["from_urgent"] > 100, "too few demand fetches to judge")
    # Behind the pusher's window of 1 MiB at that rate, a fault would wait 5 ms.
    require(latency["p50"] < 1500, f"demand fetches wait for the pusher: {latency}")


@scenario()
def quit_source_ends_the_source_qemu(site):
    move = Move(site, SMALL)
    move.ready()
    move.transfer(migrate_args=["--quit-source"]).run()
    require(move.source.qemu.wait(10) == 0, "the source QEMU did not end by itself")
    require(not move.destination.check_guest(), "the guest found corruption")
    require(not site.beat_violations(), f"{site.beat_violations()}")


@scenario()
def quiet_says_nothing(site):
    move = Move(site, SMALL)
    move.ready()
    transfer = move.transfer(migrate_args=["--quiet"])
    transfer.run()
    require(transfer.migrate.out() == "", f"--quiet said {transfer.migrate.out()!r}")


@scenario()
def a_finished_move_says_nothing_on_stderr(site):
    """Logs are for what an operator has to know; all went well here."""
    move = Move(site, SMALL)
    move.ready()
    transfer = move.transfer(verbose=False)
    transfer.run()
    for name, child in (("migrate", transfer.migrate), ("receive", transfer.receive)):
        require(child.log() == "", f"{name} said on stderr: {child.log()}")


@scenario()
def pid_names_the_qemu(site):
    move = Move(site, SMALL)
    move.ready()
    move.transfer(migrate_args=["--pid", str(move.source.pid)],
                  receive_args=["--pid", str(move.destination.pid)]).run()
    require(not move.destination.check_guest(), "the guest found corruption")


@scenario()
def check_says_what_can_be_moved(site):
    move = Move(site, SMALL)
    move.ready()
    for node, words in ((move.source, "can be moved"), (move.destination, "ready to receive")):
        check = site.run_engine("check", "--qmp", node.qmp_path)
        require(check.wait(20) == 0, f"check refuses: {check.out()} {check.log()}")
        require(words in check.out(), check.out())


@scenario()
def both_sides_write_the_same_summary(site):
    move = Move(site, SMALL)
    move.ready()
    transfer = move.transfer()
    ours, theirs = transfer.run(), transfer.summary("receive")
    same = [name for name in ours if name not in ("cpu_s", "retries") and ours[name] != theirs.get(name)]
    require(not same, f"the summaries differ in {same}: {json.dumps(ours)} {json.dumps(theirs)}")
