"""How many rows a held statement would touch, as the target's planner guesses, for those who decide it."""
import json, time

import rig
from harness import check, eventually, query
from test_approvals import UPDATE, office, send


def shown(o, approval, who):
    done = o.w.gateway.cli("approvals", "show", approval, "--output", "json", token=o.token(who))
    check(done.returncode == 0, done.stderr)
    return json.loads(done.stdout)


def estimate(o, approval, who="dana", seconds=8):
    """What is known of it; waits until something is."""
    return eventually(lambda: shown(o, approval, who)["estimate"], "no estimate", seconds)


def stays_unknown(o, approval, seconds=4):
    time.sleep(seconds)
    check(shown(o, approval, "dana")["estimate"] is None, shown(o, approval, "dana"))


def test_approvers_see_how_many_rows_and_requesters_do_not(w):
    with office(w) as o:
        w.admin("ANALYZE orders")
        all_ = int(o.value("SELECT count(*) FROM orders"))
        wire = o.wire("lena")
        approval = send(wire, "UPDATE orders SET note = 'x' WHERE id > 0")
        rows = estimate(o, approval)
        check(all_ / 2 <= rows <= all_ * 2, rows, all_)
        # Who asked is of the group that decides, and still is not told.
        check(shown(o, approval, "lena")["estimate"] is None)
        listed = json.loads(o.cli("list", "--output", "json", who="dana").stdout)
        check([a["estimate"] for a in listed if a["id"] == approval] == [rows], listed)
        check(f"about {rows}" in o.cli("show", approval, who="dana").stdout)
        # It ran nothing, and the approval is as good as any.
        check(o.value("SELECT count(*) FROM orders WHERE note = 'x'") == "0")
        o.decide("deny", approval, "dana")
        one = send(o.wire("wanda"), UPDATE.format("one", 1))
        check(estimate(o, one) == 1)


def test_parameters_count_in_both_formats(w):
    with office(w) as o:
        w.admin("ANALYZE orders")
        sql = "UPDATE orders SET note = note WHERE id = $1"
        for parameter in ("3", {"hex": "00000004"}):
            wire = o.wire("wanda")
            wire.held = None
            wire.exchange([rig.encode(m) for m in ({"parse": {"sql": sql, "types": [23]}}, {"bind": {"params": [parameter]}},
                                                   {"execute": {}}, "sync")])
            check(wire.held, wire.errors)
            check(estimate(o, wire.held["approval"]["id"]) == 1, parameter)


def test_planning_runs_no_code_of_others(w):
    with office(w) as o:
        w.admin("CREATE FUNCTION evil_check(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE LOG 'evil was planned'; RETURN true; END $$")
        w.admin("CREATE DOMAIN evil_int AS int CHECK (evil_check(VALUE))")
        try:
            stays_unknown(o, send(o.wire("wanda"), UPDATE.format("two", 2)))
        finally:
            w.admin("DROP DOMAIN evil_int")
            w.admin("DROP FUNCTION evil_check(int)")
        # A foreign table behind another is asked at its own server, which is not bound to read only.
        w.admin("CREATE SERVER evil_files FOREIGN DATA WRAPPER file_fdw")
        w.admin("CREATE TABLE evil_parent (id int)")
        w.admin("CREATE FOREIGN TABLE evil_child () INHERITS (evil_parent) SERVER evil_files OPTIONS (filename '/dev/null')")
        try:
            stays_unknown(o, send(o.wire("wanda"), UPDATE.format("foreign", 2)))
        finally:
            w.admin("DROP SERVER evil_files CASCADE")
            w.admin("DROP TABLE evil_parent CASCADE")
        # Without it the same kind of statement is planned again.
        estimate(o, send(o.wire("wanda"), UPDATE.format("three", 3)))


def test_what_hangs_on_the_session_is_not_guessed(w):
    with office(w) as o:
        wire = o.wire("wanda")
        wire.exchange([rig.frame("Q", rig.cstr("CREATE TEMP TABLE orders_log (id int)"))])
        stays_unknown(o, send(wire, UPDATE.format("temp", 4)), 2)


def test_a_target_that_does_not_answer_holds_up_no_notice(w):
    with office(w) as o:
        wire = o.wire("wanda")
        query(wire, "SELECT id FROM orders WHERE id = 1")  # the structure is read
        lock = w.server.wire(w.database, "postgres", "superuser")
        try:
            lock.query("BEGIN")
            lock.query("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            started = time.monotonic()
            approval = send(wire, UPDATE.format("locked", 5))
            check(time.monotonic() - started < 2, "the notice waited for the estimate")
            stays_unknown(o, approval, 2)
        finally:
            lock.query("ROLLBACK")
            lock.close()
