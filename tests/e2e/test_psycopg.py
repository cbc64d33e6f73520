"""psycopg 3: cursors, pipelines, COPY, prepared statements, cancel, notifications."""
import contextlib, threading, time

import psycopg
from psycopg import errors

from harness import check, decision_of, direct_too


@direct_too
def test_server_side_cursor(w):
    with w.connect("reader", autocommit=False) as c, c.cursor(name="big", scrollable=True) as s:
        s.itersize = 50
        s.execute("SELECT id FROM orders ORDER BY id")
        check([row[0] for row in s] == list(range(1, 601)))
        s.scroll(10, mode="absolute")
        check(s.fetchone() == (11,))


@direct_too
def test_pipeline(w):
    with w.connect("reader") as c:
        with c.pipeline():
            found = [c.execute("SELECT id, sku FROM products WHERE id = %s", (n,)) for n in range(1, 60)]
        check([f.fetchone()[0] for f in found] == list(range(1, 60)))


@direct_too
def test_an_error_in_a_pipeline_is_at_its_place(w):
    with w.connect("reader") as c:
        with psycopg_raises(errors.DivisionByZero), c.pipeline() as p:
            good = c.execute("SELECT 1")
            p.sync()
            c.execute("SELECT 1/0")
            c.execute("SELECT 2")
        check(good.fetchone() == (1,))
        check(c.execute("SELECT 3").fetchone() == (3,))


def test_a_refusal_in_a_pipeline_is_at_its_place(w):
    with w.connect("writer") as c:
        with c.pipeline() as p:
            before = c.execute("SELECT 'before'")
            p.sync()
            c.execute("DELETE FROM tickets")
            # psycopg raises it as soon as it has come, by whichever call.
            with psycopg_raises(errors.InsufficientPrivilege) as seen:
                c.execute("SELECT 'skipped'")
                p.sync()
            # Where the refusal came that early, what is skipped is told by the next call, as psycopg's own error.
            with contextlib.suppress(errors.PipelineAborted):
                p.sync()
            p.sync()
            after = c.execute("SELECT 'after'")
        check(before.fetchone() == ("before",) and after.fetchone() == ("after",))
        check(decision_of(seen.error)["code"] == "denied")
        check(c.execute("SELECT 'alive'").fetchone() == ("alive",))
    check(w.admin("SELECT count(*) FROM tickets") == ["5"])


def test_a_refusal_in_a_transaction(w):
    with w.connect("writer", autocommit=False) as c:
        c.execute("SELECT 1")
        with psycopg_raises(errors.InsufficientPrivilege) as seen:
            c.execute("DELETE FROM tickets WHERE true")
        told = decision_of(seen.error)
        check("tickets" in told["operation"] and told["retry"] is False and told["correlation"], told)
        check(c.info.transaction_status == psycopg.pq.TransactionStatus.INERROR, c.info.transaction_status)
        with psycopg_raises(errors.InFailedSqlTransaction):
            c.execute("SELECT 1")
        c.rollback()
        check(c.execute("SELECT 2").fetchone() == (2,))


def test_a_refusal_in_a_savepoint_is_undone_with_it(w):
    with w.connect("writer") as c, c.transaction():
        c.execute("SELECT 1")
        with psycopg_raises(errors.InsufficientPrivilege), c.transaction():
            c.execute("DELETE FROM tickets", prepare=True)
        check(c.execute("SELECT 2").fetchone() == (2,))


def test_every_way_to_send_a_refused_statement(w):
    with w.connect("writer") as c:
        for how in [dict(), dict(prepare=True), dict(binary=True)]:
            for sql, params in [("DELETE FROM tickets", None), ("DELETE FROM tickets WHERE %s", (True,))]:
                with psycopg_raises(errors.InsufficientPrivilege) as seen:
                    c.execute(sql, params, **how)
                decision_of(seen.error)
        with psycopg_raises(errors.InsufficientPrivilege):
            c.cursor().executemany("DELETE FROM tickets WHERE %s", [(True,), (False,)])
        with psycopg_raises(errors.InsufficientPrivilege), c.cursor().copy("COPY (DELETE FROM tickets RETURNING id) TO STDOUT"):
            pass
        check(c.execute("SELECT 1").fetchone() == (1,))
    check(w.admin("SELECT count(*) FROM tickets") == ["5"])


def test_a_long_refusal_fits_its_limit(w):
    names = ", ".join(f"a_table_with_quite_a_long_name_{n}" for n in range(400))
    with w.connect("reader") as c:
        for sql in [f"DROP TABLE {names}", f"DROP TABLE \"{'é' * 30}\", orders_log"]:
            with psycopg_raises(errors.InsufficientPrivilege) as seen:
                c.execute(sql)
            decision_of(seen.error)


