"""Running it: reloads, sessions, crashes, the audit trail, limits, the control address, the command line."""
import contextlib, json, os, pathlib, shutil, signal, socket, sqlite3, subprocess, threading, time, urllib.request

import rig
from harness import POLICIES, PRINCIPALS, Skipped, check, ending, eventually, query

FORBID = '@id("no-orders-today")\nforbid (principal, action == Action::"read", resource in Table::"orders-db/public.orders");\n'
READ = "SELECT id FROM orders WHERE id = 1"


def test_a_reload_changes_the_next_decision_of_a_running_session(w):
    with w.own() as own:
        wire = own.wire("reader")
        check(query(wire, READ)[1] == [])
        extra = own.gateway.dir / "policies" / "today.cedar"
        extra.write_text(FORBID)
        own.hang_up()
        eventually(lambda: query(wire, READ)[1] == ["42501"], "the new policy is in force")
        told = json.loads(wire.errors[0]["D"])
        check(told["rule"] == "no-orders-today", told)
        extra.unlink()
        own.hang_up()
        eventually(lambda: query(wire, READ)[1] == [], "the old policy is in force again")
        wire.close()


def test_a_prepared_statement_is_decided_again_after_a_reload(w):
    with w.own() as own:
        wire = own.wire("reader")
        wire.exchange([rig.encode({"parse": {"name": "s", "sql": READ}}), rig.encode("sync")])

        def run():
            wire.errors = []
            wire.exchange([rig.encode({"bind": {"statement": "s"}}), rig.encode({"execute": {}}), rig.encode("sync")])
            return wire.codes()

        check(run() == [])
        (own.gateway.dir / "policies" / "today.cedar").write_text(FORBID)
        own.hang_up()
        eventually(lambda: run() == ["42501"], "the new policy decides at Execute")
        wire.close()


def test_a_bad_policy_keeps_the_old_ones_and_says_so(w):
    with w.own() as own:
        wire = own.wire("reader")
        bad = own.gateway.dir / "policies" / "bad.cedar"
        for text in ["permit (principal, action, resource", 'permit (principal, action, resource);',
                     '@id("x") permit (principal, action == Action::"reed", resource);']:
            bad.write_text(text)
            done = own.cli("policy", "check", ok=False)
            check(done.returncode == 1 and "bad.cedar" in done.stdout + done.stderr, done)
            own.hang_up()
            time.sleep(0.5)
            check(query(wire, READ)[1] == [] and query(wire, "DROP TABLE orders")[1] == ["42501"])
        eventually(lambda: "bad.cedar" in own.log(), "the log names the file")
        bad.unlink()
        check(own.cli("policy", "check").returncode == 0)
        wire.close()


def test_no_policy_permits_nothing(w):
    with w.own(policies={"empty": "// nothing\n"}) as own:
        check(own.refused_login("reader") == "28000")


def sessions_of(own, subject):
    return [s for s in own.rows("sessions", "list") if subject in json.dumps(s) and not s.get("ended")]


def test_sessions_are_listed_and_killed(w):
    with w.own() as own:
        wire, other = own.wire("reader"), own.wire("writer")
        query(wire, READ)
        mine = eventually(lambda: sessions_of(own, PRINCIPALS["reader"][0]), "the session is listed")
        check(len(mine) == 1, mine)
        shown = own.cli("sessions", "show", mine[0]["id"]).stdout
        check(PRINCIPALS["reader"][0] in shown and "orders-db" in shown, shown)
        own.cli("sessions", "kill", mine[0]["id"])
        check(ending(wire) == "57P01", wire.lines)
        check(query(other, "SELECT 1")[1] == [], "the other session must live")
        eventually(lambda: not sessions_of(own, PRINCIPALS["reader"][0]), "it runs no more")
        check(own.cli("sessions", "kill", mine[0]["id"], ok=False).returncode == 1)
        other.close()


