"""Whole guests: Debian's kernel with the same load, and a redis-server under load from outside."""

import json
import time

from lib.move import Move, beats_on, require
from lib.node import Machine
from lib.redis import make_network, start_load
from lib.scenario import add
from lib.transfer import check_summary

LOAD_SECONDS = 8


KERNEL_PAGES_MIN = 2000  # 8 MiB of the 21 that Debian's has; what has changed comes later


def linux(qemu, smp):
    machine = Machine(qemu=qemu, guest="linux", ram=((384, "tmpfs"),), smp=smp, append="touch_mib=128")

    def body(site):
        summary = Move(site, machine).go()
        early = summary["early_pages"]
        require(early >= KERNEL_PAGES_MIN, f"only {early} pages of the kernel were there before the stop")

    return body


add("guests.linux_on_qemu_7.2", linux("7.2", 1))
add("guests.linux_with_2_vcpus_on_qemu_10.0", linux("10.0", 2))


def redis(qemu):
    """The client's connections live through the move: no wrong answer, none lost."""

    def body(site):
        # Before the guests, so that it goes after them.
        network = make_network(site)
        machine = Machine(qemu=qemu, guest="redis", ram=((512, "tmpfs"),))
        move = Move(site, machine, netns=(network, "src"))
        move.boot_destination(netns=(network, "dst"))
        move.source.wait_ready()
        client = start_load(site, network, LOAD_SECONDS, keys=100000)
        time.sleep(2)
        before = move.descriptors()
        transfer = move.transfer()
        summary = transfer.run()
        require(client.wait(LOAD_SECONDS + 60) == 0, f"the client found errors: {client.log()}")
        with open(site.file("load.json"), encoding="utf-8") as file:
            load = json.load(file)
        rate = load["ops"] / (len(load["bins"]) * load["bin_ms"] / 1e3)
        print(f"redis: {rate:.0f} ops/s, worst {load['worst_us'] / 1e3:.0f} ms, longest gap "
              f"{load['longest_gap_ms']:.0f} ms, errors {load['errors']}, lost {load['lost_connections']}; "
              f"blackout {summary['blackout_ms']:.0f} ms")
        require((load["errors"], load["lost_connections"]) == (0, 0), f"{load}")
        problems = check_summary(summary, machine.mib << 20) + site.beat_violations()
        # virtio-net's doorbells, which QEMU opens when the device's state arrives.
        problems += move.left_behind(before, allow=("anon_inode:[eventfd]",))
        problems += move.destination.console.complaints()
        require(not problems, f"{problems}\n{transfer.logs()}")
        beats_on(site, "after the move")

    return body


for version in ("7.2", "10.0"):
    add(f"guests.redis_under_load_on_qemu_{version}", redis(version))
