#!/usr/bin/env python3
"""Plays PostgreSQL's own regression SQL on a bare server and through the gateway, and compares what psql prints.

    run.py --gateway PATH --regress DIR [--only NAME...] [--seconds N] [--show]

DIR is `src/test/regress` of the sources of the PostgreSQL whose programs are installed (with Debian: a source entry
for the suite, then `apt-get source postgresql-15`). Its files are not part of this repository; where they are not at
hand the runner says so and ends well. The gateway's policy permits all, so that whatever differs is its own doing.
Both sides have a cluster of their own, copies of one another, and play the same files in the same order, each in a new
database that has the suite's usual tables. What is known to differ stands in known.txt with its reason.
The last line is "N passed, N failed".
"""
import argparse, difflib, os, pathlib, re, shutil, signal, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "cases"), str(HERE.parent / "cases" / "postgres")]
import common  # noqa: E402

PASSWORD = "tgt-Zeppelin"
# What the other files build on. The later ones of the suite need more of one another; what they miss is missing on
# both sides.
BASE = ["test_setup"]
# Not here: cluster-wide files and folders (tablespace), a server without a bound on its stack (infinite_recurse), and
# timing (stats, vacuum_parallel).
LEFT_OUT = {"tablespace", "infinite_recurse", "stats", "vacuum_parallel", "collate.linux.utf8", "maintain_every"}
SETTINGS = {"lc_messages": "C", "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C", "bytea_output": "hex",
            "timezone_abbreviations": "Default", "timezone": "PST8PDT", "datestyle": "Postgres, MDY",
            "intervalstyle": "postgres_verbose"}
# What differs between any two runs.
NOISE = [(re.compile(pattern, re.MULTILINE), to) for pattern, to in (
    (r"(?i)\b(PID|process) \d+", r"\1 N"),
    (r"\d+\.\d+ ms|actual time=[\d.]+", "TIME"),
    (r"(Execution|Planning) Time: \S+", r"\1 Time: N"),
    (r"Memory: \d+kB|Memory Usage: \d+kB|Buckets: \d+", "N"),
    (r'port "\d+"', 'port "N"'),
    # Where psql has read to when a notice arrives, while it sends rows of COPY.
    (r"^(psql:\S+:)\d+(?=: NOTICE)", r"\1N"),
)]


def known():
    """Names of files that differ, and why."""
    lines = (HERE / "known.txt").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if line.strip() and not line.startswith("#"))


