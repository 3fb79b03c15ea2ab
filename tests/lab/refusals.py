#!/usr/bin/env python3
"""RDMA that cannot be had: who insists on it gets one clear line, and the guest stays; else it is said once, and
pages go over TCP. Runs inside the laboratory.

The limit of locked memory and the permissions are real: the engine runs without the capabilities that pass by them.
"""

import glob
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from lib.move import Move, require  # noqa: E402
from lib.node import Machine  # noqa: E402
from lib.refusal import clean, refuses, source_runs_on  # noqa: E402
from lib.site import Site  # noqa: E402

LISTEN = f"{os.environ['LAB_ADDRESS']}:0"
NOWHERE = "127.0.0.1:1"
LITTLE_MEMORY = "prlimit --memlock=8388608:8388608 setpriv --bounding-set=-ipc_lock,-sys_resource"
ROOT_USER, NOBODY = 0, 65534
NO_PERMISSION = "setpriv --bounding-set=-dac_override,-dac_read_search"


def run_under(site, name, words):
    """From now on the engine is a script that becomes it, under these restrictions."""
    engine = os.environ["FAULTLINE"]
    path = site.file(name)
    with open(path, "w", encoding="ascii") as script:
        script.write(f"#!/bin/sh\nexec {words} {engine} \"$@\"\n")
    os.chmod(path, 0o755)
    site.engine = path


def give_devices_to(user):
    """And to nobody else."""
    for path in glob.glob("/dev/infiniband/*"):
        if not os.path.isdir(path):
            os.chown(path, user, user)
            os.chmod(path, 0o600)


def insists_and_is_told(site, what, word, *options):
    """Both commands, before they look at anything else."""
    for command, where in (("migrate", ["--to", NOWHERE]), ("receive", ["--listen", "127.0.0.1:0"])):
        child = site.run_engine(command, "--qmp", site.file("qmp"), *where, *options)
        refuses(child, f"{command}, {what}", word)


def stays(move, what, word):
    """The source says why, and its guest runs on."""
    move.ready()
    before = move.descriptors()
    transfer = move.transfer(listen=LISTEN, receive_args=["--insecure"],
                             migrate_args=["--insecure", "--transport", "rdma"])
    transfer.start()
    refuses(transfer.migrate, f"migrate, {what}", word)
    refuses(transfer.receive, f"receive, {what}")
    source_runs_on(move, what)
    clean(move, before, what)


def falls_back(move, what, word):
    """The guest is moved all the same."""
    move.go(listen=LISTEN, receive_args=["--insecure"], migrate_args=["--insecure", "--transport", "auto"])
    said = [line for line in move.last_transfer.migrate.log().splitlines() if "pages go over TCP" in line]
    require(len(said) == 1 and word in said[0], f"{what}: not said once, with {word!r}: {said}")
    print(f"{what}: {said[0]}")
    move.turn_round()


def main():
    with Site() as site:
        insists_and_is_told(site, "wrong device", "rxe0", "--transport", "auto", "--rdma-device", "mlx5_77")
        give_devices_to(NOBODY)
        run_under(site, "no-permission", NO_PERMISSION)
        insists_and_is_told(site, "no permission", "rxe0 cannot be opened", "--transport", "rdma")
        move = Move(site, Machine(ram=((96, "tmpfs"),), append="pattern=random"))
        falls_back(move, "no permission", "rxe0 cannot be opened")
        give_devices_to(ROOT_USER)
        run_under(site, "little-memory", LITTLE_MEMORY)
        falls_back(move, "little locked memory", "at most 8192 KiB may be locked")
        stays(move, "little locked memory", "at most 8192 KiB may be locked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