def test_killing_a_session_ends_what_runs_at_the_target(w):
    with w.own() as own:
        wire = own.wire("reader")
        wire.send(rig.frame("Q", rig.cstr("SELECT pg_sleep(63)")))
        mine = eventually(lambda: sessions_of(own, PRINCIPALS["reader"][0]), "the session is listed")
        own.cli("sessions", "kill", mine[0]["id"])
        check(ending(wire) == "57P01", wire.lines)


def test_sigterm_lets_a_running_statement_finish(w):
    with w.own() as own:
        idle, busy = own.wire("reader"), own.wire("reader")
        busy.outstanding += 1
        busy.send(rig.frame("Q", rig.cstr("SELECT pg_sleep(2), 'finished'")))
        time.sleep(0.5)
        own.gateway.process.send_signal(signal.SIGTERM)
        check(ending(idle) == "57P01", idle.lines)
        busy.until_ready()
        check(any("finished" in line for line in busy.lines), busy.lines)
        check(own.gateway.process.wait(20) == 0)
        check(own.cli("audit", "verify").returncode == 0)


def test_after_kill_9_the_trail_is_whole_and_has_what_was_acknowledged(w):
    with w.own() as own:
        for turn in range(3):
            wire = own.wire("writer")
            for n in range(15):
                check(query(wire, f"UPDATE tickets SET subject = 'kill {turn}.{n}' WHERE id = 1")[1] == [])
            running = own.wire("writer")
            running.send(b"".join(rig.frame("Q", rig.cstr(f"UPDATE tickets SET subject = 'tail {n}' WHERE id = 2"))
                                  for n in range(200)))
            time.sleep(0.05)
            own.kill()
            check(own.cli("audit", "verify").returncode == 0, "before the restart")
            own.gateway.start()
            check(own.cli("audit", "verify").returncode == 0, "after the restart")
            found = own.cli("audit", "search", "--text", f"kill {turn}.", "--output", "json", "--limit", "1000").stdout
            missing = [n for n in range(15) if f"kill {turn}.{n}'" not in found]
            check(not missing, "acknowledged, and not in the trail:", missing)
            check(not sessions_of(own, "@corp.test"), "sessions of the killed gateway are listed as running")
    w.admin("UPDATE tickets SET subject = 'subject ' || id")


def test_a_backup_that_was_taken_while_it_ran_starts_and_verifies(w):
    """As the book's page on operations says: the audit trail copied as it is, the store by SQLite's own means."""
    with w.own() as own:
        stop, data = threading.Event(), own.gateway.dir / "data"
        token = own.token("reader")

        def work():
            wire = own.wire("reader")
            while not stop.is_set():
                query(wire, READ)
            wire.close()

        worker = threading.Thread(target=work)
        worker.start()
        copy = own.scratch / "backup"
        try:
            eventually(lambda: len(own.rows("audit", "search", "--limit", "50")) >= 50, "there is a trail")
            shutil.copytree(data, copy, ignore=shutil.ignore_patterns("gateway.db*", "*.sock"))
            with contextlib.closing(sqlite3.connect(data / "gateway.db")) as store, \
                    contextlib.closing(sqlite3.connect(copy / "gateway.db")) as to:
                store.backup(to)
        finally:
            stop.set()
            worker.join()
        own.gateway.stop_only()
        # The machine is lost, with all that came after the copy.
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        done = own.cli("audit", "verify", "--no-recordings", ok=False)
        check(done.returncode == 0, done.stdout, done.stderr)
        before = len(own.cli("audit", "export", "--format", "jsonl").stdout.splitlines())
        own.gateway.start()
        check(own.token("reader") == token and query(own.wire("reader"), READ)[1] == [], "the token of before is good")
        own.cli("audit", "verify")
        check(len(own.cli("audit", "export", "--format", "jsonl").stdout.splitlines()) > before, "one chain goes on")


