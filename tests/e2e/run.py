#!/usr/bin/env python3
"""Runs the end-to-end tests: real clients, the shipped gateway, a real server.

    run.py --gateway PATH [--only SUBSTR...] [--keep] [--kill-rounds N]
    run.py --direct       [--only SUBSTR...]     those tests that must also pass on the bare server

The last line is "N passed, N failed".
"""
import argparse, importlib, pathlib, signal, sys, time, traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import harness  # noqa: E402

TEST_SECONDS = 150


class TooLong(Exception):
    """A test did not end."""


def tests():
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for name, value in list(vars(module).items()):
            if name.startswith("test_") and callable(value):
                yield f"{path.stem[5:]}.{name[5:]}", value


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", help="the gateway's binary")
    ask.add_argument("--direct", action="store_true", help="on the bare server")
    ask.add_argument("--only", nargs="*", help="only tests whose name contains one of these")
    ask.add_argument("--keep", action="store_true", help="keep the gateways' folders")
    ask.add_argument("--kill-rounds", type=int, default=6, metavar="N", help="how often a gateway under load is killed")
    ask.add_argument("--screenshots", action="store_true", help="take the book's pictures of the console anew")
    args = ask.parse_args()
    if bool(args.gateway) == args.direct:
        ask.error("one of --gateway and --direct")

    def ring(*_):
        raise TooLong(f"no end after {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave no server behind
    world, passed, failed = harness.World(args.gateway, args.keep), 0, []
    world.kill_rounds, world.screenshots = args.kill_rounds, args.screenshots
    seconds = TEST_SECONDS + 8 * args.kill_rounds
    try:
        world.start()
        try:  # where nothing works, a hundred waits would say no more than this one
            harness.query(world.wire("reader", seconds=15), "SELECT 1")
        except Exception as broken:
            print(f"FAIL nobody can log in: {type(broken).__name__}: {broken}\n{world.log() if world.gateway else ''}")
            print("0 passed, 1 failed")
            return 1
        for name, test in tests():
            if args.only and not any(o in name for o in args.only):
                continue
            if args.direct and not getattr(test, "direct_too", False):
                continue
            started = time.monotonic()
            signal.alarm(seconds)
            try:
                test(world)
                passed += 1
                print(f"ok   {name} ({time.monotonic() - started:.1f}s)", flush=True)
            except harness.Skipped as why:
                print(f"skip {name}: {why}", flush=True)
            except (Exception, SystemExit) as broken:  # the next test runs all the same
                failed.append(name)
                print(f"FAIL {name}: {type(broken).__name__}: {broken}", flush=True)
                for frame in traceback.extract_tb(broken.__traceback__)[-3:]:
                    print(f"       {pathlib.Path(frame.filename).name}:{frame.lineno}: {frame.line}", flush=True)
            finally:
                signal.alarm(0)
            if world.gateway and not world.gateway.alive():
                print(f"       the gateway died: {world.log()[-1500:]}", flush=True)
                world.gateway.start()
    finally:
        world.stop()
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
