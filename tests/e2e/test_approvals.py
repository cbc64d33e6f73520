"""Operations that are held until people decide: in-band, over the CLI and the API, and across crashes."""
import contextlib, json, signal, subprocess, time, urllib.error, urllib.request

import rig
from harness import check, eventually

POLICIES = {"all": """
@id("connect") permit (principal, action == Action::"connect", resource);
@id("sleep") permit (principal in Group::"writers", action == Action::"call", resource == Function::"orders-db/pg_catalog.pg_sleep");
@id("read") permit (principal in Group::"writers", action in [Action::"read", Action::"temp"], resource in Resource::"orders-db");
@id("held") @approve("dba") @expires("5m") @wait("25s")
permit (principal in Group::"writers", action == Action::"write", resource == Table::"orders-db/public.orders");
@id("short-window") @approve("dba") @wait("1s")
permit (principal in Group::"writers", action == Action::"write", resource == Table::"orders-db/public.products");
@id("short-life") @approve("dba") @expires("2s") @wait("25s")
permit (principal in Group::"writers", action == Action::"write", resource == Table::"orders-db/public.samples");
@id("two-people") @approve("dba") @approvers("2") @wait("25s")
permit (principal in Group::"writers", action == Action::"write", resource == Table::"orders-db/public.tickets");
@id("payments-dba") @approve("dba") @wait("25s")
permit (principal in Group::"writers", action == Action::"write", resource == Table::"orders-db/public.payments");
@id("payments-security") @approve("security") @wait("25s")
permit (principal in Group::"writers", action == Action::"write", resource == Table::"orders-db/public.payments");
@id("with-reason") @approve("dba") @reason("required") @wait("25s")
permit (principal in Group::"writers", action == Action::"write", resource == Table::"orders-db/public.orders_log");
"""}

PEOPLE = {
    "wanda": ("wanda@corp.test", ["writers"], None), "lena": ("lena@corp.test", ["writers", "dba"], None),
    "dana": ("dana@corp.test", ["dba"], None), "dirk": ("dirk@corp.test", ["dba"], None),
    "sid": ("sid@corp.test", ["security"], None), "both": ("bea@corp.test", ["dba", "security"], None),
    "nick": ("nick@corp.test", [], None), "bot": ("bot-1", ["writers"], "dana@corp.test"),
    # The same person as lena, from elsewhere.
    "LENA": ("Lena@Corp.test", ["dba"], None),
}


class Office:
    """A gateway with held writes, and the people of the tests."""

    def __init__(self, w):
        self.w, self.tokens = w, {}

    def token(self, who, ttl="1h", fresh=False):
        if fresh or who not in self.tokens:
            subject, groups, behalf = PEOPLE[who]
            token = self.w.gateway.token(subject, "agent" if behalf else "human", groups, behalf, ttl)
            if fresh:
                return token
            self.tokens[who] = token
        return self.tokens[who]

    def wire(self, who, seconds=40, **startup):
        wire = rig.Wire(self.w.port, seconds)
        return wire.login(f"{who}@orders-db", self.token(who), self.w.database, startup)

    def cli(self, *argv, who=None, token=None):
        return self.w.gateway.cli("approvals", *argv, token=token or (who and self.token(who)))

    def decide(self, verb, approval, who, *more, ok=True, token=None):
        done = self.cli(verb, approval, *more, who=who, token=token)
        check((done.returncode == 0) == ok, verb, who, done.returncode, done.stdout, done.stderr)
        return done.stderr

    def state(self, approval):
        done = self.w.gateway.cli("approvals", "show", approval, "--output", "json")
        check(done.returncode == 0, done)
        return json.loads(done.stdout)

    def trail(self, approval):
        rows = json.loads(self.w.gateway.cli("audit", "search", "--kind", "approval", "--limit", "10000",
                                             "--output", "json").stdout)
        return [r["detail"].split()[1].rstrip(",:") for r in rows if r["detail"].startswith(approval)]

    def value(self, sql):
        return self.w.admin(sql)[0]


@contextlib.contextmanager
def office(w, sections=""):
    with w.own(policies=POLICIES, sections=sections) as own:
        try:
            yield Office(own)
        finally:
            w.admin("UPDATE orders SET status = 'open', note = 'order no ' || id WHERE id <= 20")
            w.admin("DELETE FROM orders_log")


