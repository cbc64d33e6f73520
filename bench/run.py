#!/usr/bin/env python3
"""Measures what the gateway costs: pgbench -S direct, through a plain forwarder, and through the gateway.

    make bench [ARGS="--quick"]       one short round, to see that it works; its numbers say little
    make bench ARGS="--rounds 5 --seconds 10"

A private PostgreSQL with fsync off; all on this machine, so the clients, the middle process and the server share its
processors. Within a round the three ways follow each other in an order that rotates from round to round, so that
whatever else the machine does falls on all of them. `cpu us/tx` is the processor time (user and system) of the middle
process alone for one transaction; it is steadier than transactions a second.
"""
import argparse, glob, os, pathlib, platform, pwd, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODES, CLIENTS = ["simple", "extended", "prepared"], [1, 8]
TICKS = os.sysconf("SC_CLK_TCK")

POLICY = """
@id("bench") permit (principal, action in [Action::"connect", Action::"read"], resource in Resource::"bench");
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, process, log, seconds=30):
    end = time.time() + seconds
    while time.time() < end:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"bench: nothing listens on {port}:\n{log.read_text()[-3000:]}")


class Postgres:
    """A private server, filled by pgbench -i."""

    def __init__(self, folder, scale):
        self.dir, self.port, self.scale = folder / "pg", free_port(), scale
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[-2]))
        self.bin = pathlib.Path(os.environ.get("PG_BIN") or (found[-1] if found else "/usr/bin"))
        self.owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.password = folder / "password"

    def own(self, *argv):
        prefix = ["runuser", "-u", self.owner, "--"] if os.geteuid() == 0 else []
        subprocess.run([*prefix, *map(str, argv)], check=True, cwd="/", stdout=subprocess.DEVNULL)

    def start(self):
        self.dir.mkdir()
        self.password.write_text("bench-password")
        if os.geteuid() == 0:
            for path in (self.dir, self.password):
                shutil.chown(path, self.owner)
        data = self.dir / "data"
        self.own(self.bin / "initdb", "-D", data, "-U", "bench", "--pwfile", self.password, "-E", "UTF8", "--locale=C",
                 "-A", "scram-sha-256")
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\nfsync = off\n"
                       "autovacuum = off\nshared_buffers = 256MB\nlogging_collector = off\n")
        self.own(self.bin / "pg_ctl", "-D", data, "-l", self.dir / "server.log", "-w", "start")
        for argv in (["createdb", "bench"], ["pgbench", "-i", "-q", "-s", str(self.scale), "bench"]):
            subprocess.run(argv, env=client_env(self.port, "bench", "bench-password"), check=True, capture_output=True)

    def stop(self):
        try:
            self.own(self.bin / "pg_ctl", "-D", self.dir / "data", "-m", "immediate", "-w", "stop")
        except subprocess.CalledProcessError:
            pass


def client_env(port, user, password):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "GATEWAY_"))}
    return dict(clean, PGHOST="127.0.0.1", PGPORT=str(port), PGUSER=user, PGPASSWORD=password, PGSSLMODE="disable",
                PGDATABASE="bench", LC_ALL="C")


class Way:
    """One way to the server; `process` is what stands in the middle, if anything does."""

    def __init__(self, name, port, user, password, process=None):
        self.name, self.process, self.env = name, process, client_env(port, user, password)

    def cpu(self):
        if not self.process:
            return 0.0
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def run(self, mode, clients, seconds):
        """(transactions a second, mean latency in us, CPU us a transaction of the middle process)."""
        before = self.cpu()
        done = subprocess.run(["pgbench", "-n", "-S", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2)),
                               "-T", str(seconds), "bench"], env=self.env, text=True, capture_output=True)
        used = self.cpu() - before
        if done.returncode:
            sys.exit(f"bench: pgbench {self.name} {mode} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        count = int(re.search(r"transactions actually processed: (\d+)", done.stdout)[1])
        failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
        if not count or (failed and int(failed[1])):
            sys.exit(f"bench: transactions failed:\n{done.stdout}")
        tps = float(re.search(r"tps = ([\d.]+) \(without", done.stdout)[1])
        latency = float(re.search(r"latency average = ([\d.]+) ms", done.stdout)[1]) * 1000
        return tps, latency, used * 1e6 / count


def build():
    target = os.environ.get("CARGO_TARGET_DIR") or str(
        pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gateway-target")
    subprocess.run(["cargo", "build", "--release", "--workspace", "--bins"], cwd=ROOT, check=True,
                   env=dict(os.environ, CARGO_TARGET_DIR=target))
    return pathlib.Path(target) / "release"


def start_forwarder(binary, folder, target):
    port, log = free_port(), folder / "forwarder.log"
    process = subprocess.Popen([binary, f"127.0.0.1:{port}", f"127.0.0.1:{target}"], stdout=open(log, "wb"),
                               stderr=subprocess.STDOUT)
    wait_port(port, process, log)
    return port, process


def start_gateway(binary, folder, target):
    folder = folder / "gateway"
    (folder / "policies").mkdir(parents=True)
    (folder / "policies" / "bench.cedar").write_text(POLICY)
    (folder / "target-password").write_text("bench-password")
    port, config, log = free_port(), folder / "gateway.toml", folder / "gateway.log"
    config.write_text(f"""
