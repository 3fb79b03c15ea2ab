"""Every kind of guest RAM that can be moved, and the promise that a sparse guest stays sparse."""

import contextlib
import os
import pwd
import time

from lib.move import Move, require
from lib.node import Machine
from lib.scenario import add, scenario

MIB = 1 << 20
KINDS = {
    "two_numa_backends": ((128, "tmpfs"), (192, "tmpfs")),
    "huge_pages": ((256, "huge"),),
    "huge_and_small_pages": ((128, "huge"), (128, "tmpfs")),
    "small_and_huge_pages": ((128, "tmpfs"), (128, "huge")),
    "tmpfs_with_huge_always": ((256, "hugetmpfs"),),
    "an_unlinked_file": ((256, "unlinked"),),
    "an_odd_number_of_megabytes": ((131, "tmpfs"),),
}


def moves(machine):
    return lambda site: Move(site, machine).go()


for name, ram in KINDS.items():
    add(f"memory.{name}_on_qemu_7.2", moves(Machine(ram=ram)))
for name in ("two_numa_backends", "huge_and_small_pages", "tmpfs_with_huge_always"):
    add(f"memory.{name}_on_qemu_10.0", moves(Machine(qemu="10.0", ram=KINDS[name], smp=2)))
add("memory.huge_pages_with_sparse_touching", moves(Machine(ram=KINDS["huge_pages"], append="spread=3")))
add("memory.pages_that_are_all_zero", moves(Machine(append="fill=0 zero_pct=30 write_pct=30")))


def moves_as_nobody(qemu):
    """Such a QEMU may not make a userfaultfd by itself."""

    def body(site):
        move = Move(site, Machine(qemu=qemu, user="nobody"))
        move.ready()
        owners = {os.stat(f"/proc/{node.pid}").st_uid for node in (move.source, move.destination)}
        require(owners == {pwd.getpwnam("nobody").pw_uid}, f"QEMU runs as {owners}")
        move.go()

    return body


for qemu in ("7.2", "10.0"):
    add(f"memory.qemu_{qemu}_run_by_nobody", moves_as_nobody(qemu))


def sparse(mib, spread):
    """Uses one 2 MiB block of `spread`, in the whole of its memory."""
    return Machine(ram=((mib, "tmpfs"),), append=f"pattern=random spread={spread}")


@scenario()
def a_sparse_guest_stays_sparse_on_both_sides(site):
    """90 % untouched. What may come on top of the source's pages: at the source the load's own tables,
    first written while the move runs (4 bytes a page, histograms: below 32 MiB); at the destination
    nothing that the source has not."""
    move = Move(site, sparse(1024, 10))
    move.ready(settle=1.0)
    touched = move.source.ready["pages"] * 4096
    before = move.source.ram_bytes()
    transfer = move.transfer()
    summary = transfer.run()
    source, destination = move.source.ram_bytes(), move.destination.ram_bytes()
    print(f"touched {touched // MIB} MiB; source {before / MIB:.1f} then {source / MIB:.1f} MiB, "
          f"destination {destination / MIB:.1f} MiB, sent {summary['data_bytes'] / MIB:.1f} MiB")
    require(touched < 110 * MIB, "the guest is not sparse")
    require(before <= touched + 8 * MIB, "the source was not sparse before")
    require(source <= before + MIB, "the source's file has grown by the move")
    require(destination <= source + MIB, "the destination's file holds more than the source's")
    require(summary["data_bytes"] <= source, "more was sent than the source held")
    untouched = (1024 * MIB - touched) // 4096
    require(summary["hole_pages"] >= untouched // 2, "holes were asked for, page by page")
    require(not move.destination.check_guest(), "the guest found corruption")


@scenario(seconds=240)
def the_total_follows_touched_memory_not_the_guests_size(site):
    """The same 100 MiB in a guest of 256 MiB and in one of 2 GiB, best of two runs each."""
    totals = {}
    for mib in (256, 2048, 2048, 256):
        move = Move(site, Machine(ram=((mib, "tmpfs"),), append="pattern=random touch_mib=100"))
        totals[mib] = min(totals.get(mib, 1e9), move.go()["total_ms"])
        move.source.end()
        move.destination.end()
    print(f"total {totals[256]:.0f} ms of 256 MiB, {totals[2048]:.0f} ms of 2048 MiB")
    require(totals[2048] < 2 * totals[256] + 100, f"eight times the size, the same touch: {totals}")


@scenario()
def a_guest_on_huge_pages_has_them_again_after_the_move(site):
    """Placed 4 KiB by 4 KiB; collapsed when nothing is missing and the source has been let go."""
    move = Move(site, Machine(ram=((256, "hugetmpfs"),)))
    move.ready(settle=1.0)
    before = move.source.huge_mapped()
    require(before >= 128 * MIB, f"the source has {before / MIB:.0f} MiB on huge pages")
    move.go()
    ours, theirs = move.last_transfer.summary("receive"), move.summary
    after = move.destination.huge_mapped()
    print(f"{before / MIB:.0f} MiB huge before, {after / MIB:.0f} MiB after, afterwards {ours['afterwards']}")
    require(after >= 0.95 * before, "the guest's memory is not mapped huge again")
    require(ours["afterwards"]["huge_bytes"] <= after, "more is reported than there is")
    require("afterwards" not in theirs, "the source has waited for what is not its business")


def engine_bytes(pid):
    """What an engine takes for itself: private memory and page tables (proc(5))."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {name: int(fields[name].split()[0]) << 10 for name in ("RssAnon", "VmPTE") if name in fields}


@scenario()
def neither_engine_grows_with_the_guest(site):
    """Its own memory, its page tables and the ledger: below 64 MiB and a thousandth of the guest."""
    move = Move(site, Machine(ram=((1024, "tmpfs"),), append="pattern=random"))
    move.ready(settle=1.0)
    transfer = move.transfer()
    transfer.start()
    most, samples = {}, 0
    while transfer.migrate.status is None:
        for side, child in (("receive", transfer.receive), ("migrate", transfer.migrate)):
            with contextlib.suppress(OSError):
                now = engine_bytes(child.pid)
                if sum(now.values()) > sum(most.get(side, {}).values()):
                    most[side] = now
                samples += 1
        time.sleep(0.005)
    require(transfer.wait() == (0, 0), transfer.logs())
    ledger = move.machine.mib * MIB // 4096
    print(f"{samples} samples", {side: {name: f"{size / MIB:.1f} MiB" for name, size in sizes.items()}
                                 for side, sizes in most.items()}, f"ledger {ledger / MIB:.2f} MiB")
    require(samples >= 40, "too few samples")
    bound = 64 * MIB + move.machine.mib * MIB // 1000
    for side, sizes in most.items():
        require(sum(sizes.values()) + ledger < bound, f"{side} takes {sizes}, the ledger {ledger}")
    require(not move.destination.check_guest(), "the guest found corruption")
