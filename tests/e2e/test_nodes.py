"""Several gateways on one PostgreSQL store: what is held on one is decided on another, and one of them may be lost."""
import contextlib, json, os, shutil, signal, time, urllib.error, urllib.request

import rig
from harness import check, ending, eventually, query
from test_access import READ, Desk, codes
from test_approvals import PEOPLE, POLICIES, UPDATE, Office, finish, send

PASSWORD = "store-Heron-2210"
DEAD = 15  # documented: without a heartbeat for so long a gateway is gone


PEOPLE["admin"] = ("wes@corp.test", ["admins"], None)
POLICIES = dict(POLICIES, admins="""
@id("admins") permit (principal in Group::"admins", action in [Action::"session-view", Action::"session-kill"], resource);
@id("extra") @approve("dba") permit (principal == ?principal, action == Action::"read", resource in ?resource);
""")


class Pair:
    """Two gateways, and the server that keeps what they share."""

    def __init__(self, store, a, b):
        self.store, self.a, self.b = store, a, b
        self.b.tokens = self.a.tokens  # made on one, good on the other

    def sessions(self, office, *more):
        done = office.w.gateway.cli("sessions", "list", *more, "--output", "json")
        check(done.returncode == 0, done.stderr)
        return json.loads(done.stdout)

    def running(self, office):
        return {s["id"]: s for s in self.sessions(office, "--live")}

    def session_on(self, office):
        """The id of a session that runs on that gateway, if one does."""
        name = (office.w.gateway.dir / "data" / "node.id").read_text()
        return next((id for id, s in self.running(office).items() if s.get("node") == name), None)


def reset(w):
    w.admin("UPDATE orders SET status = 'open', note = 'order no ' || id WHERE id <= 20")
    w.admin("DELETE FROM orders_log")


def lend_keys(own, other):
    """What an operator copies to each further gateway."""
    data = other.gateway.dir / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    for name in ("mask.key", "scram.key"):
        shutil.copy(own.gateway.dir / "data" / name, data / name)


@contextlib.contextmanager
def pair(w):
    store = rig.Server(w.suite)
    try:
        store.cluster()
        store.admin("postgres", [f"CREATE ROLE gw LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE store OWNER gw"])
        url = f'[store]\nurl = "postgres://gw:{PASSWORD}@127.0.0.1:{store.port}/store"\n'
        with w.own(start=False, policies=POLICIES, sections=url) as a, \
                w.own(start=False, policies=POLICIES, sections=url) as b:
            a.gateway.start()
            lend_keys(a, b)
            b.gateway.start()
            both = Pair(store, Office(a), Office(b))
            try:
                yield both
            finally:
                reset(w)
            for office in (both.a, both.b):
                check(PASSWORD not in office.w.log(), "the store's password is in the log")
                shown = office.w.gateway.cli("config", "show").stdout
                check(PASSWORD not in shown and "postgres://gw:(hidden)@" in shown, shown)
                check(office.w.gateway.cli("audit", "verify").returncode == 0)
    finally:
        store.stop()


def drain(wire):
    """Waits for the end of what waits, however often it is held afresh: the SQLSTATEs of its errors."""
    while wire.outstanding and not wire.closed:
        wire.held = None
        wire.until_ready()
    return wire.codes()


def held_afresh(*wires):
    """Each either ended or is held again: the decisions of those that are held."""
    for wire in wires:
        wire.held, wire.errors = None, []
        wire.until_ready()
    return [wire.held for wire in wires if wire.held]


def test_decided_on_one_what_waits_on_the_other(w):
    with pair(w) as p:
        wire = p.a.wire("wanda")
        approval = send(wire, UPDATE.format("nodes", 1))
        check(p.b.state(approval)["state"] == "open")
        started = time.monotonic()
        p.b.decide("approve", approval, "dana")
        check(finish(wire) == [], wire.errors)
        print(f"     woken after {time.monotonic() - started:.2f} s, the command included")
        check(w.admin("SELECT status FROM orders WHERE id = 1")[0] == "nodes")
        check(p.a.state(approval)["state"] == p.b.state(approval)["state"] == "used")
        # Each trail has what was done on its gateway.
        check(p.a.trail(approval) == ["opened", "used"] and p.b.trail(approval) == ["approved"],
              p.a.trail(approval), p.b.trail(approval))
        denied = send(wire, UPDATE.format("denied", 2))
        p.b.decide("deny", denied, "dana", "--reason", "no")
        check(finish(wire) == ["42501"] and "no" in rig.decision(wire.errors[-1])["hint"], wire.errors)


