#!/usr/bin/env python3
"""Measures what the gateway costs, beside a direct connection, a plain forwarder, and pgbouncer in session mode.

    make bench ARGS=--quick                       one short round, to see that it works; its numbers say little
    make bench ARGS="--rounds 5 --seconds 10"     what docs/performance.md was made with, by --write docs/performance.md
    make bench ARGS="--only select,tpcb"          some of: select, tpcb, rows, copy, masked, connect, idle

All on one machine, so clients, the process in the middle and the server share its processors. Within a round the ways
follow each other in an order that rotates from round to round, so that whatever else the machine does falls on all of
them. `cpu us` is the processor time (user and system) of the process in the middle alone; it is steadier than rates.
"""
import argparse, datetime, os, pathlib, platform, re, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time
import rig

PARTS = ["select", "tpcb", "rows", "copy", "masked", "connect", "idle"]
MODES, CLIENTS = ["simple", "extended", "prepared"], [1, 8, 32]
IDLE = 1000


def pgbench(way, seconds, *argv):
    """(transactions a second, cpu us a transaction)."""
    before = way.cpu()
    out = way.call(["pgbench", "-n", *argv, "-T", seconds, "bench"])
    used = way.cpu() - before
    count = int(re.search(r"transactions actually processed: (\d+)", out)[1])
    failed = re.search(r"number of failed transactions: (\d+)", out)
    if not count or (failed and int(failed[1])):
        sys.exit(f"bench: transactions failed:\n{out}")
    tps = float(re.search(r"tps = ([\d.]+) \(", out)[1])
    return tps, used * 1e6 / count


def psql(way, scale, command):
    """(rows a second, cpu us for a thousand rows)."""
    before, start = way.cpu(), time.monotonic()
    with open(os.devnull, "w") as null:
        done = subprocess.run(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", command], env=way.env, stdout=null,
                              stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"bench: psql by way of {way.name}:\n{done.stderr[-2000:]}")
    rows = scale * 100_000
    return rows / (time.monotonic() - start), (way.cpu() - before) * 1e9 / rows


def login(way):
    """A session that stays idle, without a library's own memory."""
    s = socket.create_connection(("127.0.0.1", way.port))
    parameters = b"user\0" + way.user.encode() + b"\0database\0bench\0\0"
    s.sendall(struct.pack(">ii", len(parameters) + 8, 196608) + parameters)
    data = b""
    while not data.endswith(b"Z\0\0\0\5I"):
        chunk = s.recv(65536)
        if not chunk:
            sys.exit(f"bench: login by way of {way.name}: {data!r}")
        data += chunk
        if data == b"R\0\0\0\x08\0\0\0\x03":
            secret = way.password.encode() + b"\0"
            s.sendall(b"p" + struct.pack(">i", len(secret) + 4) + secret)
            data = b""
    return s


def idle(way):
    """(KB an idle session, sessions): what the process grew by. The server's own processes are not in it."""
    login(way).close()
    time.sleep(1)
    before = way.memory()
    sockets = [login(way) for _ in range(IDLE)]
    time.sleep(3)
    grown = (way.memory() - before) / IDLE / 1024
    before, start = way.cpu(), time.monotonic()
    time.sleep(5)
    used = (way.cpu() - before) / (time.monotonic() - start)
    for s in sockets:
        s.close()
    time.sleep(1)
    return grown, used * 1000


class Table:
    """One measurement by several ways: rows are cases, and in each case one line a way."""

    def __init__(self, title, rate, cost):
        self.title, self.rate, self.cost, self.cases = title, rate, cost, {}

    def add(self, case, way, pair):
        self.cases.setdefault(case, {}).setdefault(way.name, []).append(pair)

    def text(self):
        lines = [f"### {self.title}", "", f"| | by way of | {self.rate}: median [range] | {self.cost}: median [range] | of direct | of forwarder | cpu of forwarder |",
                 "|---|---|--:|--:|--:|--:|--:|"]
        for case, ways in self.cases.items():
            rate = {w: statistics.median(p[0] for p in pairs) for w, pairs in ways.items()}
            cost = {w: statistics.median(p[1] for p in pairs) for w, pairs in ways.items()}
            for way, pairs in ways.items():
                first = case if way == next(iter(ways)) else ""
                of = lambda other, table: f"{table[way] / table[other]:.2f}" if table.get(other) and way != other else ""
                lines.append(f"| {first} | {way} | {spread([p[0] for p in pairs])} | "
                             f"{spread([p[1] for p in pairs], 1) if way != 'direct' else ''} | {of('direct', rate)} | "
                             f"{of('forwarder', rate) if way != 'direct' else ''} | {of('forwarder', cost) if way != 'direct' else ''} |")
        return "\n".join(lines)


def spread(values, digits=0):
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):,.{digits}f}..{max(values):,.{digits}f}]"


# What the gateway of the part `masked` hides: each case reads one of these columns.
MASKED = """
[[resource.tag]]
tag = "pii.email"
columns = ["public.people.email"]
mask = "partial"
[[resource.tag]]
tag = "pii.doc"
columns = ["public.people.doc$.mail"]
mask = "redact"
"""