class Cluster:
    """One private server."""

    def __init__(self, programs, folder):
        self.programs, self.folder, self.port = programs, folder, common.free_port()

    def run(self, *argv):
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        done = subprocess.run([*prefix, *map(str, argv)], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True)
        if done.returncode:
            raise SystemExit(f"{argv}: {done.stderr}")

    def init(self):
        secret = self.folder.parent / "password"
        secret.write_text(PASSWORD)
        self.run(self.programs / "initdb", "-D", self.folder, "-U", "postgres", "-E", "UTF8", "--locale=C", "-N",
                 "-A", "scram-sha-256", f"--pwfile={secret}")
        with open(self.folder / "postgresql.conf", "a") as conf:
            conf.write("fsync = off\nautovacuum = off\nmax_prepared_transactions = 4\nunix_socket_directories = ''\n"
                       "log_min_messages = fatal\nmax_wal_senders = 0\nwal_level = minimal\nmax_connections = 30\n")

    def start(self):
        self.run(self.programs / "pg_ctl", "-D", self.folder, "-l", self.folder / "log", "-w", "-o",
                 f"-p {self.port}", "start")
        return self

    def stop(self):
        subprocess.run([*(["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []),
                        str(self.programs / "pg_ctl"), "-D", str(self.folder), "-m", "immediate", "stop"],
                       cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fresh(self):
        """A new database with the usual tables."""
        commands = ["DROP DATABASE IF EXISTS regression WITH (FORCE)",
                    "CREATE DATABASE regression TEMPLATE base STRATEGY file_copy", *alter("regression")]
        done = psql(self.port, "postgres", PASSWORD, "postgres", [part for c in commands for part in ("-c", c)], 60)
        if "ERROR" in done:
            raise SystemExit(done)


def alter(database):
    return [f"ALTER DATABASE {database} SET {name} TO '{value}'" if "," not in value
            else f"ALTER DATABASE {database} SET {name} TO {value}" for name, value in SETTINGS.items()]


def start_psql(port, user, password, database, arguments, regress=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "GATEWAY_"))}
    env.update(PGHOST="127.0.0.1", PGPORT=str(port), PGUSER=user, PGPASSWORD=password, PGDATABASE=database,
               PGSSLMODE="disable", LC_ALL="C", PG_ABS_SRCDIR=str(regress or ""), PG_LIBDIR="/nonexistent",
               PG_DLSUFFIX=".so", PG_ABS_BUILDDIR="/nonexistent", PGCONNECT_TIMEOUT="20")
    argv = ["psql", "-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on", *arguments]
    return subprocess.Popen(argv, env=env, cwd=regress or "/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True)


def finish(process, seconds):
    try:
        out = process.communicate(timeout=max(seconds, 0.1))[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out = process.communicate()[0] + b"\n(psql did not end in time)\n"
    return out.decode("utf-8", "replace")


def psql(port, user, password, database, arguments, seconds, regress=None):
    return finish(start_psql(port, user, password, database, arguments, regress), seconds)


def normal(text):
    for pattern, to in NOISE:
        text = pattern.sub(to, text)
    return text.splitlines()


def schedule(regress):
    """The suite's files in its own order."""
    names = []
    for line in (regress / "parallel_schedule").read_text().splitlines():
        if line.startswith("test:"):
            names += line.split(":", 1)[1].split()
    return [name for name in names if (regress / "sql" / f"{name}.sql").is_file() and name not in LEFT_OUT]


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True, help="the gateway's binary")
    ask.add_argument("--regress", type=pathlib.Path, default=os.environ.get("PG_REGRESS_DIR"), help="src/test/regress")
    ask.add_argument("--only", nargs="*", help="only these files")
    ask.add_argument("--seconds", type=float, default=300, help="the most that one file may take")
    ask.add_argument("--show", action="store_true", help="print what differs")
    args = ask.parse_args()
    if not args.regress or not (pathlib.Path(args.regress) / "sql").is_dir():
        print("skip: PostgreSQL's regression files are not at hand (--regress DIR)\n0 passed, 0 failed, 1 skipped")
        return 0
    regress = pathlib.Path(args.regress).resolve()
    programs = pathlib.Path(subprocess.run(["pg_config", "--bindir"], text=True, capture_output=True).stdout.strip())
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="gateway-regression-"))
    scratch.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(scratch, "postgres")
    clusters, gateway = [], None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: leave no server behind
    try:
        first = Cluster(programs, scratch / "direct")
        first.init()
        clusters.append(first.start())
        for command in ("CREATE DATABASE base", *alter("base")):
            psql(first.port, "postgres", PASSWORD, "postgres", ["-c", command], 60)
        for name in BASE:
            psql(first.port, "postgres", PASSWORD, "base", ["-f", f"sql/{name}.sql"], 120, regress)
        first.run(programs / "pg_ctl", "-D", first.folder, "-w", "-m", "fast", "stop")
        subprocess.run(["cp", "-a", first.folder, scratch / "behind"], check=True)
        second = Cluster(programs, scratch / "behind")
        first.start()
        clusters.append(second.start())
        resource = (f'[[resource]]\nname = "db"\nprotocol = "postgres"\naddress = "127.0.0.1:{second.port}"\n'
                    f'tls = "disable"\ncredential = {{ kind = "static", username = "postgres", '
                    f'password = {{ file = "{scratch}/password" }} }}\n')
        gateway = common.Gateway(args.gateway, "postgres", resource,
                                 {"all": '@id("all")\npermit (principal, action, resource);\n'})
        gateway.start()
        token = gateway.token("alice@corp.test")
        passed, failed, reasons = 0, 0, known()
        for name in schedule(regress):
            if args.only and name not in args.only:
                continue
            for cluster in clusters:
                cluster.fresh()
            began, file = time.monotonic(), ["-f", f"sql/{name}.sql"]
            both = [start_psql(first.port, "postgres", PASSWORD, "regression", file, regress),
                    start_psql(gateway.port, "alice@db", token, "regression", file, regress)]
            direct, through = (normal(finish(p, began + args.seconds - time.monotonic())) for p in both)
            took = f"({time.monotonic() - began:.1f}s, {len(direct)} lines)"
            if direct == through:
                passed += 1
                print(f"ok   {name} {took}", flush=True)
                if name in reasons:
                    print("     known.txt says that it differs", flush=True)
                continue
            differs = list(difflib.unified_diff(direct, through, "direct", "through", lineterm="", n=3))
            if name in reasons:
                print(f"known {name} {took}: {reasons[name]}", flush=True)
            else:
                failed += 1
                print(f"FAIL {name} {took}: {sum(l[:1] in '+-' for l in differs) - 2} lines differ", flush=True)
            if args.show:
                print("\n".join("       " + line for line in differs), flush=True)
        print(f"{passed} passed, {failed} failed")
        return 1 if failed else 0
    finally:
        if gateway:
            gateway.stop()
        for cluster in clusters:
            cluster.stop()
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
