//! The one query that reads the structure.

/// One SELECT that returns one row with one text column: the JSON document which [`crate::Catalog::from_json`] reads.
/// For PostgreSQL 12 to 18. Run it on the gateway's own connection, with `search_path = pg_catalog`.
///
/// A view's `reads` are `[relation oid, column number]` pairs from its rule's dependencies. Number 0 stands for all
/// columns: a rule which uses a whole row leaves no trace of it in `pg_depend`, so its text is searched as well. Its
/// functions come from the rule's text too, since built-in ones are pinned and have no dependency entry. Of a
/// function's results those without a name are called `column` and their place, as the server calls them; a single one
/// is called as the function is, and is left out.
pub const CATALOG_QUERY: &str = r#"
WITH ns AS (
  SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace n
  WHERE n.nspname !~ '^pg_(temp|toast_temp)_' AND n.nspname <> 'pg_toast'
), rel AS (
  SELECT c.oid, ns.nspname, c.relname, c.relkind, c.relrowsecurity, c.relhasrules
  FROM pg_catalog.pg_class c JOIN ns ON ns.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S', 'c', 'i', 'I')
), rule AS (
  SELECT r.oid, r.ev_class, r.ev_type, r.ev_action::pg_catalog.text AS action
  FROM pg_catalog.pg_rewrite r JOIN rel ON rel.oid = r.ev_class
  WHERE rel.nspname NOT IN ('pg_catalog', 'information_schema')
), rule_reads AS (
  SELECT DISTINCT rule.ev_class, d.refobjid AS relid,
         CASE WHEN rule.action ~ ':varattno 0 ' THEN 0 ELSE d.refobjsubid END AS num
  FROM rule JOIN pg_catalog.pg_depend d
    ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
   AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> rule.ev_class
  WHERE rule.ev_type = '1'
), rule_functions AS (
  SELECT DISTINCT u.ev_class, n.nspname, p.proname FROM (
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
     AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
    LEFT JOIN pg_catalog.pg_operator o
      ON o.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass
    WHERE rule.ev_type = '1'
  ) u JOIN pg_catalog.pg_proc p ON p.oid = u.fn JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
), ext AS (
  SELECT d.objid FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
)
SELECT pg_catalog.json_build_object(
  'server_version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'schemas', (SELECT pg_catalog.json_agg(ns.nspname) FROM ns),
  'relations', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'oid', rel.oid::pg_catalog.int8, 'schema', rel.nspname, 'name', rel.relname, 'kind', rel.relkind,
      'rls', rel.relrowsecurity,
      'definition', CASE WHEN rel.relkind IN ('v', 'm') AND rel.nspname NOT IN ('pg_catalog', 'information_schema')
          THEN pg_catalog.pg_get_viewdef(rel.oid) END,
      'rules', EXISTS (SELECT FROM rule WHERE rule.ev_class = rel.oid AND rule.ev_type <> '1'),
      'columns', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
            'name', a.attname, 'num', a.attnum, 'type', tn.nspname || '.' || t.typname) ORDER BY a.attnum)
          FROM pg_catalog.pg_attribute a
          JOIN pg_catalog.pg_type t ON t.oid = a.atttypid JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
          WHERE a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped AND rel.relkind NOT IN ('i', 'I')),
          '[]'::pg_catalog.json),
      'parents', coalesce((SELECT pg_catalog.json_agg(p.parent::pg_catalog.int8) FROM (
            SELECT i.inhparent AS parent FROM pg_catalog.pg_inherits i
            WHERE i.inhrelid = rel.oid AND rel.relkind NOT IN ('i', 'I')
            UNION ALL SELECT x.indrelid FROM pg_catalog.pg_index x WHERE x.indexrelid = rel.oid) p),
          '[]'::pg_catalog.json),
      'referencing', coalesce((SELECT pg_catalog.json_agg(k.conrelid::pg_catalog.int8) FROM pg_catalog.pg_constraint k
          WHERE k.confrelid = rel.oid AND k.contype = 'f'), '[]'::pg_catalog.json),
      'reads', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(rr.relid::pg_catalog.int8, rr.num))
          FROM rule_reads rr WHERE rr.ev_class = rel.oid), '[]'::pg_catalog.json),
      'calls', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(rf.nspname, rf.proname))
          FROM rule_functions rf WHERE rf.ev_class = rel.oid), '[]'::pg_catalog.json)))
    FROM rel),
  'functions', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', n.nspname, 'name', p.proname, 'kind', p.prokind, 'volatility', p.provolatile, 'language', l.lanname,
      'min_args', p.pronargs - p.pronargdefaults,
      'max_args', CASE WHEN p.provariadic <> 0 THEN NULL ELSE p.pronargs END,
      'extension', p.oid IN (SELECT ext.objid FROM ext),
      'returns', (SELECT pg_catalog.json_agg(coalesce(nullif(o.name, ''), pg_catalog.concat('column', o.place)) ORDER BY o.place)
          FROM (SELECT a.name, pg_catalog.row_number() OVER (ORDER BY a.nr) AS place
            FROM ROWS FROM (pg_catalog.unnest(p.proargnames), pg_catalog.unnest(p.proargmodes)) WITH ORDINALITY a(name, mode, nr)
            WHERE a.mode IN ('o', 'b', 't')) o
          HAVING pg_catalog.count(*) > 1 OR pg_catalog.max(o.name) <> ''),
      'returns_relation', (SELECT t.typrelid::pg_catalog.int8 FROM pg_catalog.pg_type t
          WHERE t.oid = p.prorettype AND t.typrelid <> 0)))
    FROM pg_catalog.pg_proc p JOIN ns n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') OR p.oid >= 16384), '[]'::pg_catalog.json),
  'operators', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', n.nspname, 'name', o.oprname,
      'left', (SELECT pg_catalog.json_build_array(tn.nspname, t.typname) FROM pg_catalog.pg_type t
          JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace WHERE t.oid = o.oprleft),
      'right', (SELECT pg_catalog.json_build_array(tn.nspname, t.typname) FROM pg_catalog.pg_type t
          JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace WHERE t.oid = o.oprright),
      'function', pg_catalog.json_build_array(pn.nspname, p.proname)))
    FROM pg_catalog.pg_operator o JOIN ns n ON n.oid = o.oprnamespace
    JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode::pg_catalog.oid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
    WHERE o.oid >= 16384), '[]'::pg_catalog.json),
  'casts', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'source', pg_catalog.json_build_array(sn.nspname, s.typname),
      'target', pg_catalog.json_build_array(tn.nspname, t.typname), 'context', k.castcontext,
      'function', pg_catalog.json_build_array(pn.nspname, p.proname)))
    FROM pg_catalog.pg_cast k JOIN pg_catalog.pg_type s ON s.oid = k.castsource
    JOIN pg_catalog.pg_namespace sn ON sn.oid = s.typnamespace
    JOIN pg_catalog.pg_type t ON t.oid = k.casttarget JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
    WHERE k.oid >= 16384), '[]'::pg_catalog.json),
  'types', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'schema', n.nspname, 'name', t.typname, 'kind', t.typtype))
    FROM pg_catalog.pg_type t JOIN ns n ON n.oid = t.typnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND t.typcategory <> 'A'), '[]'::pg_catalog.json)
)::pg_catalog.text
"#;
