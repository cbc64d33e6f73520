"""What the end-to-end tests stand on: one private PostgreSQL, one shipped gateway, and the clients' settings.

A test is a function `test_*` in a `test_*.py` beside this file; it gets the `World` and raises where something is
wrong. Tests share one gateway and one server; a test that breaks or restarts them takes its own with `w.own()`.
`@direct_too` marks a test that must also pass on the bare server: `run.py --direct` shows that such a test asks for
nothing but what PostgreSQL does.
"""
import contextlib, json, os, pathlib, shutil, signal, subprocess, sys, tempfile, time

import yaml

HERE = pathlib.Path(__file__).resolve().parent
CASES = HERE.parent / "cases"
sys.path[:0] = [str(CASES), str(CASES / "postgres")]
import common  # noqa: E402
import rig  # noqa: E402

PRINCIPALS = {
    "reader": ("alice@corp.test", ["readers"]),
    "writer": ("wanda@corp.test", ["writers"]),
    "migrator": ("mia@corp.test", ["migrators"]),
    "nobody": ("nick@corp.test", []),
}

POLICIES = {
    "connect": """
@id("known-groups-connect")
permit (principal, action == Action::"connect", resource)
when { principal in Group::"readers" || principal in Group::"writers" || principal in Group::"migrators" };
""",
    "readers": """
@id("readers-read")
permit (principal in Group::"readers", action in [Action::"read", Action::"temp"], resource in Resource::"orders-db");

@id("readers-sleep")
permit (principal in Group::"readers", action == Action::"call",
        resource == Function::"orders-db/pg_catalog.pg_sleep");
""",
    "writers": """
@id("writers-write")
permit (principal in Group::"writers", action in [Action::"read", Action::"write", Action::"temp"],
        resource in Resource::"orders-db");
""",
    "migrators": """
@id("migrators-define")
permit (principal in Group::"migrators", action in [Action::"read", Action::"write", Action::"write-unbounded",
        Action::"define", Action::"temp"], resource in Resource::"orders-db");
""",
}


class Skipped(Exception):
    """This machine cannot run the test; it counts neither as passed nor as failed."""


def direct_too(test):
    """The bare server must pass this test as well."""
    test.direct_too = True
    return test


def check(condition, *about):
    """`assert` that stays in optimised Python and shows what was seen."""
    if not condition:
        raise AssertionError(" ".join(a if isinstance(a, str) else repr(a) for a in about) or "it does not hold")


