"""The command line as people use it elsewhere: login, whoami, resources, connect, sessions, the trail."""
import contextlib, json, os, pathlib, subprocess, tempfile, threading

from harness import check, eventually, query
from test_api import CONTROL


class Person:
    """Somebody on a machine that is no gateway's host: a home of their own, no configuration, no variables."""

    def __init__(self, w, home, subject, groups, url=None):
        self.w, self.home = w, pathlib.Path(home)
        self.url = url or f"http://127.0.0.1:{w.gateway.control}"
        self.token = w.gateway.token(subject, groups=groups)
        (self.home / "empty").mkdir(exist_ok=True)

    def env(self, **more):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "GATEWAY_", "XDG_"))}
        return dict(clean, HOME=str(self.home), PSQLRC="/dev/null", PAGER="", LC_ALL="C.UTF-8", **more)

    def start(self, *argv, **more):
        return subprocess.Popen([self.w.gateway.binary, *argv], env=self.env(**more), cwd=self.home / "empty", text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *argv, stdin="", ok=True, **more):
        wire = self.start(*argv, **more)
        out, err = wire.communicate(stdin, timeout=60)
        check(ok is None or (wire.returncode == 0) == ok, argv, wire.returncode, out, err)
        return subprocess.CompletedProcess(argv, wire.returncode, out, err)

    def login(self, *more):
        return self.run("login", "--token", "--url", self.url, *more, stdin=self.token + "\n")


@contextlib.contextmanager
def person(w, subject="alice@corp.test", groups=("readers",), url=None, **options):
    with w.own(policies=CONTROL, **options) as own, tempfile.TemporaryDirectory() as home:
        yield Person(own, home, subject, groups, url and url(own))


def test_a_login_is_kept_for_its_owner_alone_and_forgotten(w):
    with person(w) as p:
        told = p.run("whoami", ok=False)
        check(told.returncode == 1 and "gateway login" in told.stderr, told.stderr)
        done = p.login()
        check("alice@corp.test" in done.stderr and p.token not in done.stdout + done.stderr, done)
        kept = p.home / ".local/state/gateway/login.json"
        check(kept.stat().st_mode & 0o777 == 0o600 and kept.parent.stat().st_mode & 0o777 == 0o700)
        who = json.loads(p.run("whoami", "--output", "json").stdout)
        check(who["subject"] == "alice@corp.test" and who["groups"] == ["readers"] and not who["operator"], who)
        # Where GATEWAY_TOKEN is set it decides.
        other = p.w.gateway.token("bob@corp.test")
        check("bob@corp.test" in p.run("whoami", GATEWAY_TOKEN=other).stdout)
        # A token goes to the gateway that it was given for, and to no other.
        check("GATEWAY_TOKEN" in p.run("whoami", ok=False, GATEWAY_URL="http://127.0.0.1:9").stderr)
        kept.chmod(0o640)
        check("others may read" in p.run("whoami", ok=False).stderr)
        kept.chmod(0o600)
        p.run("logout")
        check(not kept.exists())
        p.run("whoami", ok=False)
        p.run("logout")


def test_a_login_with_a_wrong_token_is_not_kept(w):
    with person(w) as p:
        good, p.token = p.token, "gw_nonsense"
        told = p.run("login", "--token", "--url", p.url, stdin="gw_nonsense\n", ok=False)
        check(told.returncode == 1 and "not valid" in told.stderr, told.stderr)
        check(not (p.home / ".local/state/gateway/login.json").exists())
        told = p.run("login", "--url", p.url, ok=False)
        check("--token" in told.stderr, told.stderr)
        check(p.run("login", "--token", ok=None, stdin=good).returncode == 2, "without an address it is wrong usage")
        told = p.run("login", "--token", "--url", "http://gw.example:6080", stdin=good, ok=False)
        check("https://" in told.stderr, told.stderr)


def test_whoami_and_resources_on_the_host(w):
    with w.own(policies=CONTROL) as own:
        check(json.loads(own.cli("whoami", "--output", "json").stdout)["operator"] is True)
        names = [one["name"] for one in own.rows("resources")]
        check({"orders-db", "other-db"} <= set(names), names)
        token = own.gateway.token("alice@corp.test", groups=["readers"])
        done = own.gateway.cli("whoami", token=token)
        check("alice@corp.test" in done.stdout, done.stdout)
        token = own.gateway.token("nobody@corp.test")
        check(json.loads(own.gateway.cli("resources", "--output", "json", token=token).stdout) == [])


