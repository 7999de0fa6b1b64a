-- SHOW, as functions.
CREATE FUNCTION standin_catalog.show_databases()
RETURNS TABLE (database_name text, owner text, primary_region text, secondary_region text, regions text[],
               survival_goal text)
LANGUAGE sql STABLE AS $$
    SELECT datname::text, pg_catalog.pg_get_userbyid(datdba)::text, NULL::text, NULL::text, '{}'::text[], NULL::text
    FROM standin_catalog.pg_database ORDER BY 1
$$;

CREATE FUNCTION standin_catalog.show_schemas() RETURNS TABLE (schema_name text, owner text) LANGUAGE sql STABLE AS $$
    SELECT nspname::text, pg_catalog.pg_get_userbyid(nspowner)::text FROM standin_catalog.pg_namespace ORDER BY 1
$$;

CREATE FUNCTION standin_catalog.show_tables(wanted text)
RETURNS TABLE (schema_name text, table_name text, type text, owner text, estimated_row_count int8,
               locality text)
LANGUAGE sql STABLE AS $$
    SELECT n.nspname::text, c.relname::text,
           CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                ELSE 'table' END,
           pg_catalog.pg_get_userbyid(c.relowner)::text, greatest(c.reltuples, 0)::int8, NULL::text
    FROM standin_catalog.pg_class c JOIN standin_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname = coalesce(wanted, n.nspname)
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    ORDER BY 1, 2
$$;

CREATE FUNCTION standin_catalog.show_sequences() RETURNS TABLE (sequence_schema text, sequence_name text)
LANGUAGE sql STABLE AS $$
    SELECT schemaname::text, sequencename::text FROM standin_catalog.pg_sequences ORDER BY 1, 2
$$;

CREATE FUNCTION standin_catalog.show_enums() RETURNS TABLE (schema text, name text, "values" text[], owner text)
LANGUAGE sql STABLE AS $$
    SELECT n.nspname::text, t.typname::text, array_agg(e.enumlabel::text ORDER BY e.enumsortorder),
           pg_catalog.pg_get_userbyid(t.typowner)::text
    FROM standin_catalog.pg_type t JOIN pg_catalog.pg_enum e ON e.enumtypid = t.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    GROUP BY n.nspname, t.typname, t.typowner ORDER BY 1, 2
$$;

CREATE FUNCTION standin_catalog.show_types() RETURNS TABLE (schema text, name text, owner text)
LANGUAGE sql STABLE AS $$
    SELECT n.nspname::text, t.typname::text, pg_catalog.pg_get_userbyid(t.typowner)::text
    FROM standin_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'c') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
    ORDER BY 1, 2
$$;

CREATE FUNCTION standin_catalog.show_users() RETURNS TABLE (username text, options text[], member_of text[])
LANGUAGE sql STABLE AS $$
    SELECT rolname::text, CASE WHEN rolcanlogin THEN '{}' ELSE '{NOLOGIN}' END::text[], '{}'::text[]
    FROM standin_catalog.pg_roles ORDER BY 1
$$;

CREATE FUNCTION standin_catalog.show_columns(wanted regclass)
RETURNS TABLE (column_name text, data_type text, is_nullable boolean, column_default text, generation_expression text,
               indices text[], is_hidden boolean)
LANGUAGE sql STABLE AS $$
    SELECT a.attname::text, standin_catalog.crdb_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
           CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
           CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) ELSE '' END,
           ARRAY(SELECT c.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
                 WHERE i.indrelid = a.attrelid AND (a.attnum = ANY (i.indkey::int2[]) OR i.indisprimary) ORDER BY 1),
           standin_catalog.is_hidden(a.attrelid, a.attnum)
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = wanted AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
$$;

CREATE FUNCTION standin_catalog.show_indexes(wanted regclass)
RETURNS TABLE (table_name text, index_name text, non_unique boolean, seq_in_index int8, column_name text,
               definition text, direction text, storing boolean, implicit boolean, visible boolean)
LANGUAGE sql STABLE AS $$
    SELECT t.relname::text, x.relname::text, NOT i.indisunique, k.place,
           coalesce(a.attname::text, pg_catalog.pg_get_indexdef(i.indexrelid, k.place::int, true)),
           pg_catalog.pg_get_indexdef(i.indexrelid, k.place::int, true),
           CASE WHEN k.place > i.indnkeyatts THEN 'N/A' WHEN o.option & 1 = 1 THEN 'DESC' ELSE 'ASC' END,
           k.place > i.indnkeyatts, false, true
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)
    LEFT JOIN LATERAL unnest(i.indoption::int2[]) WITH ORDINALITY o (option, place) ON o.place = k.place
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number > 0
    WHERE i.indrelid = wanted ORDER BY 2, 4
$$;

CREATE FUNCTION standin_catalog.show_constraints(wanted regclass)
RETURNS TABLE (table_name text, constraint_name text, constraint_type text, details text, validated boolean)
LANGUAGE sql STABLE AS $$
    SELECT t.relname::text, c.conname::text,
           CASE c.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'u' THEN 'UNIQUE' WHEN 'f' THEN 'FOREIGN KEY'
                ELSE 'CHECK' END,
           standin_catalog.pg_get_constraintdef(c.oid), c.convalidated
    FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
    WHERE c.conrelid = wanted AND c.contype IN ('p', 'u', 'f', 'c') ORDER BY 2
