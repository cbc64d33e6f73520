"""A PostgreSQL role for each session: made before it, with the rights that policy gives, and gone behind it."""
import contextlib, os, random, re, shutil, subprocess, threading, time

import rig
from harness import POLICIES, Skipped, check, eventually, query

OURS = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'gw\\_%'"

POLICY = {**POLICIES, "held": """
@id("writers-truncate") @approve("dba") @wait("30s")
permit (principal in Group::"writers", action == Action::"write-unbounded", resource == Table::"orders-db/public.orders");
"""}


def resource(w, admin="postgres", password="superuser", **more):
    """The suite's resource, whose sessions get roles."""
    word = w.scratch / f"admin-{admin}"
    word.write_text(password)
    keys = "".join(f", {key} = {value!r}".replace("'", '"') for key, value in more.items())
    return w.resource(credential=f'{{ kind = "role", ttl = "2m"{keys}, admin = {{ username = "{admin}", '
                                 f'password = {{ file = "{word}" }} }} }}')


@contextlib.contextmanager
def roles(w, **options):
    settings = {key: options.pop(key) for key in ("admin", "password", "owned") if key in options}
    with w.own(resources=resource(w, **settings), policies=options.pop("policies", POLICY), **options) as own:
        yield own


def ours(w):
    return int(w.admin(OURS)[0])


def none_left(w, seconds=15):
    eventually(lambda: ours(w) == 0, "no role of a session is left", seconds)
    eventually(lambda: w.rows("leases", "list") == [], "no lease is left", seconds)


def test_a_session_has_a_role_of_its_own_that_is_gone_behind_it(w):
    with roles(w) as own:
        with own.connect("reader") as one, own.connect("reader") as two:
            names = [c.execute("SELECT current_user, session_user").fetchone() for c in (one, two)]
            check(all(re.fullmatch("gw_[0-9a-f]{16}", name) for pair in names for name in pair), names)
            check(names[0][0] != names[1][0], "each has its own", names)
            about = w.admin(f"SELECT shobj_description(oid, 'pg_authid') || rolconnlimit || rolsuper || rolcreaterole FROM pg_roles "
                            f"WHERE rolname = '{names[0][0]}'")[0]
            check("alice@corp.test" in about and about.endswith("1falsefalse"), about)
            shown = w.admin(f"SELECT application_name FROM pg_stat_activity WHERE usename = '{names[0][0]}'")[0]
            check("alice@corp.test" in shown, shown)
            leases = own.rows("leases", "list")
            check(len(leases) == 2 and {lease["state"] for lease in leases} == {"held"}, leases)
            check({f"gw_{lease['id']}" for lease in leases} == {pair[0] for pair in names}, leases, names)
            one.close()
            eventually(lambda: ours(w) == 1, "the role of the session that ended is gone")
            check(two.execute("SELECT 1").fetchone() == (1,), "the other session goes on")
        none_left(own)
        kinds = [row["kind"] for row in own.rows("audit", "search")]
        check(kinds.count("credential_leased") == 2 and kinds.count("credential_revoked") == 2, kinds)


def test_the_role_itself_may_only_what_policy_permits(w):
    """What the gateway would refuse, the target refuses, too: asked as that role, behind the gateway's back."""
    with roles(w) as own, own.connect("reader") as session:
        role = session.execute("SELECT current_user").fetchone()[0]
        for sql, permitted in [
            ("SELECT count(*) FROM public.orders", True),
            ("UPDATE public.orders SET status = 'x' WHERE id = 1", False),
            ("DELETE FROM public.orders", False), ("TRUNCATE public.orders", False), ("DROP TABLE public.orders", False),
            ("CREATE TABLE app.mine (a int)", False), ("COPY public.orders TO PROGRAM 'true'", False),
            ("SELECT pg_read_file('/etc/passwd')", False), ("ALTER SYSTEM SET work_mem = '1MB'", False),
            ("SET ROLE postgres", False), ("ALTER TABLE public.orders OWNER TO CURRENT_USER", False),
            ("SELECT rolpassword FROM pg_authid", False),
        ]:
            # As the superuser one becomes the role; what it may is then asked of the role's rights.
            wire = w.server.wire(w.database, "postgres", "superuser")
            try:
                query(wire, f"BEGIN; SET LOCAL SESSION AUTHORIZATION {role}")
                _, errors = query(wire, sql)
                query(wire, "ROLLBACK")
            finally:
                wire.close()
            check((errors == []) == permitted, sql, errors)