def test_the_unit_of_the_book_is_one(w):
    """systemd's own judgement on it, with this binary in the place of the installed one."""
    tool = shutil.which("systemd-analyze")
    if not tool:
        raise Skipped("systemd-analyze is not installed")
    page = (rig.HERE.parents[2] / "docs" / "src" / "operations.md").read_text()
    unit = page.split("```ini\n", 1)[1].split("```", 1)[0]
    check("Type=notify" in unit, unit)
    unit = unit.replace("/usr/local/bin/gateway", str(w.binary)).replace("User=gateway", "User=daemon")
    file = w.scratch / "gateway.service"
    file.write_text(unit)
    done = subprocess.run([tool, "verify", "--man=no", str(file)], capture_output=True, text=True)
    check(done.returncode == 0 and "gateway.service" not in done.stderr, done.stdout, done.stderr)


def test_an_edited_trail_is_found_out(w):
    with w.own() as own:
        wire = own.wire("writer")
        query(wire, "UPDATE tickets SET subject = 'genuine' WHERE id = 1")
        wire.close()
        own.gateway.process.send_signal(signal.SIGTERM)
        own.gateway.process.wait(20)
        check(own.cli("audit", "verify").returncode == 0)
        segment = sorted((own.gateway.dir / "data" / "audit").glob("*.jsonl"))[-1]
        whole = segment.read_bytes()
        lines = whole.splitlines(keepends=True)
        for what, broken in [("edited", whole.replace(b"genuine", b"genuinE")), ("a record gone", b"".join(lines[:1] + lines[2:])),
                             ("two swapped", b"".join([lines[1], lines[0], *lines[2:]]))]:
            segment.write_bytes(broken)
            done = own.cli("audit", "verify", ok=False)
            check(done.returncode == 1, what, done.stdout)
        segment.write_bytes(whole)
        check(own.cli("audit", "verify").returncode == 0)
    w.admin("UPDATE tickets SET subject = 'subject ' || id")


def test_the_trail_tells_everything_of_an_operation(w):
    with w.own() as own:
        wire = own.wire("reader")
        wire.exchange([rig.encode(m) for m in [{"parse": {"sql": "SELECT id FROM orders WHERE id < $1 AND status <> 'marker-text'"}},
                                               {"bind": {"params": ["31415"]}}, {"execute": {}}, "sync"]])
        query(wire, "DROP TABLE orders")
        wire.close()

        def rows():
            return own.rows("audit", "search", "--principal", PRINCIPALS["reader"][0], "--kind", "operation")

        eventually(lambda: any(r.get("rows") == 600 for r in rows()), "the outcome is in the trail")
        read = next(r for r in rows() if "marker-text" in r.get("statement", "") and "parameters" in r)
        check(read["parameters"] == ["31415"] and read["verdict"] == "allow" and read["rules"] == ["readers-read"], read)
        check(read["resource"] == "orders-db" and read["rows"] == 600, read)
        denied = own.rows("audit", "search", "--verdict", "deny")
        check(any("DROP TABLE orders" in r.get("statement", "") for r in denied), denied)
        own.refused_login("nobody")
        check(eventually(lambda: own.rows("audit", "search", "--kind", "login_refused"), "refused logins are there"))
        text = b"".join(p.read_bytes() for p in (own.gateway.dir / "data" / "audit").glob("*"))
        check(w.server.names["password"].encode() not in text and own.token("reader").encode() not in text)