def send(wire, sql, params=None):
    """Sends a statement; the id of the approval that it waits for."""
    wire.held, wire.errors = None, []
    if params is None:
        wire.exchange([rig.frame("Q", rig.cstr(sql))])
    else:
        wire.exchange([rig.encode(m) for m in ({"parse": {"sql": sql}}, {"bind": {"params": params}}, {"execute": {}}, "sync")])
    check(wire.held, "not held:", wire.errors, wire.lines[-3:])
    check(wire.held["code"] == "approval_pending" and wire.held["retry"], wire.held)
    return wire.held["approval"]["id"]


def finish(wire):
    """Waits for the end of what was held: the SQLSTATEs of its errors."""
    wire.held, wire.errors = None, []
    wire.until_ready()
    return wire.codes()


def last_decision(wire):
    return rig.decision(wire.errors[-1])


UPDATE = "UPDATE orders SET status = '{}' WHERE id = {}"


def test_held_approved_by_another_and_run_once(w):
    with office(w) as o:
        wire = o.wire("lena", options="-c gateway.reason=INC-7")
        approval = send(wire, UPDATE.format("held", 1))
        told = wire.notices[-1]
        check(told["S"] == "NOTICE" and "dba" in wire.held["hint"], told)
        check(wire.held["approval"]["url"].endswith("/a/" + approval), wire.held)
        # Whoever asked does not decide, nor does the same person from another issuer, nor who is no member.
        check("another person" in o.decide("approve", approval, "lena", ok=False))
        check("another person" in o.decide("approve", approval, "LENA", ok=False))
        check("dba" in o.decide("approve", approval, "nick", ok=False))
        check("token" in o.decide("approve", approval, None, ok=False))
        check(o.value("SELECT status FROM orders WHERE id = 1") != "held")
        shown = o.state(approval)
        check(shown["state"] == "open" and shown["statement"] == UPDATE.format("held", 1), shown)
        check(shown["reason"] == "INC-7" and shown["principal"] == "lena@corp.test", shown)
        o.decide("approve", approval, "dana", "--reason", "looks right")
        check(finish(wire) == [], wire.errors)
        check(o.value("SELECT status FROM orders WHERE id = 1") == "held")
        shown = o.state(approval)
        check(shown["state"] == "used" and shown["decisions"][0]["by"] == "dana@corp.test", shown)
        # Once is once.
        check("used already" in o.decide("approve", approval, "dirk", ok=False))
        check(send(wire, UPDATE.format("held", 1)) != approval, "used twice")
        check(o.trail(approval) == ["opened", "approved", "used"], o.trail(approval))
        check(o.w.gateway.cli("audit", "verify").returncode == 0)


def test_denied_and_the_session_lives(w):
    with office(w) as o:
        wire = o.wire("wanda")
        approval = send(wire, UPDATE.format("denied", 2))
        o.decide("deny", approval, "dana", "--reason", "not on a Friday")
        check(finish(wire) == ["42501"], wire.errors)
        decision = last_decision(wire)
        check(decision["code"] == "approval_refused" and "not on a Friday" in decision["hint"], decision)
        wire.query("SELECT 1")
        check(o.value("SELECT status FROM orders WHERE id = 2") != "denied")
        check(o.trail(approval) == ["opened", "denied"], o.trail(approval))


