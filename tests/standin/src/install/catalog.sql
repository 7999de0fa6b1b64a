-- What the names of CockroachDB mean in the backing server.
CREATE SCHEMA standin_catalog;
GRANT USAGE ON SCHEMA standin_catalog TO PUBLIC;

-- Fails on purpose: crdb_internal.force_error, and the end of a transaction in which the stand-in found an error.
CREATE FUNCTION standin_catalog.fail(code text, message text) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', message USING ERRCODE = code;
END $$;

-- crdb_internal.force_retry: fails as long as the transaction is younger than this.
CREATE FUNCTION standin_catalog.force_retry(span interval) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
    IF clock_timestamp() - now() < span THEN
        RAISE EXCEPTION 'restart transaction: TransactionRetryWithProtoRefreshError: forced by %',
            'crdb_internal.force_retry()'
            USING ERRCODE = '40001';
    END IF;
    RETURN 0;
END $$;

-- Numbers that grow with time and are above 2^53, as those of a cluster of one node.
CREATE SEQUENCE standin_catalog.rowids MAXVALUE 32767 CYCLE;
CREATE FUNCTION standin_catalog.unique_rowid() RETURNS int8 LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
    SELECT ((extract(epoch FROM clock_timestamp()) * 100000)::int8 - 142007040000000) << 15
           | pg_catalog.nextval('standin_catalog.rowids')
$$;

CREATE FUNCTION standin_catalog.uuid_v4() RETURNS bytea LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.decode(replace(pg_catalog.gen_random_uuid()::text, '-', ''), 'hex')
$$;

CREATE FUNCTION standin_catalog.fnv32(value text) RETURNS int8 LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    hash int8 := 2166136261;
    bytes bytea := convert_to(value, 'UTF8');
BEGIN
    FOR at IN 0 .. length(bytes) - 1 LOOP
        hash := (hash * 16777619) & 4294967295;
        hash := hash # get_byte(bytes, at);
    END LOOP;
    RETURN hash;
END $$;

CREATE FUNCTION standin_catalog.follower_read_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT pg_catalog.statement_timestamp() - interval '4.2 seconds'
$$;

-- Locks nothing, as in CockroachDB.
CREATE FUNCTION standin_catalog.pg_try_advisory_lock(key int8) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION standin_catalog.pg_advisory_unlock(key int8) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';

