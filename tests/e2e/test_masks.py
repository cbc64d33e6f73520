"""Masks on what comes back: in both formats, through every way in which a result is given."""
import json

from psycopg import errors

from harness import POLICIES, check, decision_of, query
from test_psycopg import psycopg_raises

SECRETS = ["heron@mailfort", "917-46-", "49291234567", "penicillin", "cedarwood", "7700 900", "kestrel@staffnet", "98765"]
ALL_TAGS = {
    **POLICIES,
    "unmask": '@id("sees-all") permit (principal in Group::"readers", action == Action::"unmask", resource);',
}


def clean(found):
    text = repr(found)
    for secret in SECRETS:
        check(secret not in text, secret, text[:300])
    return found


def shows_nothing(c, text):
    """It answers without a secret, or is refused."""
    try:
        clean(c.execute(text).fetchall())
    except errors.InsufficientPrivilege as error:
        check("denied" in str(error), error)
        clean(str(error))


def copied(c, text):
    with c.cursor().copy(text) as copy:
        return b"".join(bytes(block) for block in copy)


def test_values_are_masked_by_their_tags(w):
    with w.connect("reader") as c:
        row = c.execute("SELECT id, name, email, phone, ssn, card, notes, born FROM customers WHERE id = 1").fetchone()
        check(row[:2] == (1, "Customer 1"), row)
        check(row[2:7] == ("****test", "****0001", "[redacted]", "****0037", "[redacted]"), row)
        check(c.execute("SELECT salary, name FROM hr.employees WHERE id = 1").fetchone() == (None, "Employee 1"))
        check(c.execute("SELECT profile FROM customers WHERE id = 1").fetchone() == ("[redacted]",))


def test_binary_results_are_masked(w):
    with w.connect("reader") as c:
        with c.cursor(binary=True) as cursor:
            row = cursor.execute("SELECT id, email, aliases, contact, profile FROM customers WHERE id = %s", (1,)).fetchone()
            check(row[0] == 1 and row[1] == "****test" and row[2] == ["****test", "****test"] and row[3] is None, row)
            check(row[4] == "[redacted]", row)


def test_what_is_made_of_a_value_is_hidden_whole(w):
    with w.connect("reader") as c:
        for text in [
            "SELECT left(email, 4) FROM customers WHERE id = 1",
            "SELECT reverse(email) FROM customers WHERE id = 1",
            "SELECT a FROM (SELECT email || '!' AS a FROM customers WHERE id = 1) x",
            "SELECT label FROM contact_labels WHERE id = 1",
            "SELECT string_agg(email, ',') FROM customers",
            "SELECT (SELECT email FROM customers WHERE id = 1)",
        ]:
            check(c.execute(text).fetchone() == ("[redacted]",), text)
        for text in ["SELECT to_json(c) FROM customers c WHERE id = 1", "SELECT json_agg(c) FROM customers c"]:
            check(c.execute(text).fetchone() == ("[redacted]",), text)
        # A type without a text for it.
        for text in ["SELECT c FROM customers c WHERE id = 1", "SELECT array_agg(email) FROM customers"]:
            check(c.execute(text).fetchone() == (None,), text)


def test_counts_and_equality_tell_what_they_may(w):
    with w.connect("reader") as c:
        check(c.execute("SELECT count(email), count(DISTINCT ssn) FROM customers").fetchone() == (65, 65))
        check(c.execute("SELECT id FROM customers WHERE ssn = '917-46-0007'").fetchall() == [(7,)])
        check(c.execute("SELECT id FROM customers WHERE email = %s", ("u003.heron@mailfort.test",)).fetchall() == [(3,)])
        check(c.execute("SELECT email IS NULL, ssn = '917-46-0001' FROM customers WHERE id = 1").fetchone() == (False, True))
        check(c.execute("SELECT count(*) FROM customers JOIN payments USING (card)").fetchone()[0] > 0)


