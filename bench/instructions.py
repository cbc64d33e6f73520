#!/usr/bin/env python3
"""Counts the processor instructions of the hot paths and holds them against bench/instructions.toml.

    bench/instructions.py --binary HOT_PATH [--write]

A path's cost is the difference of two runs that differ in the number of statements alone, so start-up is not in it. The
counts vary by less than one percent from run to run, whatever else the machine does; a bound has 10% to spare.
"""
import argparse, pathlib, re, subprocess, sys, tomllib

BOUNDS = pathlib.Path(__file__).with_name("instructions.toml")
# Path: statements of the shorter and of the longer run.
PATHS = {"simple": (500, 2500), "extended": (500, 2500), "prepared": (500, 2500), "rows": (20, 120)}
SPARE = 1.10


def instructions(binary, path, count):
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", binary, path, str(count)],
                          text=True, capture_output=True)
    found = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    if done.returncode or not found:
        sys.exit(f"{path}: valgrind ended with {done.returncode}:\n{done.stderr[-3000:]}\n0 passed, 1 failed")
    return int(found[1])


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--binary", required=True, help="the built example `hot_path` of proto-postgres")
    ask.add_argument("--write", action="store_true", help="take what is counted as the new bounds")
    args = ask.parse_args()
    text = BOUNDS.read_text()
    bounds = tomllib.loads(text)["instructions"]
    counted, failed = {}, 0
    for path, (few, many) in PATHS.items():
        per = (instructions(args.binary, path, many) - instructions(args.binary, path, few)) / (many - few)
        counted[path] = per
        bound = bounds.get(path, 0)
        good = args.write or per <= bound
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {path}: {per:,.0f} instructions a statement, bound {bound:,}")
    if args.write:
        head = text.partition("[instructions]")[0]
        lines = "".join(f"{path} = {round(per * SPARE, -2):.0f}\n" for path, per in counted.items())
        BOUNDS.write_text(f"{head}[instructions]\n{lines}")
    print(f"{len(PATHS) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