def test_no_packet_shows_the_password(w):
    """Neither the client nor the target's log sees it: the server is told a verifier alone."""
    with roles(w) as own, own.connect("reader") as session:
        role = session.execute("SELECT current_user").fetchone()[0]
        verifier = w.admin(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")[0]
        check(verifier.startswith("SCRAM-SHA-256$"), verifier)
        error = session.pgconn.exec_(b"SELECT rolpassword FROM pg_authid")
        check(b"SCRAM" not in (error.error_message or b""), error.error_message)
        log = own.log()
        check("SCRAM-SHA-256$" not in log and "superuser" not in log, "a secret is in the log")


def test_a_write_that_waits_for_approval_has_its_rights(w):
    """Policy holds it, and permits it then: the role may, and the gateway sees to it that people decide first."""
    with roles(w) as own, own.connect("writer") as session:
        role = session.execute("SELECT current_user").fetchone()[0]
        may = "SELECT has_table_privilege('{}', 'public.orders', 'TRUNCATE')"
        check(w.admin(may.format(role)) == ["t"], "on approval")
        check(w.admin(may.format(role).replace("orders", "orders_log")) == ["f"], "never")


def test_rights_follow_policy_while_the_session_runs(w):
    with roles(w) as own, own.connect("writer") as session:
        role = session.execute("SELECT current_user").fetchone()[0]
        may = f"SELECT has_table_privilege('{role}', 'public.orders', 'INSERT')"
        check(w.admin(may) == ["t"], "permitted at first")
        policy = own.gateway.dir / "policies" / "writers.cedar"
        before = policy.read_text()
        policy.write_text(before.replace('Action::"write", ', ""))
        own.hang_up()
        eventually(lambda: w.admin(may) == ["f"], "the right is taken from the running session's role")
        check(session.execute("SELECT count(*) FROM orders").fetchone()[0] > 0, "the rest stays")
        policy.write_text(before)
        own.hang_up()
        eventually(lambda: w.admin(may) == ["t"], "and given back")


def test_bare_names_mean_what_they_mean_to_the_server_once_rights_change(w):
    """A schema that comes first in the path, and that the role may use only later: a name then means another table, whose
    tagged column is masked."""
    w.admin("CREATE SCHEMA early; CREATE TABLE early.tickets (id int, email text)")
    w.admin("INSERT INTO early.tickets VALUES (1, 'heron@mailfort.test')")
    narrow = POLICY["readers"].replace('resource in Resource::"orders-db"', 'resource in Table::"orders-db/public.tickets"')
    try:
        with roles(w, policies={**POLICY, "readers": narrow}) as own:
            (own.gateway.dir / "gateway.toml").write_text((own.gateway.dir / "gateway.toml").read_text().replace(
                '"public.tickets.email"', '"early.tickets.email"'))
            own.hang_up()
            with own.connect("reader") as session:
                session.execute("SET search_path = early, public")
                asked = "SELECT string_agg(email || '', ',') FROM tickets"
                with contextlib.suppress(Exception):
                    session.execute(asked)
                (own.gateway.dir / "policies" / "readers.cedar").write_text(POLICY["readers"])
                own.hang_up()
                role = session.execute("SELECT current_user").fetchone()[0]
                eventually(lambda: w.admin(f"SELECT has_table_privilege('{role}', 'early.tickets', 'SELECT')") == ["t"],
                           "the right is given")
                shown = session.execute(asked).fetchone()[0]
                check("heron@mailfort" not in (shown or ""), "a tagged value came through", shown)
    finally:
        w.admin("DROP SCHEMA early CASCADE")


def test_what_a_session_has_made_is_kept_or_dropped_as_configured(w):
    for owned, left in [("keep", True), ("drop", False)]:
        with roles(w, owned=owned) as own:
            with own.connect("migrator") as session:
                session.execute("CREATE TABLE public.made_here (a int)")
                session.execute("INSERT INTO public.made_here VALUES (1)")
            none_left(own)
            found = w.admin("SELECT tableowner FROM pg_tables WHERE tablename = 'made_here'")
            check(all(owner.startswith("gateway_owner_") for owner in found) and bool(found) == left, owned, found)
            w.admin("DROP TABLE IF EXISTS public.made_here")


def test_a_role_of_that_name_that_others_made_is_never_touched(w):
    """Neither by the sweep, nor by the end of a session: without the mark it is somebody's."""
    w.admin("CREATE ROLE gw_somebody LOGIN; COMMENT ON ROLE gw_somebody IS 'gateway:elsewhere:0123456789abcdef of others'; "
            "CREATE ROLE gw_0123456789abcdef")
    try:
        with roles(w) as own:
            with own.connect("reader") as session:
                session.execute("SELECT 1")
            eventually(lambda: ours(w) == 2, "only the session's own role is gone")
            own.kill()
            own.gateway.start()
            with own.connect("reader") as session:
                session.execute("SELECT 1")
            eventually(lambda: ours(w) == 2, "and after a restart")
    finally:
        w.admin("DROP ROLE gw_somebody, gw_0123456789abcdef")


def test_an_admin_login_without_superuser(w):
    """CREATEROLE, and a member of whoever owns the tables: the usual way to run it."""
    w.admin(f"CREATE ROLE gate_admin LOGIN CREATEROLE PASSWORD 'tgt-Zeppelin-admin'; GRANT {w.server.names['login']} TO gate_admin")
    try:
        with roles(w, admin="gate_admin", password="tgt-Zeppelin-admin") as own:
            with own.connect("writer") as session:
                check(session.execute("SELECT count(*) FROM orders").fetchone()[0] > 0, "reads")
                session.execute("UPDATE orders SET status = status WHERE id = 1000000")
                check("gw_" in session.execute("SELECT current_user").fetchone()[0])
            none_left(own)
    finally:
        for statement in [*(f"DROP OWNED BY {role}" for role in w.admin(
                "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname LIKE 'gateway\\_grants\\_%'")), "DROP OWNED BY gate_admin"]:
            w.admin(statement)
        for role in w.admin("SELECT quote_ident(rolname) FROM pg_roles WHERE rolname LIKE 'gateway\\_grants\\_%'"):
            w.admin(f"DROP ROLE {role}")
        w.admin("DROP ROLE gate_admin")


def test_an_admin_login_that_may_make_no_roles_is_told_to_operators_only(w):
    w.admin("CREATE ROLE gate_weak LOGIN PASSWORD 'tgt-Zeppelin-weak'")
    try:
        with roles(w, admin="gate_weak", password="tgt-Zeppelin-weak") as own:
            done = own.psql("reader", "-c", "SELECT 1")
            check(done.returncode and "can't be reached" in done.stderr, done.stderr)
            check("CREATEROLE" not in done.stderr and "gate_weak" not in done.stderr, done.stderr)
            eventually(lambda: "the admin login needs CREATEROLE" in own.log(), "the log says what to do")
            none_left(own)
    finally:
        w.admin("DROP ROLE gate_weak")


def test_kill_9_at_random_moments_leaves_nothing_behind(w):
    """Sessions come, ask and go while the gateway is killed; the next start takes back what was left, and nothing else."""
    rounds, clients = w.kill_rounds, 8
    w.admin("CREATE ROLE gw_bystander")
    try:
        with roles(w) as own:
            token = own.token("reader")
            for turn in range(rounds):
                over = threading.Event()

                def client():
                    while not over.is_set():
                        with contextlib.suppress(Exception):
                            wire = own.wire("reader", password=token, seconds=5)
                            query(wire, "SELECT 1")
                            wire.close()

                threads = [threading.Thread(target=client) for _ in range(clients)]
                for thread in threads:
                    thread.start()
                time.sleep(0.3 + random.random())
                own.kill()
                over.set()
                for thread in threads:
                    thread.join()
                own.gateway.start()
            eventually(lambda: ours(w) == 1, "no role of a session is left after the last start", 30)
            eventually(lambda: own.rows("leases", "list") == [], "no lease is left", 30)
            check(w.admin("SELECT count(*) FROM pg_roles WHERE rolname = 'gw_bystander'") == ["1"], "others' roles are there")
    finally:
        w.admin("DROP ROLE gw_bystander")


def test_a_target_that_is_away_at_the_end_is_asked_again(w):
    with roles(w) as own:
        with own.connect("reader") as session:
            session.execute("SELECT 1")
            w.server.halt()
            try:
                failed = eventually(lambda: [lease for lease in own.rows("leases", "list") if lease["attempts"]],
                                    "what could not be taken back is listed", 20)
                check(failed[0]["state"] == "returned" and failed[0]["error"], failed)
                check("tgt-Zeppelin" not in str(failed) and "superuser" not in str(failed), failed)
            finally:
                w.server.resume()
        none_left(own, 90)


def test_config_check_probes_what_sessions_will_need(w):
    with roles(w, start=False) as own:
        done = own.cli("config", "check", "--probe")
        check("probe: `orders-db`: ok: PostgreSQL" in done.stderr and "may make roles" in done.stderr, done.stderr)
        check("superuser" not in done.stderr + done.stdout, "the password is told", done.stderr)
        check(ours(w) == 0, "nothing is made")
    w.admin("CREATE ROLE gate_weak LOGIN PASSWORD 'tgt-Zeppelin-weak'")
    try:
        with roles(w, admin="gate_weak", password="tgt-Zeppelin-weak", start=False) as own:
            done = own.cli("config", "check", "--probe", ok=False)
            check(done.returncode == 1 and "FAILED" in done.stderr and "ALTER ROLE gate_weak CREATEROLE" in done.stderr, done.stderr)
        w.admin("ALTER ROLE gate_weak CREATEROLE")
        with roles(w, admin="gate_weak", password="tgt-Zeppelin-weak", start=False) as own:
            done = own.cli("config", "check", "--probe")
            check("can't grant" in done.stderr and "Make it a member of their owner" in done.stderr, done.stderr)
        with roles(w, admin="gate_weak", password="tgt-Zeppelin-wrong", start=False) as own:
            done = own.cli("config", "check", "--probe", ok=False)
            check(done.returncode == 1 and "tgt-Zeppelin-wrong" not in done.stderr + done.stdout, done.stderr)
    finally:
        w.admin("DROP ROLE gate_weak")


# ---- a target whose disk is full ----

@contextlib.contextmanager
def small_target(w, size="96m"):
    """A server of its own on a file system that is soon full; all of PostgreSQL's files are on it."""
    if os.geteuid() != 0:
        raise Skipped("only root can mount a file system of its own")
    server = rig.Server(w.suite)
    folder = server.dir / "data"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        server.stop()
        raise Skipped("nothing can be mounted here")
    try:
        shutil.chown(folder, server.owner)
        server.cluster()
        server.admin("postgres", ["CREATE DATABASE orders", "ALTER SYSTEM SET max_wal_size = '32MB'"])
        server.admin("orders", ["CREATE TABLE orders (id int PRIMARY KEY, status text, filler text)", "INSERT INTO orders VALUES (1, 'new', '')"])
        yield server
    finally:
        subprocess.run(["pkill", "-9", "-u", server.owner, "-f", str(folder)], capture_output=True)
        subprocess.run(["umount", "-l", folder], check=True)
        shutil.rmtree(server.dir, ignore_errors=True)


def test_a_target_whose_disk_is_full_is_told_as_it_says_and_leaves_nothing_behind(w):
    import psycopg
    policy = {"all": '@id("all") permit (principal in Group::"writers", action, resource);'}
    with small_target(w) as server:
        text = server.fill(w.suite["resource"])
        old = next(line for line in text.splitlines() if line.startswith("credential = "))
        text = text.split("[[resource.tag]]")[0].replace(old, f"credential = {server.role_credential()}")
        with w.own(resources=text, policies=policy) as own:
            settings = {**own.dsn("writer"), "dbname": "orders"}
            filler = server.dir / "data" / "filler"

            def fill(leave):
                free = shutil.disk_usage(server.dir / "data").free
                with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as to:
                    while free > leave:
                        to.write(b"x" * min(65536, free - leave))
                        free = shutil.disk_usage(server.dir / "data").free

            def ours():
                return server.admin("postgres", OURS)[0]

            with psycopg.connect(**settings, autocommit=True) as c:
                fill(512 << 10)
                try:
                    c.execute("INSERT INTO orders SELECT n, 'x', repeat('x', 1000) FROM generate_series(2, 60000) n")
                    raise AssertionError("there was room")
                except psycopg.Error as full:
                    check(full.sqlstate == "53100", full.sqlstate, str(full))
                check(c.execute("SELECT status FROM orders WHERE id = 1").fetchone() == ("new",), "the session lives on")
                filler.unlink()
                c.execute("INSERT INTO orders VALUES (2, 'y', '')")
            # To the last byte: a login gets a session or a refusal, and soon; the server may even end itself.
            fill(0)
            outcomes = set()
            for _ in range(12):
                began = time.monotonic()
                try:
                    with psycopg.connect(**settings, autocommit=True) as c:
                        c.execute("SELECT 1")
                    outcomes.add("session")
                except psycopg.Error as refused:
                    outcomes.add(refused.sqlstate or str(refused)[:80])
                check(time.monotonic() - began < 15, "a login was left waiting", outcomes)
            check(own.gateway.alive(), outcomes, own.log()[-2000:])
            check("superuser" not in own.log() and not any("gw_" in outcome for outcome in outcomes), outcomes)
            filler.unlink(missing_ok=True)
            try:
                server.admin("postgres", "SELECT 1")
            except (OSError, rig.Refused):
                server.resume()
            eventually(lambda: psycopg.connect(**settings, autocommit=True).execute("SELECT 1").fetchone() == (1,), "logins work again", 30)
            eventually(lambda: ours() == "0", "no role of a session is left", 120)
            eventually(lambda: own.rows("leases", "list") == [], "no lease is left", 60)