def test_what_would_tell_a_value_is_refused(w):
    with w.connect("reader") as c:
        for text in [
            "SELECT id FROM customers WHERE ssn LIKE '9%'",
            "SELECT id FROM customers WHERE substr(ssn, 1, 1) = '9'",
            "SELECT id FROM customers ORDER BY ssn",
            "SELECT max(ssn) FROM customers",
            "SELECT 1 / (ascii(ssn) - 57) FROM customers",
            "SELECT ssn::int FROM customers",
            "SELECT generate_series(1, length(email)) FROM customers WHERE id = 1",
            "SELECT k FROM (SELECT left(ssn, 8) AS k FROM customers) x WHERE k = '917-46-0'",
            "CREATE TABLE public.loot AS SELECT ssn FROM customers",
        ]:
            with psycopg_raises(errors.InsufficientPrivilege) as seen:
                c.execute(text)
            told = decision_of(seen.error)
            check(told["code"] == "denied", text, told)
        # ORDER BY another column is nobody's secret.
        check(len(clean(c.execute("SELECT email FROM customers ORDER BY id LIMIT 3").fetchall())) == 3)


def test_a_mask_belongs_to_the_statement_that_runs(w):
    """Executed without Describe, in parts, and under a name that stood for something else."""
    with w.connect("reader") as c:
        for _ in range(7):
            check(c.execute("SELECT ssn FROM customers WHERE id = %s", (5,), prepare=True).fetchone() == ("[redacted]",))
        c.execute("PREPARE p AS SELECT name FROM customers WHERE id = 1")
        check(c.execute("EXECUTE p").fetchone() == ("Customer 1",))
        c.execute("DEALLOCATE p")
        c.execute("PREPARE p AS SELECT email FROM customers WHERE id = 1")
        check(c.execute("EXECUTE p").fetchone() == ("****test",))
    with w.connect("reader", autocommit=False) as c:
        with c.cursor(name="parts") as s:
            s.itersize = 7
            s.execute("SELECT id, card FROM customers ORDER BY id")
            rows = clean(s.fetchall())
        check(len(rows) == 65 and all(card is None or card.startswith("****") for _, card in rows))
        c.execute("DECLARE b BINARY CURSOR FOR SELECT email FROM customers ORDER BY id")
        clean(c.execute("FETCH 3 FROM b").fetchall())
        c.execute("CREATE TEMP TABLE copy_of ON COMMIT DROP AS SELECT id, email AS x FROM customers")
        check(c.execute("SELECT x FROM copy_of WHERE id = 1").fetchone() == ("****test",))


def test_what_a_name_stands_for_in_one_session_is_nothing_to_another(w):
    text = "CREATE TEMP TABLE from_name AS EXECUTE q"
    with w.connect("reader") as c:
        c.execute("PREPARE q AS SELECT id, name AS x FROM customers")
        c.execute(text)
        check(c.execute("SELECT x FROM from_name WHERE id = 1").fetchone() == ("Customer 1",))
    with w.connect("reader") as c:
        c.execute("PREPARE q AS SELECT id, email AS x FROM customers")
        c.execute(text)
        clean(c.execute("SELECT x FROM from_name WHERE id = 1").fetchone())


def test_a_temporary_table_that_comes_back_keeps_its_tags(w):
    with w.connect("reader") as c:
        c.execute("CREATE TEMP TABLE kept AS SELECT id, email AS x FROM customers")
        c.execute("CREATE TEMP TABLE IF NOT EXISTS kept AS SELECT id, name AS x FROM customers")
        shows_nothing(c, "SELECT x FROM kept")
        for text in [
            "BEGIN; DROP TABLE kept; CREATE TEMP TABLE kept AS SELECT id, name AS x FROM customers; ROLLBACK",
            "BEGIN; ALTER TABLE kept RENAME TO kept2; CREATE TEMP TABLE kept AS SELECT id, name AS x FROM customers; ROLLBACK",
        ]:
            c.execute(text)
            shows_nothing(c, "SELECT x FROM kept")
        with psycopg_raises(errors.InsufficientPrivilege):
            c.execute("ALTER TABLE kept RENAME TO other; SELECT x FROM other")