data_dir = "data"
[listen]
postgres = "127.0.0.1:{port}"
[policy]
dir = "policies"
[[resource]]
name = "bench"
protocol = "postgres"
address = "127.0.0.1:{target}"
tls = "disable"
credential = {{ kind = "static", username = "bench", password = {{ file = "target-password" }} }}
""")
    process = subprocess.Popen([binary, "serve", "--config", config], stdout=open(log, "wb"), stderr=subprocess.STDOUT)
    wait_port(port, process, log)
    made = subprocess.run([binary, "token", "create", "--subject", "alice", "--ttl", "24h", "--config", config],
                          text=True, capture_output=True)
    if made.returncode:
        sys.exit(f"bench: no token: {made.stdout}{made.stderr}")
    return port, process, made.stdout.strip()


def spread(values, digits=0):
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}..{max(values):,.{digits}f}]"


def report(results, ways):
    print(f"\n{'':20}{'':10}{'tx/s: median [range]':>34}{'latency us':>12}{'cpu us/tx':>11}{'of direct':>11}{'of forwarder':>14}")
    for mode, clients in [(m, c) for m in MODES for c in CLIENTS]:
        median = {w: statistics.median(r[0] for r in results[mode, clients, w]) for w in ways}
        for place, way in enumerate(ways):
            rows = results[mode, clients, way]
            label = f"{mode}, {clients} client{'s' * (clients > 1)}" if place == 0 else ""
            cpu = "-" if way == "direct" else f"{statistics.median(r[2] for r in rows):.1f}"
            ratio = "" if way == "direct" else f"{median[way] / median['direct']:.1%}"
            to_forwarder = f"{median[way] / median['forwarder']:.1%}" if way == "gateway" and "forwarder" in ways else ""
            print(f"{label:20}{way:10}{spread([r[0] for r in rows]):>34}{statistics.median(r[1] for r in rows):>12.0f}"
                  f"{cpu:>11}{ratio:>11}{to_forwarder:>14}")


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true", help="one round of 2 s")
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--seconds", type=int, default=5)
    ask.add_argument("--scale", type=int, default=10, help="pgbench's scale factor")
    ask.add_argument("--gateway", type=pathlib.Path, help="this binary, instead of building one")
    ask.add_argument("--forwarder", type=pathlib.Path, help="this binary, instead of building one")
    ask.add_argument("--without-gateway", action="store_true", help="only direct and forwarder")
    args = ask.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.scale = 1, 2, 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave nothing behind
    have = args.forwarder and (args.gateway or args.without_gateway)
    release = None if have else build()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    folder.chmod(0o755)
    postgres, processes = Postgres(folder, args.scale), []
    try:
        postgres.start()
        ways = {"direct": Way("direct", postgres.port, "bench", "bench-password")}
        port, process = start_forwarder(args.forwarder or release / "forwarder", folder, postgres.port)
        processes.append(process)
        ways["forwarder"] = Way("forwarder", port, "bench", "bench-password", process)
        if not args.without_gateway:
            port, process, token = start_gateway(args.gateway or release / "gateway", folder, postgres.port)
            processes.append(process)
            ways["gateway"] = Way("gateway", port, "alice@bench", token, process)
        model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
        print(f"{os.cpu_count()} processors ({model[1] if model else platform.machine()}), pgbench -S, scale {args.scale}, "
              f"{args.rounds} round(s) of {args.seconds} s, TLS off, fsync off")
        results, names = {}, list(ways)
        for way in ways.values():  # caches warm, connections proven
            way.run("simple", 1, 1)
        for number in range(args.rounds):
            turn = names[number % len(names):] + names[:number % len(names)]
            for mode, clients in [(m, c) for m in MODES for c in CLIENTS]:
                for name in turn:
                    results.setdefault((mode, clients, name), []).append(ways[name].run(mode, clients, args.seconds))
            print(f"round {number + 1} of {args.rounds} done ({', '.join(turn)})", flush=True)
        report(results, names)
    finally:
        for process in processes:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
