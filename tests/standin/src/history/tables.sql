-- The logs of tables, and how they follow the tables. After commits.sql.
-- Schemas of users, neither the server's nor the stand-in's.
CREATE OR REPLACE FUNCTION standin.has_users(schema oid) RETURNS boolean LANGUAGE sql STABLE
RETURN (
    SELECT n.nspname NOT IN ('pg_catalog', 'information_schema', 'crdb_internal')
        AND n.nspname !~ '^(standin|pg_toast|pg_temp)'
    FROM pg_catalog.pg_namespace n WHERE n.oid = schema
);

CREATE OR REPLACE FUNCTION standin.columns_of(relid oid) RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT jsonb_agg(jsonb_build_object(
        'n', a.attnum, 'name', a.attname, 'type', a.atttypid::int8, 'typmod', a.atttypmod) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = relid AND a.attnum > 0 AND NOT a.attisdropped
);

CREATE OR REPLACE FUNCTION standin.keys_of(relid oid) RETURNS int2[] LANGUAGE sql STABLE
RETURN (
    SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1]
    FROM pg_catalog.pg_index i WHERE i.indrelid = relid AND i.indisprimary
);

-- Notes what ends every feed on a table.
CREATE OR REPLACE FUNCTION standin.record(relid oid, kind text, name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM standin.touch();
    INSERT INTO standin.event (xid, relid, kind, name) VALUES (pg_current_xact_id(), relid, kind, name);
END $$;

-- Makes one trigger, on statements, which also fires where the session plays a replica.
CREATE OR REPLACE FUNCTION standin.write_trigger(relid oid, name text, event text, rows text, body text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION standin.%s_%s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L',
        name, relid, format('BEGIN %s RETURN NULL; END', body));
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER standin_%1$s %2$s ON %3$s %4$s FOR EACH STATEMENT '
            'EXECUTE FUNCTION standin.%1$s_%5$s()',
        name, event, relid::regclass, rows, relid);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER standin_%s', relid::regclass, name);
END $$;