def test_literals_can_be_left_out(w):
    with w.own(sections="[audit]\nliterals = false\n") as own:
        wire = own.wire("reader")
        query(wire, "SELECT id FROM orders WHERE note = 'private-literal' AND id < 271828")
        wire.exchange([rig.encode(m) for m in [{"parse": {"sql": "SELECT id FROM orders WHERE note = $1"}},
                                               {"bind": {"params": ["private-parameter"]}}, {"execute": {}}, "sync"]])
        query(wire, "DELETE FROM orders WHERE note = 'private-denied' AND 'private' = 'private'")
        query(wire, "SELEC 'private-broken'")
        wire.close()
        own.gateway.process.send_signal(signal.SIGTERM)
        own.gateway.process.wait(20)
        text = b"".join(p.read_bytes() for p in (own.gateway.dir / "data" / "audit").glob("*"))
        check(b"SELECT id FROM orders" in text, "the statements are there")
        for hidden in [b"private-literal", b"private-parameter", b"271828", b"private-denied", b"private-broken"]:
            check(hidden not in text, hidden)


def test_an_audit_trail_that_cannot_be_written_stops_everything(w):
    if os.geteuid() != 0:
        raise Skipped("only root can mount a file system of its own to fill")
    with w.own(start=False) as own:
        trail = pathlib.Path(own.gateway.dir) / "data" / "audit"
        trail.mkdir(parents=True, mode=0o700)
        os.chmod(trail.parent, 0o700)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", trail]).returncode:
            raise Skipped("nothing can be mounted here")
        try:
            own.gateway.start()
            wire = own.wire("writer", seconds=60)
            own.token("reader")  # made while tokens can be made
            update = "UPDATE tickets SET subject = 'audited' WHERE id = 1"
            check(query(wire, update)[1] == [])
            filler = os.open(trail / "filler", os.O_WRONLY | os.O_CREAT)
            try:
                while True:
                    os.write(filler, b"x" * 4096)
            except OSError:
                os.close(filler)
            long = f"UPDATE tickets SET subject = 'unaudited' WHERE id = 1 -- {'x' * 20000}"
            eventually(lambda: query(wire, long)[1] == ["42501"], "statements are refused")
            check(json.loads(wire.errors[0]["D"])["code"] == "denied", wire.errors)
            w.admin("UPDATE tickets SET subject = 'before' WHERE id = 1")
            for sql in [long, update, READ.replace("orders", "tickets") + " -- " + "y" * 20000]:
                check(query(wire, sql)[1] == ["42501"], sql[:60])
            check(w.admin("SELECT subject FROM tickets WHERE id = 1") == ["before"], "a statement ran unaudited")
            own.refused_login("reader")
            (trail / "filler").unlink()
            eventually(lambda: query(wire, update)[1] == [], "statements run again once there is space", 15)
            wire.close()
            check(own.cli("audit", "verify").returncode == 0)
        finally:
            own.gateway.stop()
            own.gateway.log = open(os.devnull, "wb")  # stop() closes it once more
            subprocess.run(["umount", "-l", trail], check=True)
            w.admin("UPDATE tickets SET subject = 'subject ' || id")


def test_a_statement_over_the_limit_is_refused_and_the_session_lives(w):
    wire = w.wire("reader", seconds=90)
    big = "SELECT 1 /* " + "x" * (17 << 20) + " */"
    check(query(wire, big)[1] == ["54000"], wire.errors)
    check(query(wire, "SELECT 2 AS two")[0][1] == "row 2")
    wire.errors = []
    wire.exchange([rig.encode({"parse": {"sql": big}}), rig.encode({"bind": {}}), rig.encode({"execute": {}}), rig.encode("sync")])
    check(wire.codes() == ["54000"], wire.codes())
    check(query(wire, "SELECT 3 AS three")[0][1] == "row 3")
    check(query(wire, "SELECT 4 /* " + "x" * (15 << 20) + " */")[1] == [], "below the limit it runs")
    wire.close()


def test_a_slow_reader_holds_nobody_up(w):
    slow = w.wire("reader", seconds=120)
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.outstanding += 1
    slow.send(rig.frame("Q", rig.cstr("SELECT repeat('x', 1000) FROM generate_series(1, 200000)")))
    time.sleep(1)
    memory = int(next(line.split()[1] for line in open(f"/proc/{w.gateway.process.pid}/status") if line.startswith("VmRSS")))
    check(memory < 400_000, "the gateway keeps", memory, "kB")
    started = time.monotonic()
    other = w.wire("reader")
    check(query(other, "SELECT 1")[1] == [] and time.monotonic() - started < 3)
    other.close()
    slow.close()