def test_a_retry_attaches_from_another_connection_and_other_parameters_do_not(w):
    with office(w) as o:
        sql = "UPDATE orders SET status = $1 WHERE id = $2"
        first = o.wire("wanda")
        approval = send(first, sql, ["ext", "3"])
        first.close()
        eventually(lambda: not [s for s in json.loads(o.w.gateway.cli("sessions", "list", "--live", "--output", "json").stdout)],
                   "the session ends with its client")
        check(o.state(approval)["state"] == "open", "a disconnect cancels nothing")
        other = o.wire("wanda")
        check(send(other, sql, ["ext", "4"]) != approval, "other parameters attached")
        binary = o.wire("wanda")
        check(send(binary, sql, [{"hex": "657874"}, "3"]) != approval, "another format attached")
        simple = o.wire("wanda")
        check(send(simple, UPDATE.format("ext", 3)) != approval, "another text attached")
        moved = o.wire("wanda", options="-c search_path=public,hr")
        check(send(moved, sql, ["ext", "3"]) != approval, "another search path attached")
        agent = o.wire("bot")
        check(send(agent, sql, ["ext", "3"]) != approval, "another principal attached")
        again = o.wire("wanda")
        check(send(again, sql, ["ext", "3"]) == approval, "a retry did not attach")
        again.close()
        # Approved while nobody waits: nothing runs until somebody comes back.
        o.decide("approve", approval, "dana")
        time.sleep(1.5)
        check(o.value("SELECT status FROM orders WHERE id = 3") != "ext", "it ran without a client")
        back = o.wire("wanda")
        back.exchange([rig.encode(m) for m in ({"parse": {"sql": sql}}, {"bind": {"params": ["ext", "3"]}}, {"execute": {}}, "sync")])
        check(back.held is None and not back.errors and "done UPDATE 1" in back.lines, back.lines, back.errors)
        check(o.value("SELECT status FROM orders WHERE id = 3") == "ext")


def test_on_whose_behalf_it_is_asked_does_not_approve(w):
    with office(w) as o:
        wire = o.wire("bot")
        approval = send(wire, UPDATE.format("bot", 5))
        check(o.state(approval)["on_behalf_of"] == "dana@corp.test")
        check("another person" in o.decide("approve", approval, "dana", ok=False))
        o.decide("approve", approval, "dirk")
        check(finish(wire) == [])


def test_two_waiters_one_runs_and_the_other_is_held_afresh(w):
    with office(w) as o:
        sql = "UPDATE orders SET note = note || '+' WHERE id = 6"
        one, two = o.wire("wanda"), o.wire("wanda")
        approval = send(one, sql)
        check(send(two, sql) == approval)
        o.decide("approve", approval, "dana")
        for wire in (one, two):
            wire.held, wire.errors = None, []
            wire.until_ready()
        held = [wire.held for wire in (one, two) if wire.held]
        check(len(held) == 1 and held[0]["approval"]["id"] != approval, held)
        check(o.value("SELECT note FROM orders WHERE id = 6") == "order no 6+")
        o.decide("approve", held[0]["approval"]["id"], "dana")
        check(finish(one if one.outstanding else two) == [])
        check(o.value("SELECT note FROM orders WHERE id = 6") == "order no 6++")


def test_the_window_is_over_and_the_approval_stays(w):
    with office(w) as o:
        wire = o.wire("wanda")
        sql = "UPDATE products SET stock = stock WHERE id = 150"  # the last row stays the last
        started = time.monotonic()
        approval = send(wire, sql)
        check(finish(wire) == ["PA001"], wire.errors)
        check(0.8 < time.monotonic() - started < 5, time.monotonic() - started)
        decision = last_decision(wire)
        check(decision["code"] == "approval_pending" and decision["approval"]["id"] == approval, decision)
        check(o.state(approval)["state"] == "open")
        o.decide("approve", approval, "dana")
        wire.query(sql)
        check(o.state(approval)["state"] == "used")


def test_expiry_is_told_as_such(w):
    with office(w) as o:
        wire = o.wire("wanda")
        approval = send(wire, "UPDATE samples SET n = n WHERE id = 1")
        check(finish(wire) == ["42501"] and last_decision(wire)["code"] == "approval_expired", wire.errors)
        check(o.state(approval)["state"] == "expired")
        check("expired" in o.decide("approve", approval, "dana", ok=False))
        eventually(lambda: o.trail(approval) == ["opened", "expired"], "the trail has it")
        # One that was approved and not used is over at the same deadline.
        approval = send(wire, "UPDATE samples SET n = n + 0 WHERE id = 1")
        wire.close()
        o.decide("approve", approval, "dana")
        time.sleep(2.2)
        check(send(o.wire("wanda"), "UPDATE samples SET n = n + 0 WHERE id = 1") != approval, "it outlived its deadline")