-- Makes the triggers of a table. They log what left (`plus` false) and then what came (`plus` true): per key the first
-- row tells what was before the transaction and the last one what is after it, also when keys move between rows.
CREATE OR REPLACE FUNCTION standin.write_triggers(relid oid, columns jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    names text;
    logged text;
    log_rows text;
    left_rows text;
    came_rows text;
    old_table text := 'REFERENCING OLD TABLE AS standin_old';
    new_table text := 'NEW TABLE AS standin_new';
    touch text := ' IF FOUND THEN PERFORM standin.touch(); END IF;';
BEGIN
    SELECT string_agg(quote_ident(c->>'name'), ', ' ORDER BY (c->>'n')::int),
        string_agg('c' || (c->>'n'), ', ' ORDER BY (c->>'n')::int)
        INTO names, logged FROM jsonb_array_elements(columns) c;
    log_rows := format('INSERT INTO standin.log_%s (x, plus, %s) SELECT pg_current_xact_id(), ', relid, logged);
    left_rows := log_rows || format('false, %s FROM standin_old;', names);
    came_rows := log_rows || format('true, %s FROM standin_new;', names);
    PERFORM standin.write_trigger(relid, 'insert', 'AFTER INSERT', 'REFERENCING ' || new_table, came_rows || touch);
    PERFORM standin.write_trigger(relid, 'update', 'AFTER UPDATE', old_table || ' ' || new_table,
        left_rows || came_rows || touch);
    PERFORM standin.write_trigger(relid, 'delete', 'AFTER DELETE', old_table, left_rows || touch);
    PERFORM standin.write_trigger(relid, 'truncate', 'BEFORE TRUNCATE', '',
        log_rows || format('false, %s FROM %s;', names, relid::regclass)
        || ' PERFORM standin.record(TG_RELID, ''truncate'', TG_TABLE_NAME);');
END $$;

CREATE OR REPLACE FUNCTION standin.index_log(relid oid, keys int2[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass(format('standin.log_%s_key', relid)) IS NOT NULL THEN
        EXECUTE format('DROP INDEX standin.log_%s_key', relid);
    END IF;
    EXECUTE format('CREATE INDEX log_%s_key ON standin.log_%s (%s, n)', relid, relid,
        (SELECT string_agg('c' || k, ', ' ORDER BY o) FROM unnest(keys) WITH ORDINALITY AS u (k, o)));
END $$;

-- Gives a table its history, or lets the history follow a change of the table.
CREATE OR REPLACE FUNCTION standin.follow(relid oid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    old standin.tracked%ROWTYPE;
    now_columns jsonb := standin.columns_of(relid);
    now_keys int2[] := standin.keys_of(relid);
    log text := format('standin.log_%s', relid);
    part record;
    backfill boolean := false;
    changed boolean := false;
BEGIN
    IF now_keys IS NULL OR now_columns IS NULL THEN
        RETURN;
    END IF;
    SELECT * INTO old FROM standin.tracked t WHERE t.relid = follow.relid;
    IF NOT FOUND THEN
        EXECUTE format(
            'CREATE TABLE %s AS SELECT NULL::xid8 AS x, NULL::bigint AS n, NULL::boolean AS plus, %s FROM %s '
                'WITH NO DATA',
            log,
            (SELECT string_agg(format('%I AS c%s', c->>'name', c->>'n'), ', ')
                FROM jsonb_array_elements(now_columns) c),
            relid::regclass);
        EXECUTE format('ALTER TABLE %s ALTER n SET NOT NULL, ALTER x SET NOT NULL, ALTER plus SET NOT NULL', log);
        EXECUTE format('ALTER TABLE %s ALTER n ADD GENERATED ALWAYS AS IDENTITY', log);
        EXECUTE format('CREATE INDEX ON %s (x, n)', log);
        EXECUTE format('GRANT SELECT ON %s TO PUBLIC', log);
        PERFORM standin.index_log(relid, now_keys);
        INSERT INTO standin.tracked VALUES (relid, now_columns, now_keys, standin.settle(0));
        PERFORM standin.write_triggers(relid, now_columns);
        RETURN;
    END IF;
    IF old.columns = now_columns AND old.keys = now_keys THEN
        RETURN;
    END IF;
    FOR part IN
        SELECT coalesce(o.n, c.n) AS n, o.n IS NULL AS added, c.n IS NULL AS dropped,
            o.type <> c.type OR o.typmod <> c.typmod AS altered, c.type, c.typmod,
            a.attnotnull OR a.atthasdef OR a.attidentity <> '' AS filled
        FROM jsonb_to_recordset(old.columns) AS o (n int2, name text, type int8, typmod int4)
        FULL JOIN jsonb_to_recordset(now_columns) AS c (n int2, name text, type int8, typmod int4) USING (n)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = follow.relid AND a.attnum = coalesce(o.n, c.n)
    LOOP
        IF part.added THEN
            EXECUTE format('ALTER TABLE %s ADD c%s %s', log, part.n, format_type(part.type::oid, part.typmod));
            backfill := backfill OR part.filled;
        ELSIF part.dropped THEN
            -- As text it does not hold on to a type that may be dropped next.
            EXECUTE format('ALTER TABLE %s ALTER c%s TYPE text USING c%s::text', log, part.n, part.n);
            backfill := true;
        ELSIF part.altered THEN
            EXECUTE format('ALTER TABLE %s ALTER c%s TYPE %s USING c%s::text::%s', log, part.n,
                format_type(part.type::oid, part.typmod), part.n, format_type(part.type::oid, part.typmod));
            backfill := true;
        END IF;
        changed := changed OR part.added OR part.dropped OR part.altered;
    END LOOP;
    IF old.keys <> now_keys THEN
        PERFORM standin.index_log(relid, now_keys);
        backfill := true;
    END IF;
    UPDATE standin.tracked t SET columns = now_columns, keys = now_keys WHERE t.relid = follow.relid;
    PERFORM standin.write_triggers(relid, now_columns);
    PERFORM standin.touch();
    INSERT INTO standin.event
        (xid, relid, kind, name, old_columns, new_columns, old_keys, new_keys, backfill, columns_changed)
    SELECT pg_current_xact_id(), relid, 'columns', c.relname, old.columns, now_columns, old.keys, now_keys, backfill,
        changed
    FROM pg_catalog.pg_class c WHERE c.oid = follow.relid;
END $$;

CREATE OR REPLACE FUNCTION standin.follow_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    made oid;
BEGIN
    FOR made IN
        SELECT DISTINCT d.objid FROM pg_event_trigger_ddl_commands() d
        JOIN pg_catalog.pg_class c ON c.oid = d.objid AND d.classid = 'pg_catalog.pg_class'::regclass
        WHERE c.relkind = 'r' AND c.relpersistence <> 't'
            AND standin.has_users(c.relnamespace)
    LOOP
        PERFORM standin.follow(made);
    END LOOP;
END $$;
DROP EVENT TRIGGER IF EXISTS standin_ddl;
CREATE EVENT TRIGGER standin_ddl ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE') EXECUTE FUNCTION standin.follow_ddl();
ALTER EVENT TRIGGER standin_ddl ENABLE ALWAYS;

CREATE OR REPLACE FUNCTION standin.follow_drop() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    gone record;
BEGIN
    FOR gone IN
        SELECT d.objid, d.object_name
        FROM pg_event_trigger_dropped_objects() d JOIN standin.tracked t ON t.relid = d.objid
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0
    LOOP
        PERFORM standin.record(gone.objid, 'drop', gone.object_name);
        DELETE FROM standin.tracked WHERE relid = gone.objid;
        DELETE FROM standin.family WHERE relid = gone.objid;
        EXECUTE format('DROP TABLE IF EXISTS standin.log_%s', gone.objid);
        EXECUTE format('DROP FUNCTION IF EXISTS standin.insert_%1$s(), standin.update_%1$s()', gone.objid);
        EXECUTE format('DROP FUNCTION IF EXISTS standin.delete_%1$s(), standin.truncate_%1$s()', gone.objid);
    END LOOP;
END $$;
DROP EVENT TRIGGER IF EXISTS standin_drop;
CREATE EVENT TRIGGER standin_drop ON sql_drop EXECUTE FUNCTION standin.follow_drop();
ALTER EVENT TRIGGER standin_drop ENABLE ALWAYS;

-- Tables that were there before.
DO $$
DECLARE
    made oid;
BEGIN
    FOR made IN
        SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.relpersistence <> 't'
            AND standin.has_users(c.relnamespace)
    LOOP
        PERFORM standin.follow(made);
    END LOOP;
END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA standin TO PUBLIC;
-- Statements that read the past look costlier to the planner than they are.
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET jit = off', current_database()); END $$;
