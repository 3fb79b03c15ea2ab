#!/usr/bin/env python3
"""A nested guest of an unmodified QEMU moves on, from one QEMU to the next. Runs inside the laboratory.

  moves.py [--transport tcp|rdma] [--count N] [--mib M] [--append WORDS] [--max-bandwidth RATE] [--seed N]
           [--qp-errors MEAN_MS]

After every move the guest checks each of its pages, and everything is verified that the end-to-end tests verify.
--qp-errors: queue pairs of both engines go into error at random, on average so often.
"""

import argparse
import os
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
from lib.move import Move, require  # noqa: E402
from lib.node import Machine  # noqa: E402
from lib.site import Site  # noqa: E402

BUILD = os.path.dirname(os.path.dirname(os.path.dirname(os.environ["FAULTLINE"])))
BREAKER = os.path.join(BUILD, "tests", "lab", "liblab_qp_errors.so")


def parse():
    parser = argparse.ArgumentParser(description="moves a nested guest, inside the laboratory")
    parser.add_argument("--transport", default="rdma", choices=["tcp", "rdma"])
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--mib", type=int, default=96)
    parser.add_argument("--append", default="pattern=random")
    parser.add_argument("--max-bandwidth", metavar="RATE", help="of the pusher: the slower, the more demand faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--qp-errors", type=int, default=0, metavar="MEAN_MS")
    return parser.parse_args()


def engine_with_errors(site, mean_ms, seed):
    """A script that becomes the engine, with the breaker in it; and its log."""
    path, log = site.file("breaking-faultline"), site.file("qp-errors")
    with open(path, "w", encoding="ascii") as script:
        script.write(f"#!/bin/sh\nexport LD_PRELOAD={BREAKER} LAB_QP_ERRORS_MS={mean_ms} LAB_QP_ERRORS_LOG={log}\n"
                     f"export LAB_QP_ERRORS_SEED=$(({seed} + $$))\nexec {site.engine} \"$@\"\n")
    os.chmod(path, 0o755)
    return path, log


def lines_of(path):
    if not os.path.exists(path):
        return 0
    with open(path, encoding="ascii") as file:
        return len(file.readlines())


def options(args):
    """Over RDMA the address has to be the device's."""
    address = os.environ["LAB_ADDRESS"] if args.transport == "rdma" else "127.0.0.1"
    insecure = ["--insecure"] if args.transport == "rdma" else []
    transport = ["--transport", "rdma"] if args.transport == "rdma" else []
    transport += ["--max-bandwidth", args.max_bandwidth] if args.max_bandwidth else []
    return {"listen": f"{address}:0", "receive_args": insecure, "migrate_args": [*insecure, *transport]}


def journey(site, args):
    log = os.devnull
    if args.qp_errors:
        site.engine, log = engine_with_errors(site, args.qp_errors, args.seed)
    move = Move(site, Machine(ram=((args.mib, "tmpfs"),), append=f"{args.append} seed={args.seed}"),
                transport=args.transport)
    for number in range(1, args.count + 1):
        began, errors = time.monotonic(), lines_of(log)
        summary = move.go(**options(args))
        print(f"{number:3d} {args.transport}  total {summary['total_ms']:6.0f} ms  blackout "
              f"{summary['blackout_ms']:5.0f} ms  {summary['data_bytes'] >> 20} MiB  faults "
              f"{summary['faults']['count']}  retries {summary['retries']}  queue pairs broken "
              f"{lines_of(log) - errors}  {time.monotonic() - began:.1f} s", flush=True)
        move.turn_round()
    require(not args.qp_errors or lines_of(log) > 0, "no queue pair was broken: nothing was tried")


def main():
    args = parse()
    with Site() as site:
        journey(site, args)
    print(f"{args.count} moves over {args.transport}, every page checked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