def test_a_part_is_not_written_where_it_would_pass_for_a_whole_value(w):
    with w.connect("writer") as c:
        for text in [
            "UPDATE tickets SET email = left(email, 6) WHERE id = 1 RETURNING email",
            "INSERT INTO tickets (id, email) SELECT 77, substr(email, 1, 8) FROM customers WHERE id = 1",
            "INSERT INTO tickets (id, subject) SELECT 77, email FROM customers WHERE id = 1",
        ]:
            with psycopg_raises(errors.InsufficientPrivilege):
                c.execute(text)
    check(w.admin("SELECT count(*) FROM tickets WHERE email LIKE 't%.osprey@partners.test'") == ["5"])


def test_a_structure_that_has_changed_behind_the_gateway_shows_nothing(w):
    """Another session makes the table anew, with its columns in another order, just before it is read."""
    w.admin("CREATE TABLE hr.moved_employees (id int, email text, name text); INSERT INTO hr.moved_employees VALUES (1, 'm1.kestrel@staffnet.test', 'Mo'); GRANT SELECT ON hr.moved_employees TO PUBLIC")
    resources = w.resource().replace('"*.employees.email"', '"*.employees.email", "hr.moved_employees.email"')
    try:
        with w.own(resources=resources) as own, own.connect("reader") as c:
            for order in ["email text, id int, name text", "id int, name text, email text"]:
                clean(c.execute("SELECT * FROM hr.moved_employees").fetchall())
                values = {"email": "'m1.kestrel@staffnet.test'", "id": "1", "name": "'Mo'"}
                row = ", ".join(values[column.split()[0]] for column in order.split(", "))
                w.admin(f"DROP TABLE hr.moved_employees; CREATE TABLE hr.moved_employees ({order}); INSERT INTO hr.moved_employees VALUES ({row}); GRANT SELECT ON hr.moved_employees TO PUBLIC")
                for text in ["SELECT * FROM hr.moved_employees", "SELECT * FROM hr.moved_employees WHERE id = 1"]:
                    shows_nothing(c, text)
                with c.cursor().copy("COPY hr.moved_employees TO STDOUT") as copy:
                    clean(b"".join(bytes(block) for block in copy))
    finally:
        w.admin("DROP TABLE hr.moved_employees")


def test_columns_that_a_join_merges_are_not_taken_for_others(w):
    """USING and NATURAL put the merged columns first; names by place then mean others than the tables' own order."""
    with w.connect("reader") as c:
        for source in [
            "(SELECT * FROM tickets t(a, b, c, email) JOIN (SELECT email FROM tickets) q USING (email)) x(c1, c2, c3, c4)",
            "(SELECT * FROM (tickets t(a, b, c, email) NATURAL JOIN (SELECT email FROM tickets) q)) x(c1, c2, c3, c4)",
            "(SELECT j.* FROM (tickets t(a, b, c, email) JOIN (SELECT email FROM tickets) q USING (email)) j) x(c1, c2, c3, c4)",
        ]:
            for column in ["c1", "c2", "c3", "c4", "*"]:
                shows_nothing(c, f"SELECT {column} FROM {source}")
                try:
                    clean(c.execute(f"SELECT {column} FROM {source} LIMIT %s", (3,)).fetchall())
                except errors.InsufficientPrivilege as error:
                    clean(str(error))
        shows_nothing(c, "SELECT * FROM tickets JOIN orders USING (customer_id)")
        check(c.execute("SELECT 1").fetchone() == (1,), "the session lives")
        # Nothing tagged, nothing lost.
        found = c.execute("SELECT * FROM orders JOIN (SELECT id, sku FROM products) p USING (id) WHERE id = %s", (1,)).fetchone()
        check(len(found) == 7 and found[-1] == "SKU-0001", found)


