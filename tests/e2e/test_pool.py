"""Roles that are prepared at the target, and that sessions have in turn: each with a password of its own each time."""
import contextlib, random, re, shutil, tempfile, pathlib, subprocess, threading, time

import common, rig
from harness import POLICIES, check, eventually, query

POLICY = {**POLICIES, "control": """
@id("migrators-control") permit (principal in Group::"migrators", action == Action::"control", resource in Resource::"orders-db");
"""}
OPEN = ("SELECT rolname FROM pg_authid WHERE rolname ~ '^pool_[0-9]$' AND (rolpassword IS NOT NULL OR rolvaliduntil > now()) "
        "ORDER BY 1")


def word(w):
    path = w.scratch / "pool-admin"
    path.write_text("superuser")
    return path


@contextlib.contextmanager
def pool(w, count=2, wait="5s", address=None, **options):
    """A gateway whose sessions have the roles `pool_1`, ..., made here."""
    names = [f"pool_{n + 1}" for n in range(count)]
    w.admin("CREATE ROLE pool_app NOLOGIN; GRANT USAGE ON SCHEMA public TO pool_app; "
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO pool_app")
    for name in names:
        w.admin(f"CREATE ROLE {name} LOGIN IN ROLE pool_app")
    listed = ", ".join(f'"{name}"' for name in names)
    primary = f', address = "127.0.0.1:{w.server.port}"' if address else ""
    keys = {"credential": f'{{ kind = "pool", ttl = "2m", roles = [{listed}], wait = "{wait}", admin = {{ username = "postgres", '
                          f'password = {{ file = "{word(w)}" }}{primary} }} }}'}
    if address:
        keys["address"] = f'"{address}"'
    try:
        with w.own(resources=w.resource(**keys), policies=POLICY, **options) as own:
            yield own
    finally:
        for name in names:
            w.admin(f"DROP ROLE {name}")
        w.admin("DROP OWNED BY pool_app")
        w.admin("DROP ROLE pool_app")


def me(session):
    return session.execute("SELECT current_user").fetchone()[0]


def all_closed(w, own, seconds=15):
    eventually(lambda: own.rows("leases", "list") == [], "no lease is left", seconds)
    check(w.admin(OPEN) == [], "roles with which somebody could log in:", w.admin(OPEN))


def test_two_sessions_never_share_a_role(w):
    """Many come and go at the same time: whoever is in a role is alone in it, and says nothing before he has asked who he is."""
    with pool(w, count=3, wait="30s") as own:
        inside, faults, lock = set(), [], threading.Lock()
        token = own.token("reader")

        def client():
            for _ in range(6):
                try:
                    wire = own.wire("reader", password=token, seconds=40)
                    name = query(wire, "SELECT current_user")[0]
                    name = next(line for line in map(str, name) if "pool_" in line)
                    name = re.search("pool_[0-9]", name)[0]
                    with lock:
                        if name in inside:
                            faults.append(name)
                        inside.add(name)
                    query(wire, "SELECT pg_sleep(0.05)")
                    with lock:
                        inside.discard(name)
                    wire.close()
                except Exception as broken:  # noqa: BLE001
                    faults.append(repr(broken))

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(faults == [], faults)
        all_closed(w, own)


def test_more_sessions_than_roles_wait_and_are_then_told_why(w):
    with pool(w, count=1, wait="1s") as own:
        with own.connect("reader") as session:
            check(me(session) == "pool_1")
            began = time.monotonic()
            done = own.psql("reader", "-c", "SELECT 1")
            check(done.returncode and "all logins that the gateway has for this target are in use" in done.stderr, done.stderr)
            check(0.8 < time.monotonic() - began < 8, time.monotonic() - began)
            check("53300" in own.refused_login("reader"))
            check("no role of the pool became free" in own.log())
            threading.Timer(0.5, session.close).start()
            done = own.psql("reader", "-c", "SELECT current_user")
            check(done.stdout.strip() == "pool_1", done.stdout, done.stderr)
        all_closed(w, own)


def test_the_password_of_a_session_that_ended_is_of_no_use(w):
    """Its verifier is gone from the target, and what a client set itself as password with it."""
    with pool(w, count=1) as own:
        with own.connect("migrator") as session:
            session.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine-now'")
            kept = w.admin("SELECT rolpassword FROM pg_authid WHERE rolname = 'pool_1'")
            check(kept[0].startswith("SCRAM-SHA-256$"), kept)
        all_closed(w, own)
        try:
            w.server.wire(w.database, "pool_1", "mine-now").close()
            check(False, "the password of an ended session opens the target")
        except rig.Refused as refused:
            check("28P01" in str(refused), refused)
        log = own.log()
        check("SCRAM-SHA-256$" not in log and "superuser" not in log, "a secret is in the log")


def test_what_a_session_sets_for_its_role_is_not_there_in_the_next(w):
    with pool(w, count=1) as own:
        for where in ("", f" IN DATABASE {w.database}", " IN DATABASE postgres"):
            with own.connect("migrator") as session:
                session.execute(f"ALTER ROLE CURRENT_USER{where} SET work_mem = '77MB'")
            with own.connect("reader") as session:
                check(session.execute("SHOW work_mem").fetchone()[0] == "4MB", where)
                check("alice@corp.test" in session.execute("SHOW application_name").fetchone()[0])
        all_closed(w, own)
        left = w.admin("SELECT setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE r.rolname = 'pool_1'")
        check(left == [], left)


def test_kill_9_frees_the_roles_with_the_next_start(w):
    with pool(w, count=2, wait="10s") as own:
        for _ in range(w.kill_rounds):
            sessions = [own.connect("reader") for _ in range(2)]
            check({me(s) for s in sessions} == {"pool_1", "pool_2"})
            time.sleep(random.random() / 5)
            own.kill()
            own.gateway.start()
            again = [own.connect("reader") for _ in range(2)]
            check({me(s) for s in again} == {"pool_1", "pool_2"})
            for session in again:
                session.close()
            all_closed(w, own)


def test_the_probe_names_what_is_wrong_with_a_role(w):
    with pool(w, count=2, start=False) as own:
        done = own.cli("config", "check", "--probe")
        told = done.stdout + done.stderr
        check("2 roles can be given to sessions" in told, told[-800:])
        w.admin("ALTER ROLE pool_2 CREATEDB; GRANT pg_read_server_files TO pool_1")
        done = own.cli("config", "check", "--probe", ok=False)
        told = done.stdout + done.stderr
        check(done.returncode == 1 and "2 of 2 roles" in told and "ALTER ROLE pool_2 NOCREATEDB" in told
              and "REVOKE pg_read_server_files FROM pool_1" in told, told)


@contextlib.contextmanager
def replica(server):
    """A standby that follows the server; its port."""
    folder, port = pathlib.Path(tempfile.mkdtemp(prefix="pgreplica-")), common.free_port()
    shutil.chown(folder, server.owner)
    data = folder / "data"
    try:
        server._as_owner(server.bin / "pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", "-d",
                         f"host=127.0.0.1 port={server.port} user=postgres password=superuser")
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(f"port = {port}\n")
        server._as_owner(server.bin / "pg_ctl", "-D", data, "-l", folder / "server.log", "-w", "start")
        yield port
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server._as_owner(server.bin / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_sessions_at_a_replica(w):
    """No role can be changed there: the primary is asked, and the session begins once the replica knows its password."""
    with replica(w.server) as port, pool(w, count=2, address=f"127.0.0.1:{port}") as own:
        for _ in range(5):
            with own.connect("reader") as one, own.connect("reader") as two:
                check({me(one), me(two)} == {"pool_1", "pool_2"})
                check(one.execute("SELECT pg_is_in_recovery()").fetchone()[0] is True)
                check(one.execute("SELECT count(*) FROM orders").fetchone()[0] > 0)
        all_closed(w, own)
