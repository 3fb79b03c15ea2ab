"""Whole guests: Debian's kernel with the same load, and a redis-server under load from outside."""

import json
import os
import subprocess
import time

from comparator.processes import wait_until

from lib.move import Move, beats_on, require
from lib.node import Machine
from lib.scenario import add
from lib.site import GUESTS
from lib.transfer import check_summary

LOAD_SECONDS = 8
NETNS = os.path.join(GUESTS, "redis", "netns")


def linux(qemu):
    machine = Machine(qemu=qemu, guest="linux", ram=((384, "tmpfs"),), smp=2, append="touch_mib=128")
    return lambda site: Move(site, machine).go()


for version in ("7.2", "10.0"):
    add(f"guests.linux_on_qemu_{version}", linux(version))


def make_network(site):
    name = f"faultline-e2e-{os.getpid()}"
    subprocess.run([NETNS, "create", name], check=True, capture_output=True, timeout=30)
    site.callback(subprocess.run, [NETNS, "destroy", name], capture_output=True, timeout=30, check=False)
    return name


def redis(qemu):
    """The client's connections live through the move: no wrong answer, none lost."""

    def body(site):
        # Before the guests, so that it goes after them.
        network = make_network(site)
        machine = Machine(qemu=qemu, guest="redis", ram=((512, "tmpfs"),))
        move = Move(site, machine, netns=(network, "src"))
        move.boot_destination(netns=(network, "dst"))
        move.source.wait_ready()
        client = start_load(site, network)
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
        problems += move.destination.console.complaints() + move.left_behind(before)
        require(not problems, f"{problems}\n{transfer.logs()}")
        beats_on(site, "after the move")

    return body


def start_load(site, network):
    folder = subprocess.run([os.path.join(GUESTS, "redis", "build")], check=True, capture_output=True,
                            text=True, timeout=300).stdout.strip()
    client = site.start([os.path.join(folder, "redis_load"), "--seconds", LOAD_SECONDS, "--keys", 100000,
                         "--value-bytes", 1000, "--json", site.file("load.json")],
                        site.file("load.log"), netns=network)
    wait_until(lambda: "redis_load ready" in client.log(), 60, "redis_load", client)
    return client


for version in ("7.2", "10.0"):
    add(f"guests.redis_under_load_on_qemu_{version}", redis(version))
