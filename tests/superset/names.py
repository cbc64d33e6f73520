"""Statements in which the same names stand for different things: aliases that hide tables and each other, at every level, with
LATERAL and without, in joins that have a name of their own, beside CTEs that are called like tables."""
import random

TABLES = [f"t{n}" for n in range(1, 5)]
NAMES = ["x", "y", "z", *TABLES]
COLUMNS = ["a", "b", "c"]
SETUP = "".join(f"CREATE TABLE {table} (a int, b int, c int);\n" for table in TABLES)


class Writer:
    """One statement; `seen` are the names that are visible, innermost last."""

    def __init__(self, seed):
        self.random, self.budget = random.Random(seed), 14

    def pick(self, items):
        return items[self.random.randrange(len(items))]

    def chance(self, share):
        return self.random.random() < share

    def column(self, seen):
        # Now and then what is not visible, or not known to be: the server says which.
        name = self.pick(seen) if seen and not self.chance(0.04) else self.pick(NAMES)
        return self.pick(COLUMNS) if self.chance(0.03) else f"{name}.{self.pick(COLUMNS)}"

    def value(self, seen, depth):
        self.budget -= 1
        if depth > 0 and self.budget > 0 and self.chance(0.3):
            return f"({self.query(seen, depth - 1, 1)} LIMIT 1)"
        if self.chance(0.1):
            return f"coalesce({self.column(seen)}, {self.column(seen)})"
        return self.column(seen)

    def condition(self, seen, depth):
        kind = self.random.randrange(5)
        if kind == 0 and depth > 0 and self.budget > 0:
            return f"EXISTS ({self.query(seen, depth - 1, 1)})"
        if kind == 1 and depth > 0 and self.budget > 0:
            return f"{self.column(seen)} IN ({self.query(seen, depth - 1, 1)})"
        return f"{self.value(seen, depth)} {self.pick(['=', '<', '>', 'IS DISTINCT FROM'])} {self.value(seen, depth)}"

    def item(self, seen, near, depth):
        """A FROM item: its text, and the names that it brings."""
        self.budget -= 1
        free = [name for name in NAMES if name not in near]
        alias = self.pick(free) if free and not self.chance(0.05) else self.pick(NAMES)
        kind = self.random.randrange(9) if depth > 0 and self.budget > 0 else 0
        if kind in (0, 1, 2):
            table = self.pick(TABLES)
            if table not in near and self.chance(0.4):
                return table, [table]
            return f"{table} AS {alias}", [alias]
        if kind in (3, 4):
            # Not LATERAL, it must not see those beside it, but they are tried.
            lateral = self.chance(0.4)
            sees = [*seen, *near] if lateral or self.chance(0.25) else seen
            return f"{'LATERAL ' if lateral else ''}({self.query(sees, depth - 1, 3)}) AS {alias}", [alias]
        if kind == 5:
            sees = [*seen, *near] if self.chance(0.25) else seen
            values = ", ".join(self.value(sees, 0) for _ in COLUMNS)
            return f"{'LATERAL ' if self.chance(0.3) else ''}(VALUES ({values})) AS {alias} (a, b, c)", [alias]
        if kind == 6:
            return f"(SELECT g AS a, g AS b, g AS c FROM generate_series(1, {self.column(seen) if seen else 1}) AS g) AS {alias}", [alias]
        left, left_names = self.item(seen, near, depth - 1)
        right, right_names = self.item(seen, [*near, *left_names], depth - 1)
        both = [*left_names, *right_names]
        how = self.random.randrange(4)
        if how == 0:
            joined = f"{left} CROSS JOIN {right}"
        elif how == 1:
            joined = f"{left} {self.pick(['', 'LEFT '])}JOIN {right} USING ({self.pick(COLUMNS)})"
        else:
            sees = [*seen, *both] if self.chance(0.9) else [*seen, *near, *both]
            joined = f"{left} {self.pick(['', 'LEFT '])}JOIN {right} ON {self.condition(sees, depth - 1)}"
        if self.chance(0.5):
            return f"({joined}) AS {alias}", [alias]
        return joined, both

    def items(self, seen, depth):
        texts, near = [], []
        for _ in range(self.pick([1, 1, 2, 2, 3])):
            text, names = self.item(seen, near, depth)
            texts.append(text)
            near += names
        return ", ".join(texts), near

    def ctes(self, seen, depth):
        if depth <= 0 or not self.chance(0.25):
            return ""
        names = self.random.sample([*TABLES, "x", "y"], self.pick([1, 1, 2, 3, 4]))
        queries = ", ".join(f"{name} AS ({self.query(seen, depth - 1, 3)})" for name in names)
        # RECURSIVE lets each name those behind it, too.
        return f"WITH {self.pick(['', 'RECURSIVE '])}{queries} "

    def query(self, seen, depth, width):
        head = self.ctes(seen, depth)
        text, near = self.items(seen, depth)
        sees = [*seen, *near]
        outputs = ", ".join(f"{self.value(sees, depth)} AS {column}" for column in COLUMNS[:width])
        where = f" WHERE {self.condition(sees, depth)}" if self.chance(0.4) else ""
        order = f" ORDER BY {self.pick(['1', 'a'])}" if self.chance(0.15) else ""
        return f"{head}SELECT {outputs} FROM {text}{where}{order}"

    def statement(self):
        kind = self.random.randrange(8)
        if kind > 2:
            return self.query([], 3, 3)
        table, alias = self.pick(TABLES), self.pick(NAMES)
        text, near = self.items([], 2)
        sees = [alias, *near]
        if kind == 0:
            return f"UPDATE {table} AS {alias} SET a = {self.value(sees, 1)} FROM {text} WHERE {self.condition(sees, 1)}"
        if kind == 1:
            return f"DELETE FROM {table} AS {alias} USING {text} WHERE {self.condition(sees, 1)}"
        # Nothing is written: the tables stay as small as they are.
        return f"INSERT INTO {table} {self.query([], 2, 3)} LIMIT 0"


def statements(count, seed):
    return [Writer(f"{seed}/{number}").statement() for number in range(count)]