def test_connect_runs_psql_with_everything_set(w):
    with person(w) as p:
        check("gateway login" in p.run("connect", "orders-db", ok=False).stderr)
        p.login()
        database = {"PGDATABASE": w.database}
        done = p.run("connect", "orders-db", "--", "-XAtc", "SELECT count(*) > 0 FROM orders", **database)
        check(done.stdout == "t\n", done)
        # Standard input is the client's, and so is its exit status.
        done = p.run("connect", "orders-db", "--", "-XAt", stdin="SELECT 40 + 2;\n", **database)
        check(done.stdout == "42\n", done)
        done = p.run("connect", "orders-db", "--", "-XAt", "-v", "ON_ERROR_STOP=1", "-c", "DROP TABLE orders", ok=None, **database)
        check(done.returncode == 1 and "42501" not in done.stdout and "denied" in done.stderr, done)
        check(p.run("connect", "orders-db", "--", "sh", "-c", "exit 7", ok=None).returncode == 7)
        # Another command gets the same settings; the token is in no argument list.
        done = p.run("connect", "orders-db", "--reason", "INC 7 \\ x", "--", "sh", "-c", "env; psql -XAtc 'SELECT 1'",
                     PGSERVICE="elsewhere", PGHOSTADDR="192.0.2.1", PGOPTIONS="-c datestyle=ISO", **database)
        lines = done.stdout.splitlines()
        check(lines[-1] == "1" and not any(line.startswith(("PGSERVICE=", "PGHOSTADDR=", "GATEWAY_TOKEN=")) for line in lines), lines)
        check("PGOPTIONS=-c datestyle=ISO -c gateway.reason=INC\\ 7\\ \\\\\\ x" in lines, [l for l in lines if "OPTIONS" in l])
        told = p.run("connect", "nothing", ok=False)
        check("orders-db" in told.stderr, told.stderr)
        check("is not installed" in p.run("connect", "orders-db", "--", "no-such-program", ok=False).stderr)


def test_connect_gives_the_reason_to_those_who_approve(w):
    with person(w) as p:
        p.login()
        client = p.start("connect", "orders-db", "--reason", "INC 7", "--", "-XAtc",
                         "UPDATE orders SET status = 'cli' WHERE id = 9", PGDATABASE=w.database)
        opened = eventually(lambda: [one for one in p.w.rows("approvals", "list") if one["state"] == "open"], "it is held")[0]
        check(opened["reason"] == "INC 7" and opened["principal"] == "alice@corp.test", opened)
        dana = p.w.gateway.token("dana@corp.test", groups=["dba"])
        done = p.run("approvals", "approve", opened["id"], GATEWAY_TOKEN=dana, GATEWAY_URL=p.url)
        check("approved" in done.stderr, done.stderr)
        out, err = client.communicate(timeout=30)
        check(client.returncode == 0 and "UPDATE 1" in out, out, err)
        w.admin("UPDATE orders SET status = 'open' WHERE id = 9")


def test_a_private_ca_is_kept_with_the_login_and_everything_is_verified(w):
    with person(w, sections='[tls]\nrequire = "always"\n', url=lambda own: f"https://127.0.0.1:{own.gateway.control}") as p:
        told = p.run("login", "--token", "--url", p.url, stdin=p.token, ok=False)
        check(told.returncode == 1, "an unknown authority is not trusted")
        p.login("--ca", p.w.gateway.ca())
        check("alice@corp.test" in p.run("whoami").stdout)
        done = p.run("connect", "orders-db", "--", "sh", "-c",
                     "echo $PGSSLMODE; psql -XAtc 'SELECT 1' && psql -X -c '\\conninfo'", PGDATABASE=w.database)
        check(done.stdout.startswith("verify-full\n1\n") and "SSL connection" in done.stdout, done.stdout)