def measure(args, ways, tables):
    """One round's measurements: (table, case, ways, function)."""
    masking = [w for w in ways if w.name in ("direct", "forwarder", "gateway, masks")]
    plain = [w for w in ways if w.name not in ("gateway, batched", "gateway, masks")]
    ways = [w for w in ways if w.name != "gateway, masks"]
    if "select" in args.only:
        for mode in MODES:
            for clients in CLIENTS:
                yield ("select", f"{mode}, {clients}", plain,
                       lambda way, m=mode, c=clients: pgbench(way, args.seconds, "-S", "-M", m, "-c", c, "-j", min(c, 2)))
    if "tpcb" in args.only:
        yield ("tpcb", "simple, 8", ways, lambda way: pgbench(way, args.seconds, "-M", "simple", "-c", 8, "-j", 2))
        yield ("tpcb", "prepared, 8", ways, lambda way: pgbench(way, args.seconds, "-M", "prepared", "-c", 8, "-j", 2))
    if "rows" in args.only:
        yield ("rows", "SELECT", plain, lambda way: psql(way, args.scale, "SELECT aid, bid, abalance FROM pgbench_accounts"))
    if "copy" in args.only:
        table = f"{args.folder}/accounts.copy"
        yield ("rows", "COPY out", plain, lambda way: psql(way, args.scale, "COPY pgbench_accounts TO STDOUT"))
        yield ("rows", "COPY in", plain, lambda way: psql(way, args.scale, rf"\copy copied from '{table}'"))
    if "masked" in args.only:
        for case, columns in [("one masked text", "id, email, name"), ("no masked column", "id, name"), ("a path in jsonb", "id, doc")]:
            yield ("masked", case, masking, lambda way, c=columns: psql(way, args.scale, f"SELECT {c} FROM people"))
        yield ("masked", "one masked text, COPY", masking, lambda way: psql(way, args.scale, "COPY people (id, email, name) TO STDOUT"))
    if "connect" in args.only:
        yield ("connect", "1 client", plain, lambda way: pgbench(way, args.seconds, "-S", "-C", "-c", 1))


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true", help="one round of 2 s, a small database")
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--seconds", type=int, default=5)
    ask.add_argument("--scale", type=int, default=10, help="pgbench's scale factor: 100,000 rows each")
    ask.add_argument("--only", type=lambda text: text.split(","), default=PARTS, help=f"of {','.join(PARTS)}")
    ask.add_argument("--gateway", type=pathlib.Path, help="this binary, instead of building one")
    ask.add_argument("--forwarder", type=pathlib.Path, help="this binary, instead of building one")
    ask.add_argument("--write", type=pathlib.Path, help="also put the tables into this page, between its marks")
    args = ask.parse_args()
    if set(args.only) - set(PARTS):
        sys.exit(f"bench: --only takes {', '.join(PARTS)}")
    if args.quick:
        args.rounds, args.seconds, args.scale = 1, 2, 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave nothing behind
    release = None if args.forwarder and args.gateway else rig.build()
    folder = args.folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    folder.chmod(0o755)
    postgres = rig.Postgres(folder, args.scale)
    try:
        postgres.start()
        with rig.Middle(folder, postgres.port) as middle:
            direct = rig.Way("direct", postgres.port, "bench", rig.PASSWORD)
            binary = args.gateway or release / "gateway"
            ways = [direct, middle.forwarder(args.forwarder or release / "forwarder"), middle.pgbouncer(),
                    middle.gateway(binary)]
            if "tpcb" in args.only:
                ways.append(middle.gateway(binary, "gateway, batched", '[audit]\nmode = "batched"\n'))
            if "masked" in args.only:
                ways.append(middle.gateway(binary, "gateway, masks", tags=MASKED))
            ways = [way for way in ways if way]
            with open(folder / "accounts.copy", "w") as copy:
                subprocess.run(["psql", "-Xqc", "COPY pgbench_accounts TO STDOUT"], env=direct.env, stdout=copy, check=True)
            run(args, ways)
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def run(args, ways):
    tables = {
        "select": Table("pgbench -S (mode, clients)", "tx/s", "cpu us a transaction"),
        "tpcb": Table("pgbench TPC-B, fsync on (mode, clients)", "tx/s", "cpu us a transaction"),
        "rows": Table("Rows", "rows/s", "cpu us for 1,000 rows"),
        "masked": Table("Rows of which something is masked", "rows/s", "cpu us for 1,000 rows"),
        "connect": Table("A new connection for each transaction (SCRAM to the server)", "connections/s", "cpu us a connection"),
    }
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    head = (f"{datetime.date.today()}; {os.cpu_count()} processors ({model[1] if model else platform.machine()}); "
            f"{ways[0].call(['psql', '-XAtc', 'SHOW server_version']).strip()}; scale {args.scale}; {args.rounds} round(s) of "
            f"{args.seconds} s; clear TCP on loopback.")
    print(head, flush=True)
    for way in ways:  # caches warm, connections proven
        pgbench(way, 1, "-S", "-c", 1)
    for number in range(args.rounds):
        for table, case, among, function in measure(args, ways, tables):
            start = number % len(among)
            order = among[start:] + among[:start]
            results = {way.name: function(way) for way in order}
            for way in among:
                tables[table].add(case, way, results[way.name])
        print(f"round {number + 1} of {args.rounds} done", flush=True)
    parts = [table.text() for table in tables.values() if table.cases]
    if "idle" in args.only:
        lines = [f"### {IDLE:,} idle sessions", "", "| by way of | KB resident a session | cpu, ms a second |", "|---|--:|--:|"]
        for way in ways:
            if way.name in ("forwarder", "pgbouncer", "gateway") and way.name != "forwarder":
                grown, used = idle(way)
                lines.append(f"| {way.name} | {grown:.1f} | {used:.1f} |")
        parts.append("\n".join(lines))
    text = "\n\n".join([head, *parts])
    print("\n" + text)
    if args.write:
        page = args.write.read_text()
        begin, end = "<!-- measured: begin -->\n", "<!-- measured: end -->"
        before, _, rest = page.partition(begin)
        args.write.write_text(before + begin + "\n" + text + "\n\n" + end + rest.partition(end)[2])


if __name__ == "__main__":
    main()