$$;

-- One line for each column, then the keys, indexes, families and constraints.
CREATE FUNCTION standin_catalog.show_create(wanted regclass) RETURNS TABLE (table_name text, create_statement text)
LANGUAGE sql STABLE AS $$
    WITH lines AS (
        SELECT 1 AS part, a.attnum::int AS place, pg_catalog.quote_ident(a.attname) || ' '
            || standin_catalog.crdb_type(a.atttypid, a.atttypmod)
            || CASE WHEN standin_catalog.is_hidden(a.attrelid, a.attnum) THEN ' NOT VISIBLE' ELSE '' END
            || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE ' NULL' END
            || CASE WHEN a.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY'
                    WHEN a.attidentity = 'd' THEN ' GENERATED BY DEFAULT AS IDENTITY'
                    WHEN a.attgenerated <> '' THEN ' AS (' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) || ')'
                        || CASE WHEN pg_catalog.col_description(a.attrelid, a.attnum) LIKE 'standin: %virtual'
                           THEN ' VIRTUAL' ELSE ' STORED' END
                    WHEN d.adbin IS NOT NULL THEN ' DEFAULT '
                        || replace(pg_catalog.pg_get_expr(d.adbin, d.adrelid), 'standin_catalog.', '')
                    ELSE '' END AS line
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = wanted AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT CASE c.contype WHEN 'p' THEN 2 WHEN 'f' THEN 4 WHEN 'c' THEN 6 ELSE 3 END, 0,
               CASE c.contype WHEN 'u' THEN 'UNIQUE INDEX ' || pg_catalog.quote_ident(c.conname) || ' '
                    || replace(standin_catalog.pg_get_constraintdef(c.oid), 'UNIQUE ', '')
                    ELSE 'CONSTRAINT ' || pg_catalog.quote_ident(c.conname) || ' '
                    || standin_catalog.pg_get_constraintdef(c.oid) END
        FROM pg_catalog.pg_constraint c WHERE c.conrelid = wanted AND c.contype IN ('p', 'u', 'f', 'c')
        UNION ALL
        SELECT 3, 1, CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END
            || 'INDEX ' || pg_catalog.quote_ident(x.relname) || ' ('
            || (SELECT string_agg(pg_catalog.pg_get_indexdef(i.indexrelid, place, true) || ' ASC', ', ' ORDER BY place)
                       FROM generate_series(1, i.indnkeyatts) place) || ')'
            || coalesce(' STORING ('
                || (SELECT string_agg(pg_catalog.pg_get_indexdef(i.indexrelid, place, true), ', ' ORDER BY place)
                       FROM generate_series(i.indnkeyatts + 1, i.indnatts) place) || ')', '')
            || coalesce(' WHERE ' || pg_catalog.pg_get_expr(i.indpred, i.indrelid), '')
        FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = wanted
          AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c
                          WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))
        UNION ALL
        SELECT 5, f.n, 'FAMILY ' || pg_catalog.quote_ident(f.name) || ' (' || array_to_string(f.columns, ', ') || ')'
        FROM standin.family f WHERE f.relid = wanted
    )
    SELECT c.relname::text,
        'CREATE TABLE ' || pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) || E' (\n\t' || (SELECT string_agg(line, E',\n\t' ORDER BY part, place, line) FROM lines) || E'\n)'
        || CASE WHEN EXISTS (SELECT 1 FROM standin_catalog.locked l WHERE l.relation = wanted)
           THEN ' WITH (schema_locked = true)' ELSE '' END || ';'
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = wanted
$$;

CREATE FUNCTION standin_catalog.show_triggers(wanted regclass) RETURNS TABLE (trigger_name text, enabled boolean)
LANGUAGE sql STABLE AS $$
    SELECT tgname::text, tgenabled <> 'D' FROM standin_catalog.pg_trigger
    WHERE tgrelid = wanted AND NOT tgisinternal ORDER BY 1
$$;

CREATE FUNCTION standin_catalog.show_create_trigger(wanted_trigger text, wanted regclass)
RETURNS TABLE (trigger_name text, create_statement text) LANGUAGE sql STABLE AS $$
    SELECT tgname::text, pg_catalog.pg_get_triggerdef(oid) || ';' FROM standin_catalog.pg_trigger
    WHERE tgrelid = wanted AND tgname = wanted_trigger AND NOT tgisinternal
$$;

-- Sessions of clients, by their backing processes. The backing sessions are all of one role.
CREATE FUNCTION standin_catalog.show_sessions(processes int4[], users text[])
RETURNS TABLE (node_id int8, session_id text, status text, user_name text, client_address text, application_name text,
               active_queries text, session_start timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT 1::int8, a.pid::text, CASE WHEN a.state = 'active' THEN 'ACTIVE' ELSE 'IDLE' END, c.client,
           '127.0.0.1', coalesce(a.application_name, ''), coalesce(a.query, ''), a.backend_start
    FROM pg_catalog.pg_stat_activity a JOIN unnest(processes, users) AS c (process, client) ON c.process = a.pid
    WHERE a.datname = current_database() ORDER BY a.backend_start
$$;