def test_sessions_are_listed_shown_watched_and_killed_from_elsewhere(w):
    with person(w, "olga@corp.test", ["operators"]) as p:
        p.login()
        wire = p.w.wire("reader")
        listed = json.loads(p.run("sessions", "list", "--live", "--output", "json").stdout)
        check(len(listed) == 1, listed)
        session = listed[0]["id"]
        watching = p.start("sessions", "watch", session)
        lines = []
        threading.Thread(target=lambda: lines.extend(iter(watching.stdout.readline, "")), daemon=True).start()
        eventually(lambda: lines, "the watch has begun")
        query(wire, "SELECT 1 AS \"\x1b[2Jevil\u202e\"")
        query(wire, "DROP TABLE orders")
        eventually(lambda: any("deny" in line and "DROP TABLE" in line for line in lines), "the refusal is told")
        eventually(lambda: any("outcome" in line and "1 rows" in line for line in lines), "the outcome is told")
        p.run("sessions", "kill", session, "--reason", "enough")
        check(watching.wait(15) == 0, "a watch ends with its session")
        text = "".join(lines)
        check("\x1b" not in text and "\u202e" not in text and "\\u{1b}[2Jevil\\u{202e}" in text, text)
        shown = p.run("sessions", "show", session).stdout
        check("killed" in shown and "DROP TABLE orders" in shown and "\x1b" not in shown, shown)
        shown = json.loads(p.run("sessions", "show", session, "--output", "json").stdout)
        verdicts = [row["verdict"] for row in shown["transcript"] if row["kind"] == "operation"]
        check(shown["id"] == session and verdicts == ["allow", "deny"], verdicts)
        found = json.loads(p.run("audit", "search", "--session", session, "--verdict", "deny", "--output", "json").stdout)
        check([row["statement"] for row in found] == ["DROP TABLE orders"], found)
        told = p.run("policy", "explain", "--as", "x", "--group", "readers", "--resource", "orders-db", "--database", w.database,
                     "DROP TABLE orders").stdout
        check(told.startswith("deny") and "define" in told, told)
        # What only the operator of the host may do.
        for command in [("token", "list"), ("audit", "verify")]:
            check(p.run(*command, ok=False).returncode == 1, command)


def test_who_may_not_is_told_so(w):
    with person(w, "lou@corp.test", ["lookers"]) as p:
        p.login()
        wire = p.w.wire("reader")
        session = json.loads(p.run("sessions", "list", "--output", "json").stdout)[0]["id"]
        for command in [("sessions", "watch", session), ("sessions", "kill", session),
                        ("policy", "explain", "--as", "x", "--resource", "orders-db", "SELECT 1")]:
            told = p.run(*command, ok=False)
            check(told.returncode == 1 and "orders-db" in told.stderr, told)
        shown = p.run("sessions", "show", session)
        check("alice@corp.test" in shown.stdout and "not for you" in shown.stderr, shown)
        check(query(wire, "SELECT 1")[1] == [], "it lives on")
        check("approver" in p.w.gateway.cli("approvals", "approve", "apr_1").stderr)


def test_a_resource_whose_connect_has_obligations_is_one_that_one_may_connect_to(w):
    rules = {"all": """
@id("in") @reason("required") @rows("10") permit (principal in Group::"readers", action in [Action::"connect", Action::"read"],
    resource in Resource::"orders-db");
"""}
    with w.own(policies=rules) as own, tempfile.TemporaryDirectory() as home:
        p = Person(own, home, "alice@corp.test", ("readers",))
        p.login()
        check([row["name"] for row in json.loads(p.run("resources", "--output", "json").stdout)] == ["orders-db"])
        with_one = ["connect", "orders-db", "--database", own.database, "--reason", "INC-1", "--", "-Atc", "SELECT 1"]
        check(p.run(*with_one).stdout.splitlines()[-1] == "1")
        without = [word for word in with_one if word not in ("--reason", "INC-1")]
        refused = p.run(*without, ok=False)
        check("stated reason" in refused.stderr, refused)


def test_an_address_of_another_gateway_is_not_taken_for_the_one_at_hand(w):
    with w.own() as own:
        here = f"http://127.0.0.1:{own.gateway.control}"
        for url, status in [(here, 0), ("http://127.0.0.1:1", 1), ("https://gw.elsewhere.test:6080", 1)]:
            env = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
            done = subprocess.run([own.gateway.binary, "sessions", "list", "--config", own.gateway.dir / "gateway.toml"], text=True,
                                  capture_output=True, env=dict(env, GATEWAY_URL=url), timeout=30)
            check(done.returncode == status and ("which one is meant" in done.stderr) == (status == 1), url, done)


def test_wrong_words_on_the_command_line_are_usage(w):
    for argv in [("token", "create", "--subject", "x", "--ttl", "soon"), ("token", "create", "--subject", "x", "--ttl", "0s"),
                 ("token", "create", "--subject", ""), ("audit", "search", "--since", "yesterday"), ("audit", "search", "--until", "5"),
                 ("access", "request", "orders-db", "--for", "long", "--reason", "r")]:
        done = w.cli(*argv, ok=False)
        check(done.returncode == 2 and not done.stdout, argv, done)