def test_ctrl_c_gives_up_the_wait(w):
    with office(w) as o:
        env = {"PGUSER": "wanda@orders-db", "PGPASSWORD": o.token("wanda"), "PGPORT": str(o.w.port)}
        psql = subprocess.Popen(["psql", "-X", "-v", "VERBOSITY=verbose", "-c", UPDATE.format("ctrl-c", 7)],
                                env={**w.env("reader"), **env}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        rows = eventually(lambda: [r for r in o.w.gateway.approvals(o.token("dana"))], "it is held")
        check(rows[0]["group"] == ["dba"] and rows[0]["operation"].startswith("write public.orders"), rows)
        check({"id", "state", "principal", "resource", "operation", "group", "expires"} <= set(rows[0]), rows)
        time.sleep(0.3)
        psql.send_signal(signal.SIGINT)
        _, err = psql.communicate(timeout=10)
        check("57014" in err and rows[0]["id"] in err, err)
        check(o.state(rows[0]["id"])["state"] == "open", "the approval is gone")
        check(o.value("SELECT status FROM orders WHERE id = 7") != "ctrl-c")


def test_a_gateway_that_is_killed_while_it_holds(w):
    with office(w) as o:
        wire = o.wire("wanda")
        approval = send(wire, UPDATE.format("killed", 8))
        o.w.kill()
        o.w.gateway.start()
        check(o.value("SELECT status FROM orders WHERE id = 8") != "killed")
        check(o.state(approval)["state"] == "open", "it did not outlive the gateway")
        back = o.wire("wanda")
        check(send(back, UPDATE.format("killed", 8)) == approval, "the retry did not attach")
        o.decide("approve", approval, "dana")
        check(finish(back) == [])
        check(o.value("SELECT status FROM orders WHERE id = 8") == "killed")
        check(o.w.gateway.cli("audit", "verify").returncode == 0)


def test_two_people_and_two_groups(w):
    with office(w) as o:
        wire = o.wire("lena")
        approval = send(wire, "UPDATE tickets SET subject = subject WHERE id = 1")
        check("others" in o.decide("approve", approval, "dana"))
        check("already" in o.decide("approve", approval, "dana", ok=False))
        check("another person" in o.decide("approve", approval, "lena", ok=False))
        o.decide("approve", approval, "dirk")
        check(finish(wire) == [])
        approval = send(wire, "UPDATE payments SET amount = amount WHERE id = 1")
        o.decide("approve", approval, "both")
        check(o.state(approval)["state"] == "open", "one person stood for two groups")
        o.decide("approve", approval, "sid")
        check(finish(wire) == [])


def test_what_is_asked_needs_a_reason(w):
    with office(w) as o:
        wire = o.wire("wanda")
        wire.exchange([rig.frame("Q", rig.cstr("UPDATE orders_log SET was = was WHERE id = 1"))])
        check(wire.codes() == ["42501"] and "gateway.reason" in last_decision(wire)["hint"], wire.errors)
        told = o.wire("wanda", options="-c gateway.reason=monthly\\ clean-up")
        approval = send(told, "UPDATE orders_log SET was = was WHERE id = 1")
        check(o.state(approval)["reason"] == "monthly clean-up", o.state(approval))
        named = o.wire("wanda", **{"gateway.reason": "by its name"})
        check(send(named, "UPDATE orders_log SET was = was WHERE id = 2"))


def test_an_approver_whose_token_was_revoked_counts_no_more(w):
    with office(w) as o:
        wire = o.wire("wanda")
        approval = send(wire, UPDATE.format("revoked", 9))
        wire.close()
        token = o.token("dana", fresh=True)
        o.decide("approve", approval, "dana", token=token)
        listed = json.loads(o.w.gateway.cli("token", "list", "--output", "json").stdout)
        newest = next(t["id"] for t in listed if t["subject"] == "dana@corp.test")
        check(o.w.gateway.cli("token", "revoke", newest).returncode == 0)
        time.sleep(1.2)  # for so long an earlier answer may be remembered
        back = o.wire("wanda")
        check(send(back, UPDATE.format("revoked", 9)) != approval, "it ran on the word of nobody")
        check(o.state(approval)["state"] == "expired" and o.state(approval)["note"], o.state(approval))


def test_other_policies_hold_it_anew(w):
    with office(w) as o:
        wire = o.wire("wanda")
        approval = send(wire, UPDATE.format("reload", 10))
        file = o.w.gateway.dir / "policies" / "all.cedar"
        file.write_text(file.read_text() + '\n@id("more") permit (principal in Group::"other", action == Action::"connect", resource);\n')
        o.w.hang_up()
        wire.held, wire.errors = None, []
        wire.until_ready()
        check(wire.held and wire.held["approval"]["id"] != approval, "it waits for an approval that can't be used", wire.errors)
        check("other policies" in o.decide("approve", approval, "dana", ok=False))
        o.decide("approve", wire.held["approval"]["id"], "dana")
        check(finish(wire) == [])


def test_what_it_means_is_looked_at_again(w):
    with office(w) as o:
        w.admin("CREATE VIEW public.held_view AS SELECT id, status FROM public.orders")
        try:
            wire = o.wire("wanda")
            wire.exchange([rig.frame("Q", rig.cstr("UPDATE orders SET status = 'x' WHERE id = 11 AND EXISTS (SELECT 1 FROM held_view)"))])
            check(wire.held, wire.errors)
            approval = wire.held["approval"]["id"]
            w.admin("CREATE OR REPLACE VIEW public.held_view AS SELECT id, name AS status FROM hr.employees")
            time.sleep(3)
            o.decide("approve", approval, "dana")
            wire.held, wire.errors = None, []
            wire.until_ready()
            # Another table is read now: it is another operation.
            check(wire.held and wire.held["approval"]["id"] != approval or wire.codes() == ["42501"], wire.errors, wire.lines[-3:])
            check(o.value("SELECT status FROM orders WHERE id = 11") != "x")
        finally:
            w.admin("DROP VIEW public.held_view")


def test_transactions_pipelines_and_copy_wait_in_order(w):
    with office(w) as o:
        wire = o.wire("wanda")
        wire.query("BEGIN")
        approval = send(wire, UPDATE.format("in-tx", 12))
        o.decide("approve", approval, "dana")
        check(finish(wire) == [] and wire.status == "T", wire.status)
        wire.query("COMMIT")
        check(o.value("SELECT status FROM orders WHERE id = 12") == "in-tx")
        # What follows in a pipeline waits; what came before has its answer.
        pipeline = [{"parse": {"sql": "SELECT 'first'"}}, {"bind": {}}, {"execute": {}},
                    {"parse": {"sql": "UPDATE orders SET status = 'pipe' WHERE id = 13"}}, {"bind": {}}, {"execute": {}},
                    {"parse": {"sql": "SELECT 'last'"}}, {"bind": {}}, {"execute": {}}, "sync"]
        start = len(wire.lines)
        wire.exchange([rig.encode(m) for m in pipeline])
        check(wire.held and "row last" not in wire.lines[start:], wire.lines[start:])
        o.decide("approve", wire.held["approval"]["id"], "dana")
        check(finish(wire) == [])
        rows = [line for line in wire.lines[start:] if line[:3] in ("row", "don")]
        check(rows == ["row first", "done SELECT 1", "done UPDATE 1", "row last", "done SELECT 1"], rows)
        # Where one before it fails, what is held is void, and nobody waits for it.
        started = time.monotonic()
        wire.held, wire.errors = None, []
        wire.exchange([rig.encode(m) for m in (
            {"parse": {"sql": "SELECT 1 / (id - id) FROM orders, pg_sleep(0.5)"}}, {"bind": {}}, {"execute": {}},
            {"parse": {"sql": "UPDATE orders SET status = 'void' WHERE id = 13"}}, {"bind": {}}, {"execute": {}}, "sync")])
        if wire.held:
            wire.held = None
            wire.until_ready()
        check(len(wire.codes()) == 1 and time.monotonic() - started < 10, wire.errors, time.monotonic() - started)
        # COPY is held before its first byte.
        wire.held, wire.errors = None, []
        wire.exchange([rig.frame("Q", rig.cstr("COPY payments (id, order_id) FROM STDIN"))], "9001\t1\n")
        check(wire.held and "copy in" not in wire.lines, wire.lines[-3:])
        approval = wire.held["approval"]["id"]
        for who in ("dana", "sid"):
            o.decide("approve", approval, who)
        wire.held, wire.errors = None, []
        wire.until_ready("9001\t1\n")
        check(wire.codes() == [] and o.value("SELECT count(*) FROM payments WHERE id = 9001") == "1", wire.errors)
        w.admin("DELETE FROM payments WHERE id = 9001")
        # In a transaction a refusal fails it, as an error would.
        wire.query("BEGIN")
        approval = send(wire, UPDATE.format("tx-denied", 14))
        o.decide("deny", approval, "dana")
        check(finish(wire) == ["42501"] and wire.status == "E", wire.status)
        wire.query("ROLLBACK")


def test_a_prepared_name_is_shown_and_good_for_one_message(w):
    with office(w) as o:
        wire = o.wire("wanda")
        prepare = lambda wire, sql: wire.exchange([rig.encode({"parse": {"name": "p", "sql": sql}}), rig.encode("sync")])
        prepare(wire, "UPDATE orders SET status = 'p' WHERE id = 15")
        approval = send(wire, "EXECUTE p")
        (name, text), = o.state(approval)["stands_for"]
        check(name == "p" and text.strip() == "UPDATE orders SET status = 'p' WHERE id = 15", name, text)
        other = o.wire("wanda")
        prepare(other, "UPDATE orders SET status = 'evil' WHERE id = 15")
        check(send(other, "EXECUTE p") != approval, "another statement of the same name attached")
        o.decide("approve", approval, "dana")
        check(finish(wire) == [] and o.value("SELECT status FROM orders WHERE id = 15") == "p")


def test_the_api_asks_for_a_token_and_tells_nobody_else(w):
    with office(w) as o:
        approval = send(o.wire("wanda"), UPDATE.format("api", 16))
        base = f"http://127.0.0.1:{o.w.gateway.control}/api/v1/approvals"

        def ask(path, token=None, method="GET"):
            headers = {"content-type": "application/json", **({"authorization": "Bearer " + token} if token else {})}
            request = urllib.request.Request(base + path, headers=headers, method=method, data=b"{}" if method == "POST" else None)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        for path, method in [("", "GET"), ("/" + approval, "GET"), (f"/{approval}/approve", "POST"), (f"/{approval}/deny", "POST")]:
            check(ask(path, method=method)[0] == 401, path, "without a token")
            check(ask(path, "wrong", method=method)[0] == 401, path, "with a wrong one")
        check(ask("", o.token("nick")) == (200, []), "who is in no group sees")
        check(ask("/" + approval, o.token("nick"))[0] == 404)
        check(ask("/" + approval, o.token("wanda"))[0] == 200, "whoever asked may look")
        check(ask(f"/{approval}/approve", o.token("nick"), "POST")[0] == 403)
        check(ask("/apr_none/approve", o.token("dana"), "POST")[0] == 404)
        status, shown = ask(f"/{approval}/approve", o.token("dana"), "POST")
        check(status == 200 and shown["state"] == "approved", status, shown)
        check(ask(f"/{approval}/deny", o.token("dirk"), "POST")[0] == 409)


def test_open_approvals_are_bounded(w):
    with office(w, sections="[limits]\napprovals_per_principal = 2\n") as o:
        wires = [o.wire("wanda") for _ in range(3)]
        for n, wire in enumerate(wires[:2]):
            send(wire, UPDATE.format("bound", 17 + n))
        wires[2].exchange([rig.frame("Q", rig.cstr(UPDATE.format("bound", 19)))])
        check(wires[2].codes() == ["42501"] and "too many" in last_decision(wires[2])["hint"], wires[2].errors)
        check(send(o.wire("lena"), UPDATE.format("bound", 19)), "others have room")


def test_texts_do_not_steer_the_terminal(w):
    with office(w) as o:
        approval = send(o.wire("wanda"), "UPDATE orders SET note = '\x1b[2J\u202e\nevil' WHERE id = 20")
        done = o.cli("show", approval, who="dana")
        check(done.returncode == 0 and "\x1b" not in done.stdout and "\u202e" not in done.stdout, done.stdout)
        check("\\u{1b}[2J\\u{202e}" in done.stdout and "\n  | evil" in done.stdout, done.stdout)