def eventually(probe, what, seconds=10.0, pause=0.2):
    """Calls `probe` until it gives something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        got = probe()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)


class World:
    """The server, the gateway (none with `--direct`), and how to reach them."""

    def __init__(self, binary, keep=False):
        self.binary, self.keep, self.kill_rounds = binary, keep, 6
        self.suite = yaml.safe_load((CASES / "postgres" / "suite.yaml").read_text())
        self.database = self.suite["database"]
        self.server = rig.Server(self.suite)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="gateway-e2e-"))
        self.gateway, self.tokens = None, {}

    def start(self):
        self.server.start()
        if self.binary:
            self.gateway = self.make().start()
        return self

    def stop(self):
        if self.gateway:
            self.gateway.stop()
        self.server.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)

    # ---- gateways ----

    def resource(self, name="orders-db", **keys):
        """The suite's resource, with other keys where a test needs them."""
        text = self.server.fill(self.suite["resource"]).replace('name = "orders-db"', f'name = "{name}"')
        for key, value in keys.items():
            old = next(line for line in text.splitlines() if line.startswith(f"{key} = "))
            text = text.replace(old, f"{key} = {value}", 1)
        return text

    def make(self, sections="", resources=None, policies=None):
        """A gateway that is configured and does not run yet. `sections` is TOML before the resources."""
        text = sections + "\n" + (resources or self.resource() + "\n" + self.resource("other-db"))
        return common.Gateway(self.binary, "postgres", text, policies or POLICIES, self.keep)

    @contextlib.contextmanager
    def own(self, start=True, **options):
        """A world around a gateway of the test's own, on the same server."""
        world = World.__new__(World)
        world.__dict__.update(self.__dict__, tokens={}, gateway=self.make(**options))
        try:
            if start:
                world.gateway.start()
            yield world
        finally:
            world.gateway.stop()

    # ---- who and where ----

    @property
    def port(self):
        return self.gateway.port if self.gateway else self.server.port

    def token(self, who, ttl="1h", resources=(), fresh=False):
        """A token of `who`; the same one again unless something special is wanted."""
        if self.gateway is None:
            return self.server.names["password"]
        special = fresh or ttl != "1h" or resources
        if special or who not in self.tokens:
            subject, groups = PRINCIPALS[who]
            arguments = ["token", "create", "--subject", subject, "--ttl", ttl]
            for group in groups:
                arguments += ["--group", group]
            for resource in resources:
                arguments += ["--resource", resource]
            done = self.gateway.cli(*arguments)
            check(done.returncode == 0 and done.stdout.strip(), "token create:", done.stdout, done.stderr)
            if special:
                return done.stdout.strip()
            self.tokens[who] = done.stdout.strip()
        return self.tokens[who]

    def user(self, who, resource="orders-db"):
        if self.gateway is None:
            return self.server.names["login"]
        return f"{PRINCIPALS[who][0].split('@')[0]}@{resource}"

    def env(self, who, **more):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "GATEWAY_"))}
        return dict(clean, PGHOST="127.0.0.1", PGPORT=str(self.port), PGUSER=self.user(who), PGPASSWORD=self.token(who),
                    PGDATABASE=self.database, PGSSLMODE="disable", PGCONNECT_TIMEOUT="10", PSQLRC="/dev/null",
                    PAGER="", LC_ALL="C.UTF-8", HOME=str(self.scratch), **more)

    def run(self, who, *argv, stdin=None, timeout=60, env=None):
        return subprocess.run(argv, env={**self.env(who), **(env or {})}, input=stdin, text=True, capture_output=True,
                              timeout=timeout, cwd=self.scratch)

    def psql(self, who, *argv, **more):
        return self.run(who, "psql", "-X", "-A", "-t", *argv, **more)

    def psql_direct(self, *argv):
        """The same client on the bare server, for comparison."""
        env = {**self.env("reader"), "PGPORT": str(self.server.port), "PGUSER": self.server.names["login"],
               "PGPASSWORD": self.server.names["password"]}
        return subprocess.run(["psql", "-X", "-A", "-t", *argv], env=env, text=True, capture_output=True, timeout=60)

    def dsn(self, who, resource="orders-db", password=None):
        return dict(host="127.0.0.1", port=self.port, user=self.user(who, resource), dbname=self.database,
                    password=password or self.token(who), sslmode="disable", connect_timeout=10)

    def connect(self, who, autocommit=True, **more):
        """psycopg 3."""
        import psycopg
        return psycopg.connect(**self.dsn(who), autocommit=autocommit, **more)

    def wire(self, who, password=None, resource="orders-db", seconds=30, startup=None):
        """A raw connection that is logged in."""
        wire = rig.Wire(self.port, seconds)
        return wire.login(self.user(who, resource), password or self.token(who), self.database, startup)

    def admin(self, sql):
        """Straight at the server, as its superuser: the rows as texts."""
        return self.server.admin(self.database, sql)

    def refused_login(self, who, **more):
        """The SQLSTATE with which a login is refused."""
        try:
            self.wire(who, **more).close()
        except rig.Refused as refused:
            return str(refused)
        raise AssertionError("the login was not refused")

    # ---- the operator ----

    def cli(self, *argv, ok=True, **more):
        done = self.gateway.cli(*argv, **more)
        check(not ok or done.returncode == 0, argv, "ended with", done.returncode, done.stdout, done.stderr)
        return done

    def rows(self, *argv):
        return json.loads(self.cli(*argv, "--output", "json").stdout or "[]")

    def log(self):
        return (self.gateway.dir / "gateway.log").read_text()

    def hang_up(self):
        os.kill(self.gateway.process.pid, signal.SIGHUP)

    def kill(self):
        os.killpg(self.gateway.process.pid, signal.SIGKILL)
        self.gateway.process.wait()


def query(wire, sql):
    """One simple query on a raw connection: its lines and the SQLSTATEs of its errors."""
    start, wire.errors = len(wire.lines), []
    wire.exchange([rig.frame("Q", rig.cstr(sql))])
    return wire.lines[start:], wire.codes()


def ending(wire, seconds=15):
    """Reads until the peer closes; the SQLSTATE of its goodbye."""
    wire.end = time.monotonic() + seconds
    while wire.read() is not None:
        pass
    fatal = [e for e in wire.errors if e.get("S") == "FATAL"]
    return fatal[-1]["C"] if fatal else None


def decision_of(error):
    """The decision object of a psycopg error."""
    detail = error.diag.message_detail or ""
    check(len(detail.encode()) <= 1024, "the decision has", len(detail.encode()), "bytes")
    found = json.loads(detail)
    check(found["code"] in rig.DECISION_CODES, found)
    return found
