"""Random sessions: temporary tables, prepared statements, cursors and settings that come, change and are rolled back.

What the gateway knows of a session has to stay what the server knows. A table of the same name, now with tagged values
and now without, tells whether it does.
"""

SOURCES = ["SELECT id, email AS e, name AS f FROM public.cust", "SELECT id, label AS e, label AS f FROM free",
           "SELECT id, left(email, 8) AS e, name AS f FROM public.cust", "SELECT id, name AS e, email AS f FROM public.cust",
           "SELECT id, secret AS e, vc AS f FROM public.cust"]
FROM_KEPT = ["SELECT e FROM kept", "SELECT f FROM kept", "SELECT * FROM kept", "SELECT e, f FROM kept2", "SELECT (kept).e FROM kept",
             "SELECT email FROM cust", "SELECT id FROM kept WHERE e > 'm'", "SELECT id FROM kept WHERE e = 'm'", "SELECT g FROM kept",
             "SELECT e FROM view_kept"]
CHANGES = ["DROP TABLE kept", "DROP TABLE IF EXISTS kept", "ALTER TABLE kept RENAME e TO g", "ALTER TABLE kept RENAME f TO e",
           "ALTER TABLE kept RENAME g TO f", "ALTER TABLE kept RENAME TO kept2", "ALTER TABLE kept2 RENAME TO kept", "DROP TABLE kept2",
           "ALTER TABLE kept DROP COLUMN e", "ALTER TABLE kept ADD COLUMN e text", "ALTER TABLE kept ADD COLUMN g text", "DISCARD TEMP",
           "TRUNCATE kept", "UPDATE kept SET e = f", "UPDATE kept SET f = e", "UPDATE kept SET g = e", "INSERT INTO kept SELECT * FROM kept",
           "DELETE FROM kept WHERE e = 'm'", "INSERT INTO kept SELECT id, email, name FROM public.cust", "DROP TABLE pg_temp.cust",
           "CREATE INDEX ON kept (e)", "ALTER TABLE kept RENAME TO cust", "ALTER TABLE pg_temp.cust RENAME TO kept", "DISCARD ALL",
           "INSERT INTO kept VALUES (1, 'm', 'm')", "ALTER TABLE kept ALTER e TYPE varchar(6)", "CREATE TEMP VIEW view_kept AS SELECT id, e FROM kept",
           "DROP VIEW view_kept", "DROP TABLE kept CASCADE", "CREATE OR REPLACE TEMP VIEW view_kept AS SELECT id, label AS e FROM free"]
TRANSACTIONS = ["ROLLBACK", "BEGIN", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "COMMIT", "SELECT 1/0", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"]
NAMED = ["PREPARE p AS SELECT e FROM kept", "EXECUTE p", "DEALLOCATE p", "PREPARE p AS SELECT label FROM free", "PREPARE p AS SELECT email FROM cust",
         "DECLARE k CURSOR FOR SELECT e FROM kept", "DECLARE k CURSOR WITH HOLD FOR SELECT e FROM kept", "FETCH 2 FROM k", "CLOSE k",
         "DECLARE k CURSOR WITH HOLD FOR SELECT label FROM free", "CLOSE ALL", "DEALLOCATE ALL", "DECLARE k CURSOR WITH HOLD FOR SELECT email FROM cust"]
SETTINGS = ["SET search_path = public, pg_temp", "SET search_path = pg_temp, public", "RESET search_path", "SET LOCAL search_path = public, pg_temp",
            "RESET ALL", "DISCARD PLANS"]


def create(tape):
    source, name = tape.pick(SOURCES), tape.pick(["kept", "kept", "kept2", "cust"])
    if name == "cust":
        source = source.replace(" AS e", " AS email", 1)
    if tape.chance(12):
        return f"CREATE TEMP TABLE {tape.pick(['IF NOT EXISTS ', ''])}{name} (id int, e text, f text){tape.pick(['', ' ON COMMIT DROP'])}"
    if tape.chance(10):
        return source.replace(" FROM", f" INTO TEMP {name} FROM", 1)
    where = tape.pick(["", "", "pg_temp."]) if not tape.chance(10) else ""
    if not tape.chance(30):
        where = ""
    return (f"CREATE {tape.pick(['TEMP', 'TEMP', 'TEMPORARY'])} TABLE {tape.pick(['', '', 'IF NOT EXISTS '])}{where}{name}"
            f"{tape.pick(['', '', '', ' (id, e)', ' ON COMMIT DROP', ' (id, f, e)'])} AS {source}{tape.pick(['', '', '', ' WITH NO DATA'])}")


def session(tape):
    """The statements of a session; some of them several in one message."""
    steps = [create(tape)]
    for _ in range(tape.draw(12)):
        roll = tape.draw(100)
        if roll < 28:
            step = tape.pick(FROM_KEPT)
        elif roll < 48:
            step = create(tape)
        elif roll < 66:
            step = tape.pick(TRANSACTIONS)
        elif roll < 83:
            step = tape.pick(CHANGES)
        elif roll < 95:
            step = tape.pick(NAMED)
        else:
            step = tape.pick(SETTINGS)
        if tape.chance(10) and len(steps) > 1:
            steps[-1] += "; " + step
        else:
            steps.append(step)
    return [*steps, "ROLLBACK", "SELECT e FROM kept", "SELECT f FROM kept", "SELECT email FROM cust", "EXECUTE p"]