def test_many_sessions_at_once(w):
    failures = []

    def work(n):
        try:
            wire = w.wire("reader", seconds=60)
            for k in range(10):
                got = query(wire, f"SELECT {n * 100 + k} AS x")[0]
                if f"row {n * 100 + k}" not in got:
                    failures.append(got)
            wire.close()
        except Exception as broken:
            failures.append(broken)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(60)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not failures, failures[:3])


def fetch(own, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{own.gateway.control}{path}", timeout=5) as answer:
        return answer.status, answer.read().decode()


def test_health_and_metrics(w):
    query(w.wire("reader"), "SELECT 1")
    for path in ["/healthz", "/readyz"]:
        check(fetch(w, path)[0] == 200, path)
    status, text = fetch(w, "/metrics")
    check(status == 200 and "gateway_sessions_total" in text, text[:300])
    # What has not happened is there too, for alarms that look whether it does.
    for line in ['gateway_panics_total{protocol="postgres"} 0', "audit_write_errors_total 0", "gateway_recordings_failed_total 0",
                 'gateway_lease_failures_total{resource="orders-db"} 0']:
        check(line in text.splitlines(), line, text)


def test_the_operators_socket_is_the_operators(w):
    mode = os.stat(w.gateway.dir / "data" / "control.sock").st_mode & 0o777
    check(mode == 0o600, oct(mode))


def test_a_wrong_configuration_names_the_nearest_key(w):
    for text, needs in [("[limits]\nstatment_byte = 5\n", ["statment_byte", "statement_bytes"]), ("[listne]\nx = 1\n", ["listne", "listen"]),
                        ('[audit]\nmode = "sometimes"\n', ["audit"]), ("[limits]\nsessions = 0\n", ["limits.sessions"]), ("data_dir = \n", ["gateway.toml"])]:
        with w.own(start=False, sections=text) as own:
            done = own.cli("config", "check", ok=False)
            told = done.stdout + done.stderr
            check(done.returncode == 1 and all(n in told for n in needs), text, told)
    with w.own(start=False, resources=w.resource(protocol='"telnet"')) as own:
        done = own.cli("config", "check", ok=False)
        check(done.returncode == 1 and "telnet" in done.stdout + done.stderr and "postgres" in done.stdout + done.stderr, done)


def test_config_show_hides_secrets_and_reads_the_environment(w):
    os.environ["GATEWAY_LIMITS__SESSIONS"] = "4321"
    try:
        shown = w.cli("config", "show").stdout
    finally:
        del os.environ["GATEWAY_LIMITS__SESSIONS"]
    check("4321" in shown and "orders-db" in shown and w.server.names["password"] not in shown, shown)


def test_policy_explain_names_the_rule_or_what_is_missing(w):
    def explain(sql):
        done = w.cli("policy", "explain", "--as", "alice@corp.test", "--group", "readers", "--resource", "orders-db", sql, ok=False)
        return done.stdout + done.stderr

    check("readers-read" in explain("SELECT id FROM orders"), explain("SELECT id FROM orders"))
    for sql, needs in [("DELETE FROM tickets", "write-unbounded"), ("DROP TABLE orders", "define"), ("SELECT pg_read_file('x')", "file")]:
        check(needs in explain(sql), sql, explain(sql))


def test_policy_explain_tells_what_each_column_of_the_result_carries(w):
    def explain(sql, *more):
        return w.cli("policy", "explain", "--as", "alice@corp.test", "--group", "readers", "--resource", "orders-db",
                     "--database", w.database, *more, sql).stdout

    sql = "SELECT id, email AS x, left(email, 4) AS y, count(ssn) AS n FROM customers GROUP BY id, email"
    told = explain(sql)
    lines = dict(line.strip().split(": ", 1) for line in told.split("\nresult\n")[1].splitlines())
    check(list(lines) == ["id", "x", "y", "n"] and "tagged" not in lines["id"] and lines["n"] == "carries no value", told)
    check(lines["x"].endswith("as it is; tagged pii.email; masked (partial)"), told)
    check(lines["y"].startswith("made of ") and lines["y"].endswith("; tagged pii.email; masked (redact)"), told)
    found = json.loads(explain(sql, "--output", "json"))
    x = found["results"][1]
    check(x["name"] == "x" and "public.customers.email" in x["carries"] and x["as_is"] and x["mask"] == "partial", found)
    check("mask" not in found["results"][0] and found["verdict"] == "allow", found)
    # What is told is what a session does.
    with w.connect("reader") as c:
        row = c.execute(sql + " ORDER BY id LIMIT 1").fetchone()
        check(row[1] == "****test" and row[2] == "[redacted]" and row[3] == 1, row)
    check("result" not in explain("UPDATE orders SET status = 'x' WHERE id = 1"), "a statement without a result")


def test_policy_test_runs_expectations(w):
    tests = w.scratch / "expect.yaml"
    text = """
principals:
  alice: { groups: [readers], kind: human }
tests:
  - { name: reads, as: alice, resource: orders-db, statement: "SELECT total FROM orders", expect: allow, rule: readers-read }
  - { name: drops, as: alice, resource: orders-db, statement: "DROP TABLE orders", expect: %s }
"""
    tests.write_text(text % "deny")
    check("2 passed, 0 failed" in w.cli("policy", "test", str(tests)).stdout)
    tests.write_text(text % "allow")
    done = w.cli("policy", "test", str(tests), ok=False)
    check(done.returncode == 1 and "1 failed" in done.stdout, done)


def test_wrong_usage_is_two_and_refused_is_one(w):
    check(w.cli("no-such-command", ok=False).returncode == 2)
    check(w.cli("sessions", "show", "00000000-0000-0000-0000-000000000000", ok=False).returncode == 1)


def test_a_second_gateway_on_the_same_data_is_refused(w):
    with w.own() as own:
        second = subprocess.run([own.gateway.binary, "serve", "--config", str(own.gateway.config)], capture_output=True, text=True,
                                timeout=20)
        check(second.returncode == 1 and second.stderr + second.stdout, second)
        check(own.psql("reader", "-c", "SELECT 1").returncode == 0)


def test_tokens_are_made_before_the_gateway_runs(w):
    with w.own(start=False) as own:
        token = own.token("reader", fresh=True)
        own.gateway.start()
        own.wire("reader", password=token).close()


def test_a_tagged_column_is_masked_for_whoever_may_not_unmask_it(w):
    wire = w.wire("reader")
    for sql in ["SELECT email FROM customers WHERE id = 1", "SELECT * FROM customers WHERE id = 1"]:
        lines, codes = query(wire, sql)
        check(codes == [] and "heron" not in "\n".join(lines) and "****test" in "\n".join(lines), sql, lines)
    check(query(wire, "SELECT id, name FROM customers WHERE id = 1")[1] == [])
    wire.close()
    unmask = {**POLICIES, "unmask": '@id("sees-mail") permit (principal, action == Action::"unmask", resource == Tag::"pii.email");'}
    with w.own(policies=unmask) as own:
        wire = own.wire("reader")
        check("u001.heron@mailfort.test" in "\n".join(query(wire, "SELECT email FROM customers WHERE id = 1")[0]))
        lines, codes = query(wire, "SELECT ssn FROM customers WHERE id = 1")
        check(codes == [] and "[redacted]" in "\n".join(lines), lines)
        wire.close()