def test_a_retry_on_another_gateway_attaches_and_one_runs(w):
    with pair(w) as p:
        sql = "UPDATE orders SET note = note || '+' WHERE id = 6"
        one, two = p.a.wire("wanda"), p.b.wire("wanda")
        approval = send(one, sql)
        check(send(two, sql) == approval, "the retry on another gateway did not attach")
        p.b.decide("approve", approval, "dana")
        fresh = held_afresh(one, two)
        check(len(fresh) == 1 and fresh[0]["approval"]["id"] != approval, fresh)
        check(w.admin("SELECT note FROM orders WHERE id = 6")[0] == "order no 6+")
        p.a.decide("approve", fresh[0]["approval"]["id"], "dana")
        check(drain(one) == drain(two) == [], one.errors, two.errors)
        check(w.admin("SELECT note FROM orders WHERE id = 6")[0] == "order no 6++")


def test_many_copies_on_two_gateways_and_as_many_runs_as_approvals(w):
    with pair(w) as p:
        sql = "UPDATE orders SET note = note || '*' WHERE id = 7"
        wires = [(p.a if n % 2 else p.b).wire("wanda", seconds=90) for n in range(8)]
        approvals = {send(wire, sql) for wire in wires}
        check(len(approvals) == 1, approvals)
        for round in range(len(wires)):
            office = (p.a, p.b)[round % 2]
            rows = eventually(lambda: office.w.gateway.approvals(office.token("dana")), "the others are held afresh", 20)
            check(len(rows) == 1, "one operation has two open approvals", rows)
            office.decide("approve", rows[0]["id"], "dana")
            eventually(lambda: w.admin("SELECT note FROM orders WHERE id = 7")[0].count("*") == round + 1,
                       f"run {round + 1}", 20)
            time.sleep(0.2)
            check(w.admin("SELECT note FROM orders WHERE id = 7")[0].count("*") == round + 1, "one approval, two runs")
        check(all(drain(wire) == [] for wire in wires), [wire.errors for wire in wires])


def test_a_lost_notification_is_made_up_for(w):
    with pair(w) as p:
        # Nobody can tell anybody anything.
        p.store.admin("store", "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC")
        wire = p.a.wire("wanda")
        approval = send(wire, UPDATE.format("looked", 3))
        p.b.decide("approve", approval, "dana")
        started = time.monotonic()
        check(finish(wire) == [], wire.errors)
        check(time.monotonic() - started < 5, time.monotonic() - started)
        other = p.b.wire("wanda")
        target = eventually(lambda: p.session_on(p.b), "it is listed")
        check(p.a.w.gateway.cli("sessions", "kill", target).returncode == 0)
        check(ending(other, 8) == "57P01")


def test_a_gateway_is_killed_while_it_holds_and_both_start_again(w):
    with pair(w) as p:
        wire = p.a.wire("wanda")
        approval = send(wire, UPDATE.format("killed", 8))
        p.a.w.kill()
        check(p.b.state(approval)["state"] == "open", "it did not outlive its gateway")
        p.b.w.kill()
        p.a.w.gateway.start()
        p.b.w.gateway.start()
        check(w.admin("SELECT status FROM orders WHERE id = 8")[0] != "killed", "it ran")
        back = p.b.wire("wanda")
        check(send(back, UPDATE.format("killed", 8)) == approval, "the retry did not attach")
        p.a.decide("approve", approval, "dana")
        check(finish(back) == [], back.errors)
        check(w.admin("SELECT status FROM orders WHERE id = 8")[0] == "killed")
        check(p.a.state(approval)["state"] == "used")
        # Of the session that was cut it is told so, on both.
        cut = [s for s in p.sessions(p.b) if s.get("reason") and "stopped without" in s["reason"]]
        check(len(cut) == 1, p.sessions(p.b))


