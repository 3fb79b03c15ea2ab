"""What the laboratory's commands have in common: options, signals, exit statuses."""

import argparse
import os
import shutil
import sys

from machine import Failure, Scope, Shape, end_on_signals, results_folder

NO_RESULT = 125
INTERRUPTED = 130


def parser(description):
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--smp", type=int, default=Shape.smp)
    options.add_argument("--memory", type=int, default=Shape.memory_mib, metavar="MIB")
    options.add_argument("--seconds", type=float, default=Shape.seconds)
    options.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    options.add_argument("--keep", metavar="FOLDER")
    return options


def shape(args):
    return Shape(args.smp, args.memory, args.seconds)


def environment(args):
    return [pair.split("=", 1) for pair in args.env]


def follow(machines, writers):
    """Threads that pass on each machine's output, as a callback that ends machines and threads."""
    followers = [machine.follow(write) for machine, write in zip(machines, writers)]

    def end():
        for machine, follower in zip(machines, followers):
            machine.qemu.stop()
            follower.join()

    return end


def keep_results(folder, target):
    if target:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("link"))


def finish(run, args):
    """run(scope, folder, args) to its exit status, whatever happens."""
    end_on_signals()
    try:
        with Scope() as scope:
            folder = results_folder(scope)
            scope.callback(keep_results, os.path.join(folder, "results"), args.keep)
            sys.exit(run(scope, os.path.join(folder, "results"), args))
    except Failure as failure:
        print(f"lab: {failure}", file=sys.stderr)
        sys.exit(NO_RESULT)
    except KeyboardInterrupt as interrupt:
        print(f"lab: interrupted ({interrupt})", file=sys.stderr)
        sys.exit(INTERRUPTED)