@direct_too
def test_copy_out(w):
    with w.connect("reader") as c, c.cursor().copy("COPY products (id, sku) TO STDOUT") as copy:
        copy.set_types(["int4", "text"])
        check(sum(1 for _ in copy.rows()) == 150)
    with w.connect("reader") as c, c.cursor().copy("COPY products (id, sku) TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        check(list(copy.rows())[0] == (1, "SKU-0001"))


@direct_too
def test_copy_in(w):
    try:
        with w.connect("writer") as c:
            with c.cursor().copy("COPY tickets (id, subject) FROM STDIN") as copy:
                for n in range(3000, 8000):
                    copy.write_row((n, f"subject {n}"))
            with psycopg_raises(errors.UniqueViolation), c.cursor().copy("COPY tickets (id) FROM STDIN") as copy:
                copy.write_row((3000,))
            with psycopg_raises(errors.QueryCanceled), c.cursor().copy("COPY tickets (id) FROM STDIN") as copy:
                copy.write_row((9000,))
                raise psycopg.errors.QueryCanceled("given up by the client")
            check(c.execute("SELECT count(id) FROM tickets WHERE id >= 3000").fetchone() == (5000,))
    finally:
        w.admin("DELETE FROM tickets WHERE id >= 3000")


def test_refused_copy_in_leaves_the_session_usable(w):
    with w.connect("reader") as c:
        with psycopg_raises(errors.InsufficientPrivilege), c.cursor().copy("COPY orders_log (id) FROM STDIN") as copy:
            copy.write_row((1,))
        check(c.execute("SELECT 1").fetchone() == (1,))
    check(w.admin("SELECT count(*) FROM orders_log") == ["0"])


@direct_too
def test_prepared_statements(w):
    with w.connect("reader", prepare_threshold=1) as c:
        for n in range(1, 20):
            check(c.execute("SELECT id FROM orders WHERE id = %s", (n,)).fetchone() == (n,))
        c.prepared_max = 2  # older ones are closed
        for n in range(1, 8):
            for _ in range(3):
                check(c.execute(f"SELECT id + {n} FROM orders WHERE id = %s", (n,)).fetchone() == (2 * n,))
        c.execute("DEALLOCATE ALL")
    with w.connect("reader", prepare_threshold=None) as c:
        check(c.execute("SELECT %s::int", (7,)).fetchone() == (7,))


@direct_too
def test_cancel(w):
    with w.connect("reader") as c:
        for cancel in ["cancel", "cancel_safe"]:
            if not hasattr(c, cancel):
                continue
            threading.Timer(0.7, getattr(c, cancel)).start()
            started = time.monotonic()
            with psycopg_raises(errors.QueryCanceled):
                c.execute("SELECT pg_sleep(30)")
            check(time.monotonic() - started < 10, cancel, time.monotonic() - started)
            check(c.execute("SELECT 1").fetchone() == (1,))


@direct_too
def test_listen_and_notify(w):
    with w.connect("reader") as listener, w.connect("reader") as speaker:
        listener.execute("LISTEN news")
        speaker.execute("NOTIFY news, 'hello'")
        got = list(listener.notifies(timeout=10, stop_after=1))
        check([(n.channel, n.payload) for n in got] == [("news", "hello")], got)


@direct_too
def test_executemany(w):
    try:
        with w.connect("writer") as c, c.cursor() as s:
            s.executemany("INSERT INTO tickets (id, subject) VALUES (%s, %s) RETURNING id",
                          [(n, f"s{n}") for n in range(3000, 3300)], returning=True)
            first = s.fetchone()
            check(first == (3000,), first)
            s.executemany("UPDATE tickets SET subject = %s WHERE id = %s", [("x", n) for n in range(3000, 3300)])
            check(s.rowcount == 300, s.rowcount)
    finally:
        w.admin("DELETE FROM tickets WHERE id >= 3000")


@direct_too
def test_binary_results_equal_those_of_the_server(w):
    sql = "SELECT id, b, i2, i4, i8, f4, f8, n, t, y, d, tm, ts, tz, iv, u, jb, ip, ia, ta, r, m FROM samples ORDER BY id"
    direct = psycopg.connect(host="127.0.0.1", port=w.server.port, user=w.server.names["login"], dbname=w.database,
                             password=w.server.names["password"])
    with w.connect("reader") as c, direct:
        for binary in [False, True]:
            got = c.cursor(binary=binary).execute(sql).fetchall()
            check(got == direct.cursor(binary=binary).execute(sql).fetchall(), got)


@direct_too
def test_two_results_in_one_execute(w):
    with w.connect("reader") as c:
        s = c.execute("SELECT 1; SELECT 2; SELECT id FROM products WHERE id < 3 ORDER BY id")
        seen = [s.fetchall()]
        while s.nextset():
            seen.append(s.fetchall())
        check(seen == [[(1,)], [(2,)], [(1,), (2,)]], seen)


class psycopg_raises:
    """The block must raise that error; it is then in `error`."""

    def __init__(self, kind):
        self.kind, self.error = kind, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            raise AssertionError(f"{self.kind.__name__} was not raised")
        self.error = error
        return isinstance(error, self.kind)
