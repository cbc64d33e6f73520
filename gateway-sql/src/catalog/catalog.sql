-- The structure of a database as one document. Run as `catalog_query` says.
WITH ns AS (
  SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
  WHERE n.nspname !~ '^pg_(temp|toast_temp)_' AND n.nspname <> 'pg_toast'
), rel AS (
  SELECT c.oid, ns.nspname, c.relname, c.relkind, c.relrowsecurity,
    ns.nspname = ANY (ARRAY['pg_catalog', 'information_schema']::pg_catalog.name[]) AS system
  FROM pg_catalog.pg_class c JOIN ns ON ns.oid = c.relnamespace
  WHERE c.relkind = ANY (ARRAY['r', 'v', 'm', 'p', 'f', 'S', 'c', 'i', 'I']::pg_catalog."char"[]) /*relations*/
), attribute AS (
  SELECT rel.oid, pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname, 'num', a.attnum, 'type', pg_catalog.concat(tn.nspname, '.', t.typname),
      'made_of', CASE WHEN a.attgenerated <> '' THEN coalesce((
        SELECT pg_catalog.json_agg(DISTINCT d.refobjsubid) FROM pg_catalog.pg_depend d
        LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND f.oid = d.objid
        WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid AND d.refobjsubid <> a.attnum
          AND (f.adrelid = a.attrelid AND f.adnum = a.attnum
            OR d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = a.attrelid AND d.objsubid = a.attnum)),
        '[0]'::pg_catalog.json) END) ORDER BY a.attnum) AS list
  FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped AND rel.relkind <> ALL (ARRAY['i', 'I']::pg_catalog."char"[])
  GROUP BY rel.oid
), parent AS (
  SELECT p.oid, pg_catalog.json_agg(p.parent::pg_catalog.int8 ORDER BY p.nr, p.parent) AS list FROM (
    SELECT rel.oid, i.inhparent AS parent, i.inhseqno AS nr FROM rel JOIN pg_catalog.pg_inherits i ON i.inhrelid = rel.oid
    WHERE rel.relkind <> ALL (ARRAY['i', 'I']::pg_catalog."char"[])
    UNION ALL
    SELECT rel.oid, x.indrelid, 0 FROM rel JOIN pg_catalog.pg_index x ON x.indexrelid = rel.oid) p
  GROUP BY p.oid
-- Tables whose foreign keys refer to it.
), referencing AS (
  SELECT rel.oid, pg_catalog.json_agg(k.conrelid::pg_catalog.int8 ORDER BY k.oid) AS list
  FROM rel JOIN pg_catalog.pg_constraint k ON k.confrelid = rel.oid
  WHERE k.contype = 'f' GROUP BY rel.oid
-- What foreign keys do when rows that they refer to go or change.
), acting AS (
  SELECT rel.oid, pg_catalog.json_agg(pg_catalog.json_build_object('table', k.conrelid::pg_catalog.int8, 'on_delete', k.confdeltype,
      'on_update', k.confupdtype, 'refers_to', k.confkey, 'columns', k.conkey) ORDER BY k.oid) AS list
  FROM rel JOIN pg_catalog.pg_constraint k ON k.confrelid = rel.oid
  WHERE k.contype = 'f' AND (k.confdeltype = ANY (ARRAY['c', 'n', 'd']::pg_catalog."char"[]) OR k.confupdtype = ANY (ARRAY['c', 'n', 'd']::pg_catalog."char"[]))
  GROUP BY rel.oid
), rule AS (
  SELECT r.oid, r.ev_class, r.ev_type, r.ev_action::pg_catalog.text AS action
  FROM pg_catalog.pg_rewrite r JOIN rel ON rel.oid = r.ev_class
  WHERE NOT rel.system
), other_rule AS (
  SELECT DISTINCT rule.ev_class AS oid FROM rule WHERE rule.ev_type <> '1'
-- `[relation oid, column number]` from a view's dependencies. Number 0 stands for all columns: a rule which uses a whole
-- row leaves no trace of it in pg_depend, so its text is searched as well.
), reads AS (
  SELECT r.oid, pg_catalog.json_agg(pg_catalog.json_build_array(r.relid::pg_catalog.int8, r.num) ORDER BY r.relid, r.num) AS list FROM (
    SELECT DISTINCT rule.ev_class AS oid, d.refobjid AS relid,
      CASE WHEN rule.action ~ ':varattno 0 ' THEN 0 ELSE d.refobjsubid END AS num
    FROM rule JOIN pg_catalog.pg_depend d
      ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> rule.ev_class
    WHERE rule.ev_type = '1') r
  GROUP BY r.oid
-- A view's functions come from its text too, since built-in ones are pinned and have no dependency.
), calls AS (
  SELECT f.oid, pg_catalog.json_agg(pg_catalog.json_build_array(f.nspname, f.proname) ORDER BY f.nspname, f.proname) AS list FROM (
    SELECT DISTINCT u.ev_class AS oid, n.nspname, p.proname FROM (
      SELECT rule.ev_class, (pg_catalog.regexp_matches(rule.action, ':(?:funcid|aggfnoid|winfnoid) ([0-9]+)', 'g'))[1]::pg_catalog.oid AS fn
      FROM rule WHERE rule.ev_type = '1'
      UNION
      SELECT rule.ev_class, o.oprcode::pg_catalog.oid FROM (
        SELECT r.ev_class, (pg_catalog.regexp_matches(r.action, ':opno ([0-9]+)', 'g'))[1]::pg_catalog.oid AS op
        FROM rule r WHERE r.ev_type = '1') rule
      JOIN pg_catalog.pg_operator o ON o.oid = rule.op WHERE o.oid >= 16384
      UNION
      SELECT rule.ev_class, CASE WHEN o.oid IS NULL THEN d.refobjid ELSE o.oprcode::pg_catalog.oid END
      FROM rule JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
       AND d.refclassid = ANY (ARRAY['pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, 'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid])
      LEFT JOIN pg_catalog.pg_operator o
        ON o.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass
      WHERE rule.ev_type = '1'
    ) u JOIN pg_catalog.pg_proc p ON p.oid = u.fn JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace) f
  GROUP BY f.oid
)
SELECT pg_catalog.json_build_object(
  'server_version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'schemas', (SELECT pg_catalog.json_agg(ns.nspname) FROM ns),
  'relations', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'oid', rel.oid::pg_catalog.int8, 'schema', rel.nspname, 'name', rel.relname, 'kind', rel.relkind,
      'rls', rel.relrowsecurity,
      'definition', CASE WHEN rel.relkind = ANY (ARRAY['v', 'm']::pg_catalog."char"[]) AND NOT rel.system
          THEN pg_catalog.pg_get_viewdef(rel.oid) END,
      'rules', other_rule.oid IS NOT NULL,
      'columns', coalesce(attribute.list, '[]'::pg_catalog.json),
      'parents', coalesce(parent.list, '[]'::pg_catalog.json),
      'referencing', coalesce(referencing.list, '[]'::pg_catalog.json),
      'acting', coalesce(acting.list, '[]'::pg_catalog.json),
      'reads', coalesce(reads.list, '[]'::pg_catalog.json),
      'calls', coalesce(calls.list, '[]'::pg_catalog.json)))
    FROM rel LEFT JOIN attribute ON attribute.oid = rel.oid LEFT JOIN parent ON parent.oid = rel.oid
    LEFT JOIN referencing ON referencing.oid = rel.oid LEFT JOIN acting ON acting.oid = rel.oid LEFT JOIN other_rule ON other_rule.oid = rel.oid
    LEFT JOIN reads ON reads.oid = rel.oid LEFT JOIN calls ON calls.oid = rel.oid), '[]'::pg_catalog.json),
  'functions', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'oid', p.oid::pg_catalog.int8, 'schema', n.nspname, 'name', p.proname, 'kind', p.prokind,
      'volatility', p.provolatile, 'language', l.lanname,
      'min_args', p.pronargs - p.pronargdefaults,
      'max_args', CASE WHEN p.provariadic <> 0::pg_catalog.oid THEN NULL ELSE p.pronargs END,
      'extension', EXISTS (SELECT FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
          AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'),
-- Results without a name are called `column` and their place, as the server calls them; a single one is called as the
-- function is, and is left out.
      'returns', (SELECT pg_catalog.json_agg(CASE WHEN o.name <> '' THEN o.name ELSE pg_catalog.concat('column', o.place) END ORDER BY o.place)
          FROM (SELECT a.name, pg_catalog.row_number() OVER (ORDER BY a.nr) AS place
            FROM ROWS FROM (pg_catalog.unnest(p.proargnames), pg_catalog.unnest(p.proargmodes)) WITH ORDINALITY a(name, mode, nr)
            WHERE a.mode = ANY (ARRAY['o', 'b', 't']::pg_catalog."char"[])) o
          HAVING pg_catalog.count(*) > 1 OR pg_catalog.max(o.name) <> ''),
      'returns_relation', (SELECT t.typrelid::pg_catalog.int8 FROM pg_catalog.pg_type t
          WHERE t.oid = p.prorettype AND t.typrelid <> 0::pg_catalog.oid)))
    FROM pg_catalog.pg_proc p JOIN ns n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE p.oid >= 16384 /*functions*/), '[]'::pg_catalog.json),
  'operators', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', n.nspname, 'name', o.oprname,
      'left', (SELECT pg_catalog.json_build_array(tn.nspname, t.typname) FROM pg_catalog.pg_type t
          JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace WHERE t.oid = o.oprleft),
      'right', (SELECT pg_catalog.json_build_array(tn.nspname, t.typname) FROM pg_catalog.pg_type t
          JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace WHERE t.oid = o.oprright),
      'function', pg_catalog.json_build_array(pn.nspname, p.proname)) ORDER BY o.oid)
    FROM pg_catalog.pg_operator o JOIN ns n ON n.oid = o.oprnamespace
    JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode::pg_catalog.oid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
    WHERE o.oid >= 16384 /*operators*/), '[]'::pg_catalog.json),
  'casts', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'source', pg_catalog.json_build_array(sn.nspname, s.typname),
      'target', pg_catalog.json_build_array(tn.nspname, t.typname), 'context', k.castcontext,
      'function', pg_catalog.json_build_array(pn.nspname, p.proname)) ORDER BY k.oid)
    FROM pg_catalog.pg_cast k JOIN pg_catalog.pg_type s ON s.oid = k.castsource
    JOIN pg_catalog.pg_namespace sn ON sn.oid = s.typnamespace
    JOIN pg_catalog.pg_type t ON t.oid = k.casttarget JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
    WHERE k.oid >= 16384 /*casts*/), '[]'::pg_catalog.json),
  'types', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'oid', t.oid::pg_catalog.int8, 'schema', n.nspname, 'name', t.typname, 'kind', t.typtype,
      'base', (SELECT pg_catalog.concat(bn.nspname, '.', b.typname) FROM pg_catalog.pg_type b
          JOIN pg_catalog.pg_namespace bn ON bn.oid = b.typnamespace WHERE b.oid = t.typbasetype)))
    FROM pg_catalog.pg_type t JOIN ns n ON n.oid = t.typnamespace
    WHERE t.oid >= 16384 AND t.typcategory <> 'A' /*types*/), '[]'::pg_catalog.json)
)::pg_catalog.text
