"""Random SELECTs, and other statements around them.

Every choice is drawn from a tape of numbers. Smaller numbers choose what is simpler, so a query is made smaller by
making its tape shorter and its numbers lower (`run.py` does), and a tape alone gives the same query again.
"""
import random

import parts
from vocabulary import (AGGREGATES, EXPRESSIONS, FROM_SETS, LITERAL, NAMES, RELATIONS, SAFE, SAFE_AGGREGATES, SETS, SQL_TYPE,
                        TYPES, WINDOWS)


class Tape:
    """Numbers from a seed, or from a list (0 once it ends). `drawn` is what was used."""

    def __init__(self, seed=None, numbers=None):
        self.dice, self.numbers, self.drawn = random.Random(seed), numbers, []

    def draw(self, count):
        if self.numbers is None:
            got = self.dice.randrange(count)
        else:
            at = len(self.drawn)
            got = min(self.numbers[at] if at < len(self.numbers) else 0, count - 1)
        self.drawn.append(got)
        return got

    def pick(self, items):
        return items[self.draw(len(items))]

    def chance(self, percent):
        """Rarely true; never on a tape that has ended."""
        return self.draw(100) >= 100 - percent


class Query:
    """One query being written: `sql`, whether a tagged column was named, the features it uses."""

    def __init__(self, tape):
        self.tape, self.tagged, self.number, self.features, self.ctes = tape, False, 0, set(), []
        self.scopes, self.aggregate = [], False
        self.careful = not tape.chance(35)

    def expressions(self, kind):
        return SAFE[kind] if self.careful and SAFE[kind] else EXPRESSIONS[kind]

    def aggregates(self, kind):
        return SAFE_AGGREGATES[kind] if self.careful and kind in SAFE_AGGREGATES else AGGREGATES[kind]

    # ---- names ----

    def alias(self, prefix="t"):
        self.number += 1
        return f"{prefix}{self.number}"

    def column(self, kind):
        """A column of a type, as (sql); a literal where there is none."""
        found = [(alias, name, tagged) for alias, columns in self.scopes[-1] for name, of, tagged in columns
                 if kind == "any" or of == kind]
        if len(self.scopes) > 1 and (not found or self.tape.chance(15)):  # a column of the query around
            found += [(alias, name, tagged) for alias, columns in self.scopes[-2] for name, of, tagged in columns
                      if kind == "any" or of == kind]
        if not found:
            return self.tape.pick(LITERAL.get(kind, LITERAL["text"]))
        alias, name, tagged = self.tape.pick(found)
        self.tagged |= bool(tagged)
        return f"{alias}.{name}"

    # ---- expressions ----

    def fill(self, template, depth):
        out, at = [], 0
        while at < len(template):
            sign = template[at]
            word = ""
            if sign in "$#":
                end = at + 1
                while end < len(template) and template[end].isalpha():
                    end += 1
                word = template[at + 1:end]
            if word in SQL_TYPE or word == "any":
                out.append(self.column(word) if sign == "#" else self.expr(word, depth - 1))
                at += 1 + len(word)
            else:
                out.append(sign)
                at += 1
        sql = "".join(out)
        self.tagged |= "email" in template
        if "ORDER BY id_" in sql:
            sql = sql.replace("ORDER BY id_", "ORDER BY " + (self.column("int") if self.tape.chance(8) else self.first_id()))
        return sql

    def first_id(self):
        for alias, columns in self.scopes[-1]:
            for name, _, tagged in columns:
                if name == "id" and not tagged:
                    return f"{alias}.id"
        return "1"

    def expr(self, kind, depth):
        tape = self.tape
        if kind == "any":
            if tape.chance(12) and not self.aggregate:
                whole = self.whole()
                if whole:
                    return whole
            kind = tape.pick(TYPES) if tape.chance(40) else tape.pick(TYPES[:2])
            if depth <= 0:
                return self.column("any")
        if depth <= 0 or not tape.chance(38):
            if tape.chance(10):
                return tape.pick(LITERAL[kind])
            if kind == "bool":
                return self.fill(tape.pick(EXPRESSIONS["bool"][:12 if tape.chance(60) else 6]), 0)
            return self.column(kind)
        if kind == "text" and tape.chance(6):
            return self.scalar(kind, depth)
        template = tape.pick(self.expressions(kind))
        self.features.add("expression")
        return self.fill("(" + template + ")", depth)

    def scalar(self, kind, depth):
        """A subquery of one value."""
        body, _ = self.select(depth - 1, [kind], limit=1)
        self.features.add("subquery")
        return f"({body})"

    def whole(self):
        """A whole row."""
        alias, columns = self.tape.pick(self.scopes[-1])
        self.tagged |= any(tagged for _, _, tagged in columns) or not columns
        self.features.add("whole row")
        return self.tape.pick([alias, f"row_to_json({alias})", f"to_jsonb({alias})", f"({alias}).*::text", f"ROW({alias}.*)",
                               f"hash_record({alias})" if self.tape.chance(20) else f"{alias}::text"])

    # ---- FROM ----

    def source(self, depth, lateral):
        """(sql, alias, columns)."""
        tape, alias = self.tape, self.alias()
        roll = tape.draw(100)
        if roll < 62 or depth <= 0 or (roll >= 80 and not lateral and roll < 98):
            if self.ctes and tape.chance(60):
                name, columns = tape.pick(self.ctes)
            else:
                name = tape.pick(['cust', 'cust', 'pay', 'free', 'cust']) if not tape.chance(45) else tape.pick(NAMES)
                columns = RELATIONS[name]
            only = "ONLY " if tape.chance(4) and name in ("cust", "visits") else ""
            sample = ""
            return f"{only}{name} {alias}{sample}", alias, columns
        if roll < 80:
            body, columns = self.select(depth - 1, None)
            self.features.add("derived table")
            return f"({body}) {alias}", alias, columns
        if roll < 92 and lateral:
            template, columns = tape.pick(FROM_SETS)
            self.features.add("function in FROM")
            sql = self.fill(template.replace("@@", alias), depth - 1)
            named = [(alias if name == "@" else name, kind, tagged) for name, kind, tagged in columns]
            return ("LATERAL " if tape.chance(30) else "") + (sql if " AS " in template else f"{sql} {alias}"), alias, named
        if roll < 96 and lateral:
            body, columns = self.select(depth - 1, None)
            self.features.add("lateral")
            return f"LATERAL ({body}) {alias}", alias, columns
        self.features.add("values")
        self.scopes.append(list(self.scopes[-1]) if lateral and self.scopes else [])
        cells = self.expr("text", 1) if lateral else "'x'"
        self.scopes.pop()
        return f"{'LATERAL ' if lateral else ''}(VALUES ({cells}, 1), ('z', 2)) {alias}(a, b)", alias, [("a", "text", 2 if "." in cells else 0), ("b", "int", 0)]

    def from_clause(self, depth):
        """Fills the innermost scope; the text after FROM."""
        sql, alias, columns = self.source(depth, False)
        self.scopes[-1].append((alias, columns))
        while self.tape.chance(28) and len(self.scopes[-1]) < 3:
            other, alias, columns = self.source(depth - 1, True)
            left = self.scopes[-1][-1]
            join = self.tape.pick(["ON", "ON", ",", "LEFT", "USING", "NATURAL", "FULL", "CROSS", "RIGHT"])
            self.features.add("join")
            shared = [c for c in columns if c[0] in [l[0] for l in left[1]] and c[0] in ("id", "email", "region", "name")]
            lateral = other.startswith("LATERAL") or "(" in other.split(" ")[0]
            if join == "USING" and shared and len(self.scopes[-1]) == 1:
                name = self.tape.pick(shared)[0]
                self.tagged |= any(tagged for other, _, tagged in [*columns, *left[1]] if other == name)
                sql += f" JOIN {other} USING ({name})"
            elif join == "NATURAL" and len(self.scopes[-1]) == 1:
                both = {name for name, _, _ in columns} & {name for name, _, _ in left[1]}
                self.tagged |= any(tagged for name, _, tagged in [*columns, *left[1]] if name in both)
                sql += f" NATURAL JOIN {other}"
            elif join in (",", "CROSS", "NATURAL", "USING"):
                sql += f", {other}" if join == "," else f" CROSS JOIN {other}"
            else:
                kind = {"ON": "JOIN", "LEFT": "LEFT JOIN", "FULL": "LEFT JOIN" if lateral else "FULL JOIN", "RIGHT": "LEFT JOIN" if lateral else "RIGHT JOIN"}[join]
                self.scopes[-1].append((alias, columns))
                on = self.equal(left, (alias, columns)) if not self.tape.chance(30) else self.expr("bool", depth)
                self.scopes[-1].pop()
                sql += f" {kind} {other} ON {on}"
            self.scopes[-1].append((alias, columns))
        return sql

    def equal(self, left, right):
        pairs = [(l, r) for l in left[1] for r in right[1] if l[1] == r[1] and l[1] in ("int", "text")]
        if not pairs:
            return "true"
        l, r = self.tape.pick(pairs)
        self.tagged |= bool(l[2] or r[2])
        return f"{left[0]}.{l[0]} = {right[0]}.{r[0]}"

    # ---- SELECT ----

    def item(self, kind, depth):
        """One output: (sql, type, tagged: 0 no, 1 or 2 yes)."""
        before, self.tagged = self.tagged, False
        tape = self.tape
        if kind is None:
            own = [of for _, columns in self.scopes[-1] for _, of, _ in columns if of in LITERAL]
            kind = tape.pick(own) if own and not tape.chance(15) else tape.pick(TYPES)
        if self.aggregate:
            kind = kind if kind in AGGREGATES else "text"
            grouped = getattr(self, "groups", None)
            sql = tape.pick(grouped)[0] if grouped and kind == "text" and tape.chance(40) else None
            self.aggregate = False
            if sql is None:
                sql = self.fill(tape.pick(self.aggregates(kind)), depth)
            else:
                self.tagged = True
            self.aggregate = True
            self.features.add("aggregate")
        elif tape.chance(6):
            kind_, template = tape.pick(WINDOWS[:4] if self.careful else WINDOWS)
            self.features.add("window")
            kind, sql = kind_, self.fill(template, depth)
        elif tape.chance(4):
            kind_, template = tape.pick(SETS)
            self.features.add("set-returning")
            kind, sql = kind_, self.fill(template, depth)
        elif tape.chance(6):
            whole, kind = self.whole(), "json"
            sql = whole if whole.startswith(("row_to_json", "to_jsonb")) else f"{whole}"
            kind = "other"
        else:
            sql = self.expr(kind, depth)
        tagged, self.tagged = self.tagged, before or self.tagged
        return sql, kind, int(tagged)

    def select(self, depth, kinds, limit=None):
        """One SELECT: (sql, columns)."""
        tape = self.tape
        keep = self.aggregate, getattr(self, "groups", None)
        self.scopes.append([])
        source = self.from_clause(depth)
        self.aggregate, self.groups = False, None
        where = f" WHERE {self.expr('bool', depth)}" if tape.chance(35) else ""
        tail = ""
        grouping = tape.chance(18)
        if grouping:
            self.features.add("group by")
            key = self.column("text") if not tape.chance(20) else self.expr("text", 1)
            self.groups = [(key,)]
            tail += tape.pick([f" GROUP BY {key}", "", f" GROUP BY {key}", f" GROUP BY ROLLUP ({key})", f" GROUP BY GROUPING SETS (({key}), ())"])
            if not tail:
                self.groups = None
            self.aggregate = True
        star = kinds is None and not grouping and tape.chance(10)
        count = len(kinds) if kinds else 1 + tape.draw(3)
        items, columns = [], []
        for at in range(count):
            sql, kind, tagged = self.item(kinds[at] if kinds else None, depth)
            if kinds and kind != kinds[at]:
                sql = f"({sql})::text::{SQL_TYPE[kinds[at]]}"
                kind = kinds[at]
            name = f"c{at + 1}"
            if at == 0 and kinds is None and tape.chance(15):
                name = "email"
            items.append(f"{sql} AS {name}")
            columns.append((name, kind, tagged))
        if star:
            self.features.add("star")
            alias, found = tape.pick(self.scopes[-1])
            self.tagged |= not found or any(tagged for _, _, tagged in found)
            items, columns = [f"{alias}.*"], [c for c in found]
            if len(self.scopes[-1]) == 1 and tape.chance(50):
                items = ["*"]
        distinct = ""
        if not grouping and limit is None:
            if tape.chance(8):
                distinct = "DISTINCT "
                self.features.add("distinct")
            elif tape.chance(3):
                distinct = f"DISTINCT ON ({self.column('any')}) "
                self.features.add("distinct")
        if grouping and tape.chance(25):
            self.aggregate = False
            tail += f" HAVING {self.fill(tape.pick(self.aggregates('bool')), 1)}"
        if tape.chance(18) and not distinct:
            self.features.add("order by")
            if grouping:
                tail += f" ORDER BY {1 + tape.draw(len(items))}"
            else:
                tail += f" ORDER BY {self.expr('any', depth) if tape.chance(50) and not self.careful else 1 + tape.draw(len(items))}" + tape.pick(["", " DESC", " NULLS FIRST"])
        if limit:
            tail += f" LIMIT {limit}"
        elif tape.chance(8):
            self.features.add("limit")
            tail += tape.pick([" LIMIT 3", " LIMIT 2 OFFSET 1", " LIMIT ALL", " FETCH FIRST 2 ROWS ONLY"])
            if tape.chance(10):
                tail += f" OFFSET (SELECT {self.expr('int', 1)} % 3 FROM cust {self.alias('z')} LIMIT 1)" if "LIMIT 3" in tail else ""
        self.scopes.pop()
        self.aggregate, self.groups = keep
        return f"SELECT {distinct}{', '.join(items)} FROM {source}{where}{tail}", columns

    def query(self, depth=2):
        """A whole query: (sql, columns)."""
        tape, head = self.tape, ""
        if tape.chance(18):
            self.features.add("cte")
            roll = tape.draw(10)
            name = self.alias("w")
            if roll < 6:
                body, columns = self.select(depth - 1, None)
                head = f"WITH {name} AS {tape.pick(['', 'MATERIALIZED ', 'NOT MATERIALIZED '])}({body}) "
                self.ctes.append((name, columns))
            elif roll < 8:
                body, columns = self.select(depth - 1, ["text", "int"])
                more = tape.pick(["c1", "lower(c1)", "c1 || 'x'", "substr(c1, 2)", "(SELECT max(email) FROM pay)", "reverse(c1)"])
                head = (f"WITH RECURSIVE {name}(c1, c2, n) AS (SELECT q.*, 1 FROM ({body}) q UNION ALL "
                        f"SELECT {more}, c2, n + 1 FROM {name} WHERE n < {tape.pick(['3', '2', '(CASE WHEN length(c1) > 13 THEN 2 ELSE 3 END)'])}) ")
                self.tagged |= "email" in more
                self.ctes.append((name, [("c1", "text", 2), ("c2", "int", 2), ("n", "int", 0)]))
                self.features.add("recursive")
            else:
                change = self.change(name)
                head = f"WITH {name} AS ({change}) "
                self.ctes.append((name, [("id", "int", 0), ("email", "text", 1), ("label", "text", 0)]))
                self.features.add("data-modifying CTE")
        body, columns = self.select(depth, None)
        if tape.chance(12):
            self.features.add("set operation")
            kinds = [c[1] for c in columns]
            if all(kind in SQL_TYPE for kind in kinds) and "*" not in body.split(" FROM ")[0] and kinds:
                other, more = self.select(depth - 1, kinds)
                op = tape.pick(["UNION ALL", "UNION", "EXCEPT", "INTERSECT", "EXCEPT ALL"])
                if op != "UNION ALL":
                    self.tagged |= any(c[2] for c in columns)
                columns = [(a[0], a[1], a[2] or b[2]) for a, b in zip(columns, more)]
                body = f"({body}) {op} ({other})" + tape.pick(["", "", " ORDER BY 1", " LIMIT 3"])
        return head + body, columns

    def change(self, name=""):
        """A change of the scratch table that gives rows back."""
        tape = self.tape
        self.features.add("returning")
        back = tape.pick(["id, email, label", "*", "id, lower(email) AS email, label", "id, scratch.email, label || coalesce(email, '') AS label",
                          "id, (email > 'm')::text AS email, label", "id, scratch::text AS email, label"])
        if name and back == "*":
            back = "id, email, label"
        self.tagged = True
        roll = tape.draw(12)
        if roll < 3:
            return f"INSERT INTO scratch (id, label, email, n) VALUES (50, 'fifty', 'fifty@x', 5) RETURNING {back}"
        if roll < 6:
            text = tape.pick(["label || '!'", "name", "'k' || scratch.id", "c.email", "lower(c.email)", "scratch.email", "c.region || c.vc", "left(scratch.email, 6)",
                              "substr(c.email, 2, 8)", "coalesce(c.email, name)"])
            field = tape.pick(["label", "email"])
            return f"UPDATE scratch SET {field} = {text} FROM cust c WHERE c.id = scratch.id RETURNING {back.replace('id,', 'scratch.id,', 1).replace('*', 'scratch.*').replace('(email', '(scratch.email')}"\
                .replace("coalesce(email", "coalesce(scratch.email").replace("id, email", "id, scratch.email")
        if roll < 8:
            self.scopes.append([("scratch", RELATIONS["scratch"])])
            where = self.expr("bool", 1)
            self.scopes.pop()
            return f"DELETE FROM scratch WHERE {where} RETURNING {back}"
        if roll < 10:
            wrong = tape.chance(25)  # a value where none may be
            text = tape.pick(["c.name", "c.email", "left(c.email, 6)", "substr(c.email, 3, 8)", "lower(c.email)", "reverse(c.email)",
                              "coalesce(c.email, 'x')", "c.vc", "c.secret", "c.tel", "c.id::text", "split_part(c.email, '@', 1)", "nullif(c.email, 'x')"])
            where = tape.pick(["", " WHERE c.id > 4", " WHERE c.email IS NOT NULL"] + [" WHERE c.email > 'm'"] * wrong)
            number = tape.pick(["c.id", "7"] + ["c.sal", "c.id * 500", "length(c.email)"] * wrong)
            label = text if wrong and tape.chance(50) else "c.name"
            return (f"INSERT INTO scratch (id, label, email, n) SELECT c.id + {'0' if wrong and tape.chance(30) else '100'}, {label}, {text}, {number} "
                    f"FROM {tape.pick(['cust', 'ONLY cust'])} c{where} RETURNING {back}")
        return (f"INSERT INTO scratch (id, label, email, n) VALUES (2, 'two', 'x', 1) ON CONFLICT (id) DO "
                f"{tape.pick(['NOTHING', 'UPDATE SET label = excluded.label', 'UPDATE SET label = scratch.email', 'UPDATE SET n = length(scratch.email)', 'UPDATE SET email = scratch.email || scratch.label'])} RETURNING {back}")


MODES = ["simple", "extended", "binary", "portal", "prepared", "copy", "cursor", "execute", "change", "explain", "temp", "settings", "multi"]


def statement(tape, only=None):
    """(mode, list of SQL texts or one query, Query, output columns or None)."""
    mode = tape.pick(MODES + MODES[:5] + MODES[-2:]) if only is None else only
    query = Query(tape)
    if tape.chance(statement.parts):
        query.tagged = True
        query.features.add("parts")
        return mode if mode != "change" else "simple", parts.statement(tape), query, None
    if mode == "change":
        return mode, query.change(), query, None
    sql, columns = query.query(tape.pick([0, 0, 1, 1, 2, 3]))
    return mode, sql, query, columns


statement.parts = 25  # of a hundred that are about parts of JSON, tokens and what is found
