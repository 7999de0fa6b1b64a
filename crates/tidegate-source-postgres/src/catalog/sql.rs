//! The query behind the list of tables.

/// One row for each ordinary table, leaf partition and foreign table outside system schemas. One query, so that what is
/// said of a table was all true at one moment. Columns and indexes are parallel arrays.
///
/// State tables of other migrations, whatever schema they are in, are no tables of an application. Only they are left
/// out, and not all of their schema: it may hold an application's tables besides.
pub(super) const TABLES: &str = "
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence, c.relreplident::text AS identity, c.relfilenode, c.reltuples,
       coalesce(pg_table_size(c.oid), 0) AS bytes,
       pg_get_userbyid(c.relowner)::text AS owner,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       coalesce(has_table_privilege(c.oid, 'SELECT'), false) AS may_select,
       has_schema_privilege(n.oid, 'USAGE') AS may_use_schema,
       row_security_active(c.oid) AS row_security,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS has_children,
       above.ancestor_schemas, above.ancestor_names,
       col.*, idx.*
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT coalesce(array_agg(an.nspname::text ORDER BY a.place), '{}') AS ancestor_schemas,
              coalesce(array_agg(ac.relname::text ORDER BY a.place), '{}') AS ancestor_names
         FROM pg_partition_ancestors(c.oid) WITH ORDINALITY AS a (relid, place)
         JOIN pg_class ac ON ac.oid = a.relid
         JOIN pg_namespace an ON an.oid = ac.relnamespace
        WHERE a.relid <> c.oid) above
 CROSS JOIN LATERAL (
       SELECT coalesce(array_agg(a.attnum ORDER BY a.attnum), '{}') AS column_numbers,
              coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') AS column_names,
              coalesce(array_agg(a.atttypid ORDER BY a.attnum), '{}') AS column_types,
              coalesce(array_agg(a.atttypmod ORDER BY a.attnum), '{}') AS column_modifiers,
              coalesce(array_agg(a.attnotnull ORDER BY a.attnum), '{}') AS column_not_null,
              coalesce(array_agg(a.attgenerated <> '' ORDER BY a.attnum), '{}') AS column_generated
         FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) col
 CROSS JOIN LATERAL (
       SELECT coalesce(array_agg(ic.relname::text ORDER BY ic.oid), '{}') AS index_names,
              coalesce(array_agg(i.indisprimary ORDER BY ic.oid), '{}') AS index_primary,
              coalesce(array_agg(i.indisreplident ORDER BY ic.oid), '{}') AS index_chosen,
              coalesce(array_agg(i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
                                 ORDER BY ic.oid), '{}') AS index_plain,
              coalesce(array_agg(array_to_string((i.indkey::int2[])[0:i.indnkeyatts - 1], ' ')
                                 ORDER BY ic.oid), '{}') AS index_keys
         FROM pg_index i
         JOIN pg_class ic ON ic.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisunique) idx
 WHERE c.relkind IN ('r', 'f') AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT (c.relname IN ('schema_version', 'migration', 'checkpoint', 'owner', 'copy_table', 'copy_chunk',
                          'target_object', 'request')
            AND EXISTS (SELECT FROM pg_class v
                         WHERE v.relnamespace = n.oid AND v.relname = 'schema_version' AND v.relkind = 'r')
            AND EXISTS (SELECT FROM pg_class m
                         WHERE m.relnamespace = n.oid AND m.relname = 'migration' AND m.relkind = 'r'
                           AND 3 = (SELECT count(*) FROM pg_attribute a
                                     WHERE a.attrelid = m.oid AND NOT a.attisdropped
                                       AND a.attname IN ('generation', 'phase', 'side'))))
 ORDER BY n.nspname, c.relname";
