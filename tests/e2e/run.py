#!/usr/bin/env python3
"""Runs end-to-end scenarios: real QEMUs, real guests, the real engine. Needs root.

  run.py --list             every scenario, one a line: FILE.NAME
  run.py SCENARIO…          runs them; exit 0 passed, 1 failed, 77 skipped (with the reason)
  run.py --all [WORD]       every one whose name begins with WORD, one after the other

FAULTLINE=PATH says which engine (default build/release). KEEP=FOLDER keeps logs of a failure there.
"""

import os
import shutil
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.scenario import SCENARIOS, load  # noqa: E402
from lib.site import Site, Skip  # noqa: E402
from comparator.processes import end_on_signals  # noqa: E402

SKIPPED = 77
PASSED, FAILED = 0, 1


def run(name):
    scenario = SCENARIOS[name]
    signal.alarm(scenario.seconds)
    started = time.monotonic()
    try:
        if os.geteuid() != 0:
            raise Skip("needs root: the engine attaches to QEMU by ptrace")
        if scenario.site:
            with Site() as site:
                try:
                    scenario.body(site)
                except Exception:
                    keep(site, name)
                    raise
        else:
            scenario.body()
    except Skip as reason:
        print(f"SKIP {name}: {reason}")
        return SKIPPED
    except Exception as failure:  # whatever it is, the next scenario gets its turn
        where = traceback.extract_tb(failure.__traceback__)
        lines = [f"{os.path.basename(f.filename)}:{f.lineno}" for f in where]
        print(f"FAIL {name} ({' '.join(lines)})\n{type(failure).__name__}: {failure}")
        return FAILED
    finally:
        signal.alarm(0)
    print(f"ok {name} {time.monotonic() - started:.1f} s", flush=True)
    return PASSED


def keep(site, name):
    folder = os.environ.get("KEEP")
    if folder:
        target = os.path.join(folder, name)
        os.makedirs(target, exist_ok=True)
        for file in os.scandir(site.folder_path):
            if file.name.endswith((".log", ".err", ".out")) or "json" in file.name:
                shutil.copy(file.path, target)


def on_alarm(_signal, _frame):
    raise TimeoutError("the scenario took too long: something hangs")


def main():
    load()
    names = sys.argv[1:]
    if names == ["--list"]:
        print("\n".join(SCENARIOS))
        return PASSED
    if names[:1] == ["--all"]:
        names = [name for name in SCENARIOS if not names[1:] or name.startswith(names[1])]
    unknown = [name for name in names if name not in SCENARIOS]
    if not names or unknown:
        print(__doc__ + (f"\nno scenario {unknown}" if unknown else ""), file=sys.stderr)
        return 2
    end_on_signals()
    signal.signal(signal.SIGALRM, on_alarm)
    try:
        codes = [run(name) for name in names]
    except KeyboardInterrupt as interrupt:
        print(f"interrupted ({interrupt}); everything is cleaned up", file=sys.stderr)
        return 130
    if len(codes) > 1:
        print(f"{codes.count(PASSED)} passed, {codes.count(FAILED)} failed, {codes.count(SKIPPED)} skipped")
    return FAILED if FAILED in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
