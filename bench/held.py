#!/usr/bin/env python3
"""What statements cost that wait for people: memory, and how other sessions fare meanwhile.

    held.py --gateway PATH [--held 500] [--rounds 5] [--seconds 4]

The sessions are logged in before and counted apart. Other sessions run pgbench -S through the gateway and directly in
turns, before statements are held, while all of them are, and after: how fast the gateway is beside the direct way is
compared, so that what else the machine does falls out.
"""
import argparse, pathlib, shutil, statistics, struct, sys, tempfile, time
import rig, run

POLICY = """
@id("use") permit (principal, action in [Action::"connect", Action::"read"], resource in Resource::"bench");
@id("held") @approve("dba") @wait("10m") @expires("10m")
permit (principal, action == Action::"write", resource == Table::"bench/public.people");
"""
SUBJECTS = 20


def held(way, number):
    """A session that will have a statement held."""
    session = run.login(way)
    session.settimeout(60)
    text = f"UPDATE people SET name = 'held {number}' WHERE id = {number}".encode() + b"\0"
    return session, b"Q" + struct.pack(">i", len(text) + 4) + text


def until_held(session):
    data = b""
    while b"approval_pending" not in data:
        chunk = session.recv(65536)
        if not chunk or b"ERROR" in data:
            sys.exit(f"bench: not held: {data!r}")
        data += chunk


def ratio(direct, way, args):
    """The rate through the gateway over the direct one, in turns; the median of rounds."""
    all = []
    for _ in range(args.rounds):
        rates = [run.pgbench(one, args.seconds, "-S", "-M", "prepared", "-c", 4, "-j", 2)[0] for one in (direct, way)]
        all.append(rates[1] / rates[0])
    return statistics.median(all), min(all), max(all)


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True, type=pathlib.Path)
    ask.add_argument("--held", type=int, default=500)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--seconds", type=int, default=4)
    args = ask.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    folder.chmod(0o755)
    postgres = rig.Postgres(folder, 1)
    try:
        postgres.start()
        with rig.Middle(folder, postgres.port) as middle:
            direct = rig.Way("direct", postgres.port, "bench", rig.PASSWORD)
            way = middle.gateway(args.gateway, policy=POLICY)
            requesters = [middle.token(args.gateway, f"requester-{n}") for n in range(SUBJECTS)]
            ways = [rig.Way("held", way.port, f"requester-{n}@bench", token, way.process) for n, token in enumerate(requesters)]
            waiting = [held(ways[n % SUBJECTS], n) for n in range(args.held)]
            ratio(direct, way, argparse.Namespace(rounds=1, seconds=1))
            before = ratio(direct, way, args)
            time.sleep(2)
            memory, start = way.memory(), time.monotonic()
            for session, statement in waiting:
                session.sendall(statement)
            for session, _ in waiting:
                until_held(session)
            took = time.monotonic() - start
            time.sleep(2)
            grown = way.memory() - memory
            cpu = way.cpu()
            time.sleep(5)
            cpu = (way.cpu() - cpu) / 5
            during = ratio(direct, way, args)
            peak = way.memory() - memory
            for session, _ in waiting:
                session.close()
            time.sleep(3)
            after = ratio(direct, way, args)
            show = lambda r: f"{r[0]:.3f} [{r[1]:.3f}..{r[2]:.3f}]"
            print(f"{args.held} statements held in {took:.1f} s\n"
                  f"memory: {grown / 1e6:.1f} MB more ({grown / args.held / 1024:.1f} KB each), {peak / 1e6:.1f} MB after the load\n"
                  f"processor while they wait: {cpu * 1000:.1f} ms a second\n"
                  f"pgbench -S, prepared, 4 clients, of direct: before {show(before)}, while held {show(during)}, after {show(after)}")
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