-- a // b is the integer part of the quotient.
CREATE FUNCTION standin_catalog.floor_division(a int8, b int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT a / b';
CREATE FUNCTION standin_catalog.floor_division(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE
    AS 'SELECT pg_catalog.div(a, b)';
CREATE FUNCTION standin_catalog.floor_division(a float8, b float8) RETURNS float8 LANGUAGE sql IMMUTABLE
    AS 'SELECT pg_catalog.trunc(a / b)';
CREATE OPERATOR pg_catalog.// (LEFTARG = int8, RIGHTARG = int8, FUNCTION = standin_catalog.floor_division);
CREATE OPERATOR pg_catalog.// (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = standin_catalog.floor_division);
CREATE OPERATOR pg_catalog.// (LEFTARG = float8, RIGHTARG = float8, FUNCTION = standin_catalog.floor_division);

-- A hidden column is marked by its comment.
CREATE FUNCTION standin_catalog.is_hidden(relation oid, attribute int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(pg_catalog.col_description(relation, attribute) LIKE 'standin: hidden%', false)
$$;

-- Tables whose schema must not be changed: schema_locked.
CREATE TABLE standin_catalog.locked (relation oid PRIMARY KEY);
CREATE FUNCTION standin_catalog.set_locked(wanted regclass, locked boolean) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER AS $$
BEGIN
    DELETE FROM standin_catalog.locked WHERE relation = wanted;
    IF locked THEN
        INSERT INTO standin_catalog.locked VALUES (wanted);
    END IF;
END $$;
GRANT SELECT ON standin_catalog.locked TO PUBLIC;

-- Column families of a table with more than one.
CREATE FUNCTION standin_catalog.add_family(wanted regclass, place int, family text, members text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER AS $$
    INSERT INTO standin.family (relid, n, name, columns) VALUES (wanted, place, family, members)
$$;

-- Names of the stand-in's own that no catalog shows.
CREATE FUNCTION standin_catalog.is_own(name name) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT name ~ '^(standin$|standin_)'
$$;
CREATE FUNCTION standin_catalog.own_schemas() RETURNS oid[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(oid), '{}') FROM pg_catalog.pg_namespace WHERE standin_catalog.is_own(nspname)
$$;

-- The columns of a table, found as a statement of this session would find it, with the place in the primary key.
CREATE FUNCTION standin_catalog.table_columns(wanted_schema text, wanted_table text)
RETURNS TABLE (schema_name text, table_name text, column_name text, hidden boolean, generated boolean, key_place int,
               locked boolean, stored boolean)
LANGUAGE sql STABLE AS $$
    SELECT n.nspname::text, c.relname::text, a.attname::text, standin_catalog.is_hidden(c.oid, a.attnum),
           a.attgenerated <> '', array_position(i.indkey::int2[], a.attnum) - array_lower(i.indkey::int2[], 1),
           EXISTS (SELECT 1 FROM standin_catalog.locked l WHERE l.relation = c.oid), c.relkind IN ('r', 'p')
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
    WHERE c.oid = pg_catalog.to_regclass(
              coalesce(pg_catalog.quote_ident(wanted_schema) || '.', '') || pg_catalog.quote_ident(wanted_table))
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY a.attnum
$$;

-- Types as CockroachDB writes them.
CREATE FUNCTION standin_catalog.crdb_type(type oid, modifier int) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    found pg_catalog.pg_type;
    length text := CASE WHEN modifier > 4 THEN '(' || modifier - 4 || ')' ELSE '' END;
BEGIN
    SELECT * INTO found FROM pg_catalog.pg_type t WHERE t.oid = type;
    IF found.typcategory = 'A' AND found.typelem <> 0 THEN
        RETURN standin_catalog.crdb_type(found.typelem, modifier) || '[]';
    END IF;
    IF found.typtype <> 'b' THEN
        RETURN (SELECT pg_catalog.quote_ident(nspname) || '.' FROM pg_catalog.pg_namespace
                WHERE oid = found.typnamespace) || pg_catalog.quote_ident(found.typname);
    END IF;
    RETURN CASE found.typname
        WHEN 'int2' THEN 'INT2' WHEN 'int4' THEN 'INT4' WHEN 'int8' THEN 'INT8'
        WHEN 'float4' THEN 'FLOAT4' WHEN 'float8' THEN 'FLOAT8' WHEN 'bool' THEN 'BOOL'
        WHEN 'text' THEN 'STRING' WHEN 'bytea' THEN 'BYTES' WHEN 'name' THEN 'NAME' WHEN 'char' THEN '"char"'
        WHEN 'varchar' THEN 'VARCHAR' || length
        WHEN 'bpchar' THEN 'CHAR' || CASE length WHEN '(1)' THEN '' ELSE length END
        WHEN 'bit' THEN 'BIT' || CASE WHEN modifier > 1 THEN '(' || modifier || ')' ELSE '' END
        WHEN 'varbit' THEN 'VARBIT' || CASE WHEN modifier > 0 THEN '(' || modifier || ')' ELSE '' END
        WHEN 'numeric' THEN 'DECIMAL' || CASE
            WHEN modifier < 4 THEN ''
            WHEN ((modifier - 4) & 65535) = 0 THEN '(' || ((modifier - 4) >> 16) || ')'
            ELSE '(' || ((modifier - 4) >> 16) || ',' || ((modifier - 4) & 65535) || ')' END
        WHEN 'timestamptz' THEN 'TIMESTAMPTZ' || CASE WHEN modifier >= 0 THEN '(' || modifier || ')' ELSE '' END
        WHEN 'timestamp' THEN 'TIMESTAMP' || CASE WHEN modifier >= 0 THEN '(' || modifier || ')' ELSE '' END
        WHEN 'timetz' THEN 'TIMETZ' || CASE WHEN modifier >= 0 THEN '(' || modifier || ')' ELSE '' END
        WHEN 'time' THEN 'TIME' || CASE WHEN modifier >= 0 THEN '(' || modifier || ')' ELSE '' END
        ELSE upper(found.typname) END;
END $$;

-- Constraints as CockroachDB writes them: keys have directions.
CREATE FUNCTION standin_catalog.pg_get_constraintdef(wanted oid, pretty boolean DEFAULT false) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN c.contype IN ('p', 'u') THEN
        CASE c.contype WHEN 'p' THEN 'PRIMARY KEY (' ELSE 'UNIQUE (' END
        || (SELECT string_agg(pg_catalog.quote_ident(a.attname) || ' ASC', ', ' ORDER BY k.place)
            FROM unnest(c.conkey) WITH ORDINALITY k (number, place)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number) || ')'
        ELSE pg_catalog.pg_get_constraintdef(c.oid, pretty) END
    FROM pg_catalog.pg_constraint c WHERE c.oid = wanted
$$;

-- Catalog tables without what is the stand-in's own.
CREATE VIEW standin_catalog.pg_namespace AS SELECT * FROM pg_catalog.pg_namespace
    WHERE NOT standin_catalog.is_own(nspname) AND nspname NOT LIKE 'pg\_toast%' AND nspname NOT LIKE 'pg\_temp%';
CREATE VIEW standin_catalog.pg_class AS SELECT * FROM pg_catalog.pg_class
    WHERE relnamespace <> ALL (standin_catalog.own_schemas()) AND relkind <> 't';
-- Without the columns that no view can have (attmissingval).
DO $$
DECLARE
    columns text := (SELECT string_agg('a.' || attname, ', ' ORDER BY attnum) FROM pg_catalog.pg_attribute
                     WHERE attrelid = 'pg_catalog.pg_attribute'::regclass AND attnum > 0
                       AND atttypid <> 'pg_catalog.anyarray'::regtype);
BEGIN
    EXECUTE 'CREATE VIEW standin_catalog.pg_attribute AS SELECT ' || columns || ' FROM pg_catalog.pg_attribute a '
        'WHERE attnum > 0 AND EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = a.attrelid '
        'AND c.relnamespace <> ALL (standin_catalog.own_schemas()))';
END $$;
CREATE VIEW standin_catalog.pg_type AS SELECT * FROM pg_catalog.pg_type
    WHERE typnamespace <> ALL (standin_catalog.own_schemas());
CREATE VIEW standin_catalog.pg_proc AS SELECT * FROM pg_catalog.pg_proc
    WHERE pronamespace <> ALL (standin_catalog.own_schemas());
CREATE VIEW standin_catalog.pg_constraint AS SELECT * FROM pg_catalog.pg_constraint
    WHERE connamespace <> ALL (standin_catalog.own_schemas());
CREATE VIEW standin_catalog.pg_index AS SELECT i.* FROM pg_catalog.pg_index i
    WHERE EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = i.indrelid
        AND c.relnamespace <> ALL (standin_catalog.own_schemas()) AND c.relkind <> 't');
CREATE VIEW standin_catalog.pg_trigger AS SELECT * FROM pg_catalog.pg_trigger WHERE NOT standin_catalog.is_own(tgname);
CREATE VIEW standin_catalog.pg_database AS SELECT * FROM pg_catalog.pg_database
    WHERE datname NOT LIKE 'template%' AND datname NOT LIKE 'tidegate\_standin\_template%';
CREATE VIEW standin_catalog.pg_roles AS SELECT * FROM pg_catalog.pg_roles
    WHERE rolname NOT LIKE 'pg\_%' AND rolname <> 'postgres';
CREATE VIEW standin_catalog.pg_user AS SELECT * FROM pg_catalog.pg_user WHERE usename <> 'postgres';
CREATE VIEW standin_catalog.pg_description AS SELECT * FROM pg_catalog.pg_description
    WHERE description NOT LIKE 'standin: %';
-- The value before the next one; NULL before the first.
CREATE FUNCTION standin_catalog.sequence_value(wanted regclass, start int8, step int8) RETURNS int8 LANGUAGE plpgsql
STABLE SECURITY DEFINER AS $$
DECLARE
    found int8;
BEGIN
    EXECUTE format('SELECT CASE WHEN is_called THEN last_value WHEN last_value <> %s THEN last_value - (%s) END FROM %s',
                   start, step, wanted) INTO found;
    RETURN found;
END $$;
CREATE VIEW standin_catalog.pg_sequences AS
    SELECT schemaname, sequencename, sequenceowner, data_type, start_value, min_value, max_value, increment_by, cycle,
           cache_size, standin_catalog.sequence_value(format('%I.%I', schemaname, sequencename)::regclass, start_value,
                                                      increment_by) AS last_value
    FROM pg_catalog.pg_sequences WHERE NOT standin_catalog.is_own(schemaname);
CREATE VIEW standin_catalog.pg_sequence AS SELECT s.* FROM pg_catalog.pg_sequence s
    WHERE EXISTS (SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = s.seqrelid
        AND c.relnamespace <> ALL (standin_catalog.own_schemas()));
DO $$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['pg_indexes', 'pg_tables', 'pg_views', 'pg_matviews', 'pg_policy']
    LOOP
        EXECUTE format('CREATE VIEW standin_catalog.%I AS SELECT * FROM pg_catalog.%I', relation, relation)
            || CASE WHEN relation = 'pg_policy' THEN '' ELSE ' WHERE NOT standin_catalog.is_own(schemaname)' END;
    END LOOP;
    FOREACH relation IN ARRAY ARRAY['pg_attrdef', 'pg_collation', 'pg_depend', 'pg_enum', 'pg_extension', 'pg_inherits',
        'pg_language', 'pg_range', 'pg_tablespace', 'pg_am', 'pg_authid', 'pg_auth_members', 'pg_settings',
        'pg_operator', 'pg_cast', 'pg_aggregate', 'pg_rewrite', 'pg_shdescription', 'pg_opclass'] LOOP
        EXECUTE format('CREATE VIEW standin_catalog.%I AS SELECT * FROM pg_catalog.%I', relation, relation);
    END LOOP;
    FOREACH relation IN ARRAY ARRAY['pg_publication', 'pg_publication_rel', 'pg_publication_tables',
        'pg_replication_slots', 'pg_stat_activity', 'pg_stat_replication', 'pg_subscription', 'pg_stat_user_tables',
        'pg_stat_database', 'pg_largeobject', 'pg_replication_origin', 'pg_replication_origin_status',
        'pg_stat_subscription', 'pg_prepared_xacts', 'pg_foreign_table', 'pg_foreign_server', 'pg_event_trigger',
        'pg_locks', 'pg_statistic_ext'] LOOP
        EXECUTE format('CREATE VIEW standin_catalog.%I AS SELECT * FROM pg_catalog.%I WHERE false', relation, relation);
    END LOOP;
END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA standin_catalog TO PUBLIC;
