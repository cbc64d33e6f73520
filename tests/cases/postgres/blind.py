#!/usr/bin/env python3
"""Plays attacks as a session's own role at the bare server, as if the gateway had taken every statement for harmless.

    blind.py --gateway PATH [--cases FOLDER] [--verbose] [--listed | --write]

Each principal logs in through the gateway with `credential.kind = "role"`; the cases then go straight to the server as the role
that was made for that session. What the server refuses for want of rights is stopped without the gateway's analysis. Which cases
that are stands in `stopped.yaml`: one that is there and is not stopped any more fails (`--listed` plays no others); `--write` makes the list anew. What is held
is not stopped: the role may do it, and the gateway holds it. The last line is "N passed, N failed".
"""
import argparse, pathlib, signal, sys

import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import common  # noqa: E402
import rig  # noqa: E402

LIST = HERE / "stopped.yaml"
MODES = ("simple", "extended", "prepared", "pipeline", "script")
# Not permitted; permission to set a parameter; not a member of a role.
WANT_OF_RIGHTS = {"42501", "0LP01", "28000"}


class Blind:
    """Every principal is the role of a session that it holds open at the gateway."""
    name = "direct"

    def __init__(self, server, through):
        self.server, self.port, self.through, self.held = server, server.port, through, {}

    def account(self, principal):
        if principal not in self.held:
            wire = rig.Wire(self.through.port, 3600)
            wire.login(*self.through.account(principal), self.server.suite["database"])
            role = wire.query("SELECT current_user")[0]
            self.server.admin("postgres", f"ALTER ROLE {role} PASSWORD 'known' CONNECTION LIMIT -1")
            self.held[principal] = (wire, role)
        return self.held[principal][1], "known"

    def restart(self):
        for wire, _ in self.held.values():
            wire.close()
        self.held = {}
        self.through.restart()


def play(suite, server, side, case):
    """`stopped`, `done`, or what else came of it."""
    before = server.fingerprint(case.get("unchanged", []))
    run = rig.Run(side, case)
    outcome = run.go()
    changed = before != server.fingerprint(case.get("unchanged", []))
    seen, proof = run.everything(), case.get("proof", [])
    shown = isinstance(proof, list) and proof and all(part in seen for part in proof)
    told = rig.leaks([*case.get("never", []), *rig.secret_words(suite, case)], seen)
    if changed or shown or told or proof == "ran" and outcome in ("allow", "hold"):
        return "done"
    refused = any(code in note for note in run.notes for code in WANT_OF_RIGHTS)
    return "stopped" if refused else f"without effect ({outcome} {' '.join(run.notes)})"


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True, help="the gateway's binary")
    ask.add_argument("--cases", default=str(HERE), help="folder with cases.yaml (the suite stays this one)")
    ask.add_argument("--only", nargs="*", help="only ids that contain one of these")
    ask.add_argument("--verbose", action="store_true", help="a line for every case")
    ask.add_argument("--listed", action="store_true", help="only what the list has")
    ask.add_argument("--write", action="store_true", help="write the list of what is stopped")
    args = ask.parse_args()
    suite = rig.without_roles(yaml.safe_load((HERE / "suite.yaml").read_text()))
    cases = [case for case in common.load(args.cases, args.only, ["deny"])
             if case["kind"] == "attack" and case.get("mode", "simple") in MODES and "startup" not in case
             and case.get("proof") != "refused" and suite["principals"][case["as"]]["groups"]]
    wanted = set(yaml.safe_load(LIST.read_text()) or []) if LIST.exists() and not args.write else set()
    if args.listed:
        cases = [case for case in cases if case["id"] in wanted]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave no server behind
    server, side, classes, stopped, failed = rig.Server(suite), None, {}, [], []
    try:
        server.start()
        side = Blind(server, rig.Through(server, args.gateway, False, roles=True))
        for case in cases:
            try:
                came = play(suite, server, side, case)
            except Exception as broken:  # a case must never stop the run
                came = f"error: {type(broken).__name__}: {broken}"
            by = classes.setdefault(case["class"], {"stopped": 0, "done": 0, "without effect": 0})
            by[came if came in by else "without effect"] += 1
            if came == "stopped":
                stopped.append(case["id"])
            elif case["id"] in wanted:
                failed.append(case["id"])
                print(f"FAIL {case['id']}: {came}", flush=True)
            if args.verbose:
                print(f"{case['id']}: {came}", flush=True)
            if not rig.tidy(server, case) or not side.through.gateway.alive():
                side.restart()
    finally:
        if side:
            side.through.stop()
        server.stop()
    for name, by in sorted(classes.items()):
        print(f"{name}: " + ", ".join(f"{count} {word}" for word, count in by.items() if count))
    if args.write:
        LIST.write_text("# Attacks that PostgreSQL stops by itself, for want of rights of the session's role. Written by blind.py --write.\n"
                        + yaml.safe_dump(sorted(stopped)))
    print(f"{len(stopped)} of {len(cases)} are stopped by the server itself")
    print(f"{len(wanted & set(stopped)) if wanted else len(stopped)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