def test_several_statements_have_each_their_own_masks(w):
    wire = w.wire("reader")
    lines, codes = query(
        wire,
        "SELECT id, email FROM customers WHERE id = 1; SELECT name FROM customers WHERE id = 2; SELECT ssn, id FROM customers WHERE id = 3",
    )
    text = "\n".join(clean(lines))
    check(codes == [] and "****test" in text and "Customer 2" in text and "[redacted]" in text, lines)
    wire.close()


def test_copy_to_stdout_is_masked(w):
    with w.connect("reader") as c:
        text = copied(c, "COPY customers (id, email, ssn, name, born) TO STDOUT")
        first = text.split(b"\n")[0].split(b"\t")
        check(first[:4] == [b"1", b"****test", b"[redacted]", b"Customer 1"], first)
        check(text.count(b"\n") == 60, "COPY of a table leaves out its children, as ever")
        clean(text)
        lines = clean(copied(c, "COPY (SELECT id, email, ssn FROM customers WHERE id < 3 ORDER BY id) TO STDOUT (FORMAT csv, HEADER)")).split(b"\n")
        check(lines[:2] == [b"id,email,ssn", b'1,"****test","[redacted]"'], lines)
        clean(copied(c, "COPY customers TO STDOUT"))
        binary = clean(copied(c, "COPY (SELECT id, email FROM customers WHERE id = 1) TO STDOUT (FORMAT binary)"))
        check(b"\0\0\0\x08****test" in binary and binary.endswith(b"\xff\xff"), binary)
        # Not masked, and so untouched.
        check(copied(c, "COPY (SELECT id, name FROM customers WHERE id = 1) TO STDOUT") == b"1\tCustomer 1\n")


def test_who_may_unmask_sees_the_very_values(w):
    statements = [
        "SELECT * FROM customers ORDER BY id",
        "SELECT c, to_json(c) FROM customers c ORDER BY email",
        "SELECT max(ssn), string_agg(card, ',' ORDER BY id) FROM customers",
        "SELECT id FROM customers WHERE ssn LIKE '%7' ORDER BY id",
    ]
    with w.own(policies=ALL_TAGS) as own, own.connect("reader") as c:
        for text in statements:
            direct = own.admin(f"SELECT x::text FROM ({text}) x")
            check([row[0] for row in c.execute(f"SELECT x::text FROM ({text}) x")] == direct, text)


def test_one_tag_is_shown_and_the_others_are_not(w):
    policies = {**POLICIES, "cards": '@id("cards") permit (principal, action == Action::"unmask", resource in Tag::"pci");'}
    with w.own(policies=policies) as own, own.connect("reader") as c:
        row = c.execute("SELECT card, ssn FROM customers WHERE id = 1").fetchone()
        check(row == ("4929123456700037", "[redacted]"), row)
        check(c.execute("SELECT max(card) FROM customers").fetchone()[0].startswith("4929"))


def test_the_trail_says_what_was_masked(w):
    with w.connect("reader") as c:
        c.execute("SELECT email AS trail_test FROM customers WHERE id = 1").fetchone()
    exported = w.cli("audit", "export", "--format", "jsonl").stdout.splitlines()
    events = [json.loads(line) for line in exported if "trail_test" in line and '"operation"' in line]
    check(events and all("pii.email" in json.dumps(event) for event in events), exported[-3:])
    check(any('"masked":["pii.email"]' in line.replace(" ", "") for line in exported if "trail_test" in line), events)


def test_errors_about_tagged_data_keep_their_code_and_lose_their_text(w):
    with w.connect("writer") as c:
        with psycopg_raises(errors.UniqueViolation) as seen:
            c.execute("INSERT INTO customers (id, name, email) VALUES (1, 'x', 'y')")
        check(seen.error.diag.constraint_name == "customers_pkey" and seen.error.diag.message_detail is None, seen.error)
        with psycopg_raises(errors.NotNullViolation) as seen:
            c.execute("UPDATE customers SET name = NULL WHERE id = 1")
        clean((str(seen.error), seen.error.diag.message_detail))
        with psycopg_raises(errors.UndefinedColumn) as seen:
            c.execute("SELECT emial FROM orders")
        check("emial" in str(seen.error), "other texts stay")