def test_sessions_of_all_gateways_are_listed_and_ended_from_any(w):
    with pair(w) as p:
        on_a, on_b = p.a.wire("wanda"), p.b.wire("lena")
        for office in (p.a, p.b):
            running = eventually(lambda: len(p.running(office)) == 2 and p.running(office), "both are listed")
            check({s["principal"]["subject"] for s in running.values()} == {"wanda@corp.test", "lena@corp.test"}, running)
            check(len({s["node"] for s in running.values()}) == 2, running)
        table = p.a.w.gateway.cli("sessions", "list", "--live").stdout
        check("GATEWAY" in table.splitlines()[0], table)
        target = next(id for id, s in p.running(p.b).items() if s["principal"]["subject"] == "wanda@corp.test")
        done = p.b.w.gateway.cli("sessions", "kill", target)
        check(done.returncode == 0, done.stderr)
        check(ending(on_a, 5) == "57P01")
        check(query(on_b, "SELECT 1")[1] == [], "the wrong one was ended")
        ended = eventually(lambda: target not in p.running(p.b) and json.loads(
            p.b.w.gateway.cli("sessions", "show", target, "--output", "json").stdout), "its end is listed")
        check("killed" in ended["reason"] or "operator" in ended["reason"], ended)
        # The operators' database reaches as far.
        admin = rig.Wire(p.b.w.port, 30).login("wes@gateway", p.b.token("admin"), "gateway", None)
        waits = p.a.wire("wanda")
        there = eventually(lambda: p.session_on(p.a), "it is listed")
        lines, codes = query(admin, "SHOW SESSIONS")
        check(codes == [] and any(there in line for line in lines), lines, admin.errors)
        check(query(admin, f"KILL '{there}'")[1] == [], admin.errors)
        check(ending(waits, 5) == "57P01")
        check(query(admin, f"KILL '{target}'")[1] == ["42704"], admin.errors)
        again = p.b.w.gateway.cli("sessions", "kill", target)
        check(again.returncode != 0 and "no session" in again.stderr, again.stderr)
        # The statement of a session that waits for people ends with it.
        waits = p.a.wire("wanda")
        send(waits, UPDATE.format("killed", 4))
        target = eventually(lambda: p.session_on(p.a), "it is listed")
        check(p.b.w.gateway.cli("sessions", "kill", target).returncode == 0)
        check(ending(waits, 5) == "57P01")
        check(w.admin("SELECT status FROM orders WHERE id = 4")[0] != "killed")


def test_a_revoked_token_ends_its_sessions_on_every_gateway(w):
    with pair(w) as p:
        token = p.a.token("wanda", fresh=True)
        wire = rig.Wire(p.b.w.port, 30).login("wanda@orders-db", token, w.database, None)
        newest = next(t["id"] for t in p.a.w.rows("token", "list") if t["subject"] == "wanda@corp.test")
        check(p.a.w.gateway.cli("token", "revoke", newest).returncode == 0)
        started = time.monotonic()
        check(ending(wire, 8) in ("57P01", "28000"), wire.errors)
        check(time.monotonic() - started < 5, time.monotonic() - started)
        try:
            rig.Wire(p.b.w.port, 10).login("wanda@orders-db", token, w.database, None)
        except rig.Refused:
            return
        raise AssertionError("a revoked token still logs in")


def ready(office):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{office.w.gateway.control}/readyz", timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_store_is_away_while_statements_wait_and_comes_back(w):
    with pair(w) as p:
        sql = UPDATE.format("back", 9)
        one, two = p.a.wire("wanda", seconds=90), p.b.wire("wanda", seconds=90)
        reads = p.a.wire("wanda", seconds=90)
        approval = send(one, sql)
        check(send(two, sql) == approval)
        p.a.token("dana")
        p.store.halt()
        # Nothing is decided, nobody logs in, nothing runs; what needs no store goes on.
        told = p.a.decide("approve", approval, "dana", ok=False)
        check("cannot be verified now" in told, told)
        check(query(reads, "SELECT 1")[1] == [], reads.errors)
        try:
            p.a.wire("wanda", seconds=30)
        except rig.Refused as refused:
            check("57P03" in str(refused), refused)
        else:
            raise AssertionError("a login without the store")
        check(ready(p.a) == ready(p.b) == 503)
        reads.held, reads.errors = None, []
        reads.exchange([rig.frame("Q", rig.cstr(UPDATE.format("unheld", 10)))])
        check(reads.codes() and not reads.held, "it was held without a store", reads.lines[-3:])
        p.store.resume()
        eventually(lambda: ready(p.a) == ready(p.b) == 200, "they are ready again", 20)
        check(not {"back", "unheld"} & set(w.admin("SELECT status FROM orders WHERE id IN (9, 10)")), "it ran unapproved")
        p.b.decide("approve", approval, "dana")
        fresh = held_afresh(one, two)
        check(w.admin("SELECT status FROM orders WHERE id = 9")[0] == "back")
        p.a.decide("deny", fresh[0]["approval"]["id"], "dana")
        codes = sorted([drain(one), drain(two)])
        check(codes == [[], ["42501"]], codes)


