"""The relations and columns that a plan reads, by `EXPLAIN (VERBOSE, FORMAT JSON)`.

Every expression in such a plan names columns as `alias.column`, and every scan says which relation its alias is. What a
plan's columns are is in its conditions and keys, and in the output of nodes that compute something. A plain column in
the output of a scan says nothing: a scan hands up whole rows where that is cheaper. It counts where nothing but nodes
that pass rows on stand above it.
"""
import re

IDENT = r'(?:"(?:[^"]|"")*"|[a-z_\x80-\uffff][a-z0-9_$\x80-\uffff]*)'
TOKEN = re.compile(rf"E?'(?:[^'\\]|''|\\.)*'|(?P<after>::|\.)?(?P<alias>{IDENT})\.(?P<column>{IDENT}|\*)(?P<call>\()?|{IDENT}", re.S)
PLAIN = re.compile(rf"{IDENT}\.{IDENT}")
SCANS = {"Seq Scan", "Sample Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Bitmap Index Scan", "Tid Scan",
         "Tid Range Scan", "Foreign Scan", "Function Scan", "CTE Scan", "Values Scan", "WorkTable Scan", "Table Function Scan",
         "Named Tuplestore Scan", "Subquery Scan"}
PASSING = {"Sort", "Incremental Sort", "Materialize", "Memoize", "Hash", "Append", "Merge Append", "Gather", "Gather Merge", "Limit",
           "Unique", "LockRows", "SetOp", "Recursive Union", "BitmapAnd", "BitmapOr"}
NAMES = {"Node Type", "Relation Name", "Alias", "Schema", "Parent Relationship", "Subplan Name", "Index Name", "Function Name",
         "CTE Name", "Join Type", "Strategy", "Command", "Operation", "Partial Mode", "Scan Direction", "Tuplestore Name",
         "Custom Plan Provider", "Sampling Method", "Conflict Resolution", "Conflict Arbiter Indexes", "Output", "Plans",
         "Cache Mode", "Table Function Name", "Remote SQL", "Relations"}
SYSTEM_COLUMNS = {"ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"}


def name(text):
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def columns(text):
    """`alias.column` of an expression, "*" for a whole row."""
    for token in TOKEN.finditer(text):
        if token["alias"] and not token["after"] and not token["call"]:
            yield name(token["alias"]), name(token["column"])


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in NAMES:
                yield from strings(item)


def aliases(value, found):
    """(alias -> (schema, relation)) of all nodes, and all relations."""
    if isinstance(value, dict):
        if "Relation Name" in value:
            relation = (value.get("Schema", "pg_catalog"), value["Relation Name"])
            found.setdefault(value.get("Alias", value["Relation Name"]), relation)
            found.setdefault(None, set()).add(relation)
        for item in value.values():
            aliases(item, found)
    elif isinstance(value, list):
        for item in value:
            aliases(item, found)


def texts(node, exact):
    """The expressions that count; `exact`: whether the node's output is what was asked for."""
    kind = node.get("Node Type", "")
    for key, value in node.items():
        if key not in NAMES:
            yield from strings(value)
    for item in node.get("Output", ()):
        if exact or kind not in SCANS | PASSING or not PLAIN.fullmatch(item):
            yield item
    for child in node.get("Plans", ()):
        own = child.get("Parent Relationship") in ("InitPlan", "SubPlan", "Subquery") or kind == "ModifyTable"
        yield from texts(child, own or (exact and kind in PASSING | {"Subquery Scan"}))


def read(plans, of_relation):
    """(relations, columns) of the plans. `of_relation(schema, name)` gives a relation's columns, for whole rows."""
    relations, found = set(), set()
    for plan in plans:
        if "Plan" not in plan:  # a utility statement
            continue
        named = {}
        aliases(plan["Plan"], named)
        relations |= named.pop(None, set())
        for text in texts(plan["Plan"], True):
            for alias, column in columns(text):
                if alias not in named or column in SYSTEM_COLUMNS:
                    continue
                schema, relation = named[alias]
                for one in of_relation(schema, relation) if column == "*" else [column]:
                    found.add((schema, relation, one))
    return relations, found
