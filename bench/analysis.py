#!/usr/bin/env python3
"""What a first analysis of a statement costs, with the structure at hand, beside the parser that is a part of it.

    analysis.py --analyze PATH [--rounds N] [--regress DIR] [--only NAME...]

Plays the superset test (tests/superset/run.py), with every analysis measured N times: PostgreSQL's regression files
where they are at hand (PG_REGRESS_DIR), else written and generated statements. Needs psycopg (scripts/setup.sh test).
"""
import argparse, os, pathlib, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--analyze", required=True, help="the binary `analyze` of gateway-testkit, built for release")
    ask.add_argument("--rounds", default="20")
    ask.add_argument("--regress", default=os.environ.get("PG_REGRESS_DIR"))
    ask.add_argument("--only", nargs="*")
    args = ask.parse_args()
    argv = [sys.executable, str(ROOT / "tests" / "superset" / "run.py"), "--analyze", args.analyze, "--rounds", args.rounds]
    argv += ["--regress", args.regress] if args.regress else []
    argv += ["--only", *args.only] if args.only else []
    done = subprocess.run(argv, text=True, stdout=subprocess.PIPE)
    at = done.stdout.find("the least time of each:")
    if at < 0:
        sys.exit(f"bench: nothing was measured:\n{done.stdout[-2000:]}")
    print("\n".join(done.stdout[done.stdout.rfind("\n", 0, at) + 1:].splitlines()[:6]))


if __name__ == "__main__":
    main()
