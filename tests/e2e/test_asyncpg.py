"""asyncpg: everything prepared, everything binary."""
import asyncio, datetime, decimal

import asyncpg

from harness import check, direct_too


def session(w, who, body):
    async def main():
        c = await asyncpg.connect(**settings(w, who))
        try:
            await body(c)
        finally:
            await c.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def settings(w, who):
    return dict(host="127.0.0.1", port=w.port, user=w.user(who), password=w.token(who), database=w.database, ssl=False)


@direct_too
def test_fetch_and_types(w):
    async def body(c):
        rows = await c.fetch("SELECT id, total, placed, status FROM orders WHERE id = ANY($1) ORDER BY id", [1, 2, 3])
        check([r["id"] for r in rows] == [1, 2, 3] and isinstance(rows[0]["total"], decimal.Decimal), rows)
        check(isinstance(rows[0]["placed"], datetime.datetime))
        check(await c.fetchval("SELECT m FROM samples WHERE id = 1") == "calm")
        check(await c.fetchval("SELECT ia FROM samples WHERE id = 1") == [1, 2, 3])
        check(await c.fetchrow("SELECT $1::text, $2::int, $3::jsonb", "a", None, '{"b":1}') is not None)

    session(w, "reader", body)


@direct_too
def test_prepared_statements_and_their_cache(w):
    async def body(c):
        statement = await c.prepare("SELECT id, title FROM products WHERE id = $1")
        check([p.name for p in statement.get_parameters()] == ["int4"])
        check([a.name for a in statement.get_attributes()] == ["id", "title"])
        for n in range(1, 30):
            check((await statement.fetchrow(n))["id"] == n)
        for n in range(1, 150):  # more than the cache holds: older ones are closed
            check(await c.fetchval(f"SELECT {n} + $1::int", 1) == n + 1)

    session(w, "reader", body)


@direct_too
def test_executemany_and_copy(w):
    async def body(c):
        await c.executemany("INSERT INTO tickets (id, subject) VALUES ($1, $2)", [(n, f"s{n}") for n in range(3000, 3200)])
        await c.copy_records_to_table("tickets", records=[(n, f"c{n}") for n in range(3200, 3500)], columns=["id", "subject"])
        check(await c.fetchval("SELECT count(id) FROM tickets WHERE id >= 3000") == 500)
        got = bytearray()

        async def take(data):
            got.extend(data)

        await c.copy_from_query("SELECT id FROM tickets WHERE id >= $1 ORDER BY id", 3490, output=take)
        check(got.split() == [str(n).encode() for n in range(3490, 3500)], bytes(got))

    try:
        session(w, "writer", body)
    finally:
        w.admin("DELETE FROM tickets WHERE id >= 3000")


@direct_too
def test_cursor(w):
    async def body(c):
        async with c.transaction():
            seen = [r["id"] async for r in c.cursor("SELECT id FROM orders ORDER BY id", prefetch=40)]
            check(seen == list(range(1, 601)), len(seen))
            cursor = await c.cursor("SELECT id FROM orders ORDER BY id")
            await cursor.forward(5)
            check((await cursor.fetch(2))[0]["id"] == 6)

    session(w, "reader", body)


@direct_too
def test_listen(w):
    async def body(c):
        heard = asyncio.get_running_loop().create_future()
        await c.add_listener("news", lambda *a: heard.done() or heard.set_result(a[2:]))
        other = await asyncpg.connect(**settings(w, "reader"))
        await other.execute("NOTIFY news, 'from asyncpg'")
        check(await asyncio.wait_for(heard, 10) == ("news", "from asyncpg"))
        await other.close()

    session(w, "reader", body)


@direct_too
def test_pool_gives_connections_back(w):
    async def main():
        async with asyncpg.create_pool(**settings(w, "reader"), min_size=1, max_size=3) as pool:
            values = await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(30)))
            check(values == list(range(30)), values)

    asyncio.run(asyncio.wait_for(main(), 60))


@direct_too
def test_timeout_cancels_and_the_connection_lives(w):
    async def body(c):
        try:
            await c.fetchval("SELECT pg_sleep(30)", timeout=0.7)
            raise AssertionError("it was not cancelled")
        except asyncio.TimeoutError:
            pass
        check(await c.fetchval("SELECT 1") == 1)

    session(w, "reader", body)


def test_a_refusal_is_an_error_and_the_connection_lives(w):
    async def body(c):
        for _ in range(2):
            try:
                await c.execute("DELETE FROM tickets WHERE $1", True)
                raise AssertionError("it was not refused")
            except asyncpg.InsufficientPrivilegeError as refused:
                check('"code":"denied"' in refused.detail.replace(" ", ""), refused.detail)
        try:
            async with c.transaction():
                await c.execute("DELETE FROM tickets")
        except asyncpg.InsufficientPrivilegeError:
            pass
        check(await c.fetchval("SELECT 1") == 1)

    session(w, "writer", body)
    check(w.admin("SELECT count(*) FROM tickets") == ["5"])
