"""psql as people use it."""
import os, pty, re, select, signal, subprocess, time

from harness import check, direct_too, eventually


@direct_too
def test_command(w):
    done = w.psql("reader", "-c", "SELECT 1 + 1")
    check(done.returncode == 0 and done.stdout == "2\n", done)


@direct_too
def test_several_statements_in_one_command(w):
    done = w.psql("reader", "-c", "SELECT 1; SELECT count(*) FROM orders; SHOW server_encoding")
    check(done.stdout == "1\n600\nUTF8\n", done)


@direct_too
def test_describe_shows_what_it_shows_directly(w):
    for command in ["\\d", "\\d orders", "\\d+ customers", "\\d visits", "\\dt *.*", "\\df public.*", "\\dn", "\\dv", "\\dx",
                    "\\l", "\\du", "\\dT+ mood", "\\di", "\\z orders", "\\conninfo"]:
        through, direct = w.psql("reader", "-c", command), w.psql_direct("-c", command)
        check(through.returncode == 0 and not through.stderr, command, through.stderr)
        if command != "\\conninfo":
            check(through.stdout == direct.stdout, command, through.stdout[:300], direct.stdout[:300])


@direct_too
def test_copy_to_and_from(w):
    done = w.psql("reader", "-c", "\\copy (SELECT id, sku FROM products ORDER BY id) TO 'out.csv' CSV HEADER")
    check(done.returncode == 0, done)
    lines = (w.scratch / "out.csv").read_text().splitlines()
    check(lines[0] == "id,sku" and len(lines) == 151, lines[:3])
    (w.scratch / "in.csv").write_text("".join(f"{n},{n},subject {n}\n" for n in range(2000, 2500)))
    try:
        done = w.psql("writer", "-c", "\\copy tickets (id, customer_id, subject) FROM 'in.csv' CSV")
        check(done.stdout.strip() == "COPY 500", done)
        check(w.admin("SELECT count(*) FROM tickets WHERE id >= 2000") == ["500"])
    finally:
        w.admin("DELETE FROM tickets WHERE id >= 2000")


def sleeping(w):
    return w.admin("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(61)%' AND state = 'active' "
                   "AND pid <> pg_backend_pid()") != ["0"]


@direct_too
def test_ctrl_c_cancels(w):
    psql = subprocess.Popen(["psql", "-X", "-c", "SELECT pg_sleep(61)"], env=w.env("reader"), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually(lambda: sleeping(w), "the statement runs at the target")
    started = time.monotonic()
    psql.send_signal(signal.SIGINT)
    _, err = psql.communicate(timeout=20)
    check(time.monotonic() - started < 5, "the cancel took", time.monotonic() - started)
    check("canceling statement due to user request" in err, err)
    check(not sleeping(w), "it still runs at the target")


@direct_too
def test_ctrl_c_at_the_prompt_keeps_the_session(w):
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("psql", ["psql", "-X"], w.env("reader", TERM="dumb"))
    seen = b""

    def until(pattern, seconds=20):
        nonlocal seen
        end = time.monotonic() + seconds
        while not re.search(pattern, seen):
            check(time.monotonic() < end, "waited for", pattern, seen[-400:])
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536)
        seen = b""

    try:
        until(rb"orders=> ")
        os.write(terminal, b"SELECT 'pid' || pg_backend_pid() * 0;\n")
        until(rb"pid0")
        os.write(terminal, b"SELECT pg_sleep(61);\n")
        eventually(lambda: sleeping(w), "the statement runs at the target")
        os.write(terminal, b"\x03")
        until(rb"canceling statement due to user request")
        os.write(terminal, b"SELECT 'ali' || 've';\n")
        until(rb"alive")
        os.write(terminal, b"\\q\n")
    finally:
        time.sleep(0.1)
        os.kill(child, signal.SIGHUP)
        os.waitpid(child, 0)
        os.close(terminal)


def test_a_refusal_fails_the_transaction_and_rollback_ends_that(w):
    script = "\\set VERBOSITY verbose\nBEGIN;\nSELECT 'before';\nDELETE FROM tickets;\nSELECT 'inside';\nROLLBACK;\nSELECT 'after';\n"
    done = w.psql("writer", stdin=script)
    check("42501" in done.stderr and '"code":"denied"' in done.stderr.replace(" ", ""), done.stderr)
    check("25P02" in done.stderr, "the transaction must have failed:", done.stderr)
    check("before" in done.stdout and "after" in done.stdout and "inside" not in done.stdout, done.stdout)
    check(w.admin("SELECT count(*) FROM tickets") == ["5"])


def test_a_refusal_has_a_hint_and_the_session_lives(w):
    done = w.psql("reader", stdin="DROP TABLE orders_log;\nSELECT 'alive';\n")
    check("ERROR:" in done.stderr and "HINT:" in done.stderr and "DETAIL:" in done.stderr, done.stderr)
    check(done.stdout.strip() == "alive", done.stdout)


def test_tls_verify_full_with_the_gateways_ca(w):
    env = {"PGHOST": "localhost", "PGSSLMODE": "verify-full", "PGSSLROOTCERT": w.gateway.ca()}
    done = w.psql("reader", "-c", "SELECT 'over tls'", "-c", "\\conninfo", env=env)
    check(done.returncode == 0 and "over tls" in done.stdout and "SSL" in done.stdout, done)
    other = w.scratch / "other.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other", "-keyout", "/dev/null",
                    "-out", other], check=True, capture_output=True)
    done = w.psql("reader", "-c", "SELECT 1", env={**env, "PGSSLROOTCERT": str(other)})
    check(done.returncode == 2 and "certificate" in done.stderr, done)


@direct_too
def test_large_results_and_large_values(w):
    done = w.psql("reader", "-c", "SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n")
    check(done.returncode == 0 and done.stdout.count("\n") == 20000, done.stderr)
    done = w.psql("reader", "-c", "SELECT length(repeat('x', 50000000))", "-c", "SELECT repeat('y', 20000000)")
    check(len(done.stdout) > 20000000, len(done.stdout), done.stderr)
