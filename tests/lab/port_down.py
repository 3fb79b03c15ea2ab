#!/usr/bin/env python3
"""The port of the RDMA device goes down while a guest's pages are being read. Runs inside the laboratory.

The TCP lanes are on the loopback interface and live on: what the READs do not bring comes by them, nothing is lost.
"""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from lib.move import Move, require  # noqa: E402
from lib.node import Machine  # noqa: E402
from lib.site import Site  # noqa: E402

INTERFACE = "eth0"  # below rxe0
READS = ["--rdma-device", os.environ["LAB_DEVICE"]]


def main():
    with Site() as site:
        move = Move(site, Machine(ram=((96, "tmpfs"),), append="pattern=random"), transport="rdma")
        move.ready()
        before = move.descriptors()
        transfer = move.transfer(receive_args=READS,
                                 migrate_args=["--transport", "rdma", "--max-bandwidth", "5MiB", *READS])
        transfer.start()
        move.destination.wait_switch()
        subprocess.run(["ip", "link", "set", INTERFACE, "down"], check=True)
        codes = transfer.wait()
        require(codes == (0, 0), f"exit codes {codes}\n{transfer.logs()}")
        move.summary = transfer.summary("migrate")
        move.verify(transfer, before)
        lost = transfer.summary("receive")["rdma"]["destination"]["lanes_lost"]
        require(lost > 0, f"no lane of READs was lost: the port went down too late\n{transfer.logs()}")
        print(f"{lost} lanes lost with the port; total {move.summary['total_ms']:.0f} ms, every page checked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