def test_a_gateway_without_a_sign_of_life_is_gone_and_comes_back(w):
    with pair(w) as p:
        on_a, on_b = p.a.wire("wanda", seconds=120), p.b.wire("lena", seconds=120)
        a, b = (eventually(lambda: p.session_on(office), "it is listed") for office in (p.a, p.b))
        eventually(lambda: {a, b} <= set(p.running(p.b)), "both are listed")
        time.sleep(DEAD)  # who has just started strikes nobody out
        os.killpg(p.a.w.gateway.process.pid, signal.SIGSTOP)
        try:
            check(a in p.running(p.b), "counted as gone at once")
            ended = eventually(lambda: a not in p.running(p.b), "its sessions are ended in the list", DEAD + 12)
            check(ended and b in p.running(p.b), "a living gateway's session was ended")
        finally:
            os.killpg(p.a.w.gateway.process.pid, signal.SIGCONT)
        # It was only slow: its sessions run, and are listed again.
        eventually(lambda: {a, b} <= set(p.running(p.b)), "it is there again", 10)
        check(query(on_a, "SELECT 1")[1] == [] and query(on_b, "SELECT 1")[1] == [])
        # This time for good.
        p.a.w.kill()
        eventually(lambda: a not in p.running(p.b), "its sessions are ended in the list", DEAD + 12)
        shown = json.loads(p.b.w.gateway.cli("sessions", "show", a, "--output", "json").stdout)
        check("gone" in shown["reason"], shown)
        check(b in p.running(p.b))
        p.a.w.gateway.start()
        check(b in p.running(p.a) and query(on_b, "SELECT 1")[1] == [], "a start ended the session of a peer")


def test_a_gateway_with_other_keys_is_refused(w):
    with pair(w) as p:
        p.b.w.gateway.stop_only()
        (p.b.w.gateway.dir / "data" / "mask.key").write_bytes(b"x" * 32)
        try:
            p.b.w.gateway.start()
        except SystemExit as refused:
            check("mask.key" in str(refused) and "copy" in str(refused), refused)
        else:
            raise AssertionError("it runs with masks of its own")
        finally:
            lend_keys(p.a.w, p.b.w)
            p.b.w.gateway.start()


def test_access_that_is_given_and_taken_back_elsewhere(w):
    with pair(w) as p:
        a, b = Desk(p.a.w), Desk(p.b.w)
        b.tokens = a.tokens
        wire, other = a.wire("nick"), b.wire("nick")
        check(codes(wire, READ) == ["42501"] and codes(other, READ) == ["42501"])
        id = a.ask("nick", "--action", "read")
        check(b.ask("nick", "--action", "read") == id, "the same asked on another gateway is the same")
        b.decide("approve", id, "dana")
        for one in (wire, other):
            started = time.monotonic()
            eventually(lambda: codes(one, READ) == [], "in force everywhere", 5)
            print(f"     in force after {time.monotonic() - started:.2f} s")
        # A gateway that starts later knows it, too.
        p.b.w.kill()
        p.b.w.gateway.start()
        eventually(lambda: codes(b.wire("nick"), READ) == [], "in force after a restart", 5)
        # Taken back on one: what stands on it on the other ends.
        wire.send(rig.frame("Q", rig.cstr("SELECT count(*) FROM orders a, orders b, orders c, orders d, orders e, orders f")))
        time.sleep(0.5)
        b.access("revoke", id, who="dana")
        started = time.monotonic()
        check(ending(wire) == "57P01", wire.errors)
        check(time.monotonic() - started < 5, "it went on without its access")
        check(codes(a.wire("nick"), READ) == ["42501"] and codes(b.wire("nick"), READ) == ["42501"])
