#!/usr/bin/env python3
"""What a session of its own costs by the kind of its credential: new connections a second.

    connect.py --gateway PATH [--kind static role pool] [--clients 8] [--rounds 5] [--seconds 4]

pgbench -S -C (a connection for each transaction), directly, through a gateway whose sessions share a login, through one that
makes a role for each, and through one that gives each a role of a pool, in turns. pgbench, server and gateway share the machine.
"""
import argparse, json, pathlib, shutil, statistics, tempfile
import rig, run

POOL = [f"pool_{n}" for n in range(64)]
ROLE = '{ kind = "role", admin = { username = "bench", password = { file = "target-password" } } }'

CREDENTIALS = {"static": None, "role": ROLE, "pool": ROLE.replace('"role"', f'"pool", roles = {json.dumps(POOL)}')}


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True, type=pathlib.Path)
    ask.add_argument("--kind", nargs="+", choices=list(CREDENTIALS), default=list(CREDENTIALS))
    ask.add_argument("--clients", type=int, default=8)
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
            roles = [f"CREATE ROLE {name} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}" for name in POOL]
            direct.call(["psql", "-qc", "; ".join(roles)])
            ways = [direct, *(middle.gateway(args.gateway, kind, credential=CREDENTIALS[kind]) for kind in args.kind)]
            for way in ways:
                run.pgbench(way, 1, "-S", "-C", "-c", args.clients, "-j", 2)
            rates = {way.name: [] for way in ways}
            used = {way.name: [] for way in ways}
            for _ in range(args.rounds):
                for way in ways:
                    rate, cpu = run.pgbench(way, args.seconds, "-S", "-C", "-c", args.clients, "-j", 2)
                    rates[way.name].append(rate)
                    used[way.name].append(cpu)
            direct = rates["direct"]
            for way in ways:
                shares = sorted(mine / of for mine, of in zip(rates[way.name], direct))
                print(f"{way.name:8} {statistics.median(rates[way.name]):8.1f} connections/s, of direct "
                      f"{statistics.median(shares):.2f} [{shares[0]:.2f}..{shares[-1]:.2f}], "
                      f"{statistics.median(used[way.name]) / 1000:.2f} ms of processor each")
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
