-- What a database of the backing server keeps so that its past can be read. Runs again without harm.
-- Text in @signs@ is filled in by history.rs.
CREATE SCHEMA IF NOT EXISTS standin;
GRANT USAGE ON SCHEMA standin TO PUBLIC;

-- The last timestamp given: microseconds * 1000 + logical counter. A sequence, because its value is neither a matter of
-- snapshots nor of serializability, and survives a crash.
CREATE SEQUENCE IF NOT EXISTS standin.hlc;

-- Transactions that have written and not yet committed. The row is there for its deferred trigger.
CREATE UNLOGGED TABLE IF NOT EXISTS standin.pending (xid xid8 PRIMARY KEY, hidden boolean NOT NULL);
CREATE TABLE IF NOT EXISTS standin.commit (xid xid8 PRIMARY KEY, hlc bigint NOT NULL, hidden boolean NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS commit_hlc ON standin.commit (hlc) INCLUDE (xid, hidden);

-- Tables with a history, with their columns ({n, name, type, typmod}, in order) and key (attribute numbers) of now.
CREATE TABLE IF NOT EXISTS standin.tracked (
    relid oid PRIMARY KEY, columns jsonb NOT NULL, keys int2[] NOT NULL, since bigint NOT NULL
);

-- What ends or changes feeds: kind `truncate`, `drop` or `columns`.
CREATE TABLE IF NOT EXISTS standin.event (
    xid xid8 NOT NULL, n bigint GENERATED ALWAYS AS IDENTITY, relid oid NOT NULL, kind text NOT NULL, name text NOT NULL,
    old_columns jsonb, new_columns jsonb, old_keys int2[], new_keys int2[],
    backfill boolean NOT NULL DEFAULT false, columns_changed boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS event_xid ON standin.event (xid);

-- Column families, where a table has more than one.
CREATE TABLE IF NOT EXISTS standin.family (
    relid oid NOT NULL, n int NOT NULL, name name NOT NULL, columns name[] NOT NULL, PRIMARY KEY (relid, n)
);

CREATE OR REPLACE FUNCTION standin.clock() RETURNS bigint LANGUAGE sql VOLATILE
RETURN floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000;

-- Gives the next timestamp. The caller holds the lock. A clock that stands still gives logical counters, and every now
-- and then this one stands still, so that consumers see them.
CREATE OR REPLACE FUNCTION standin.next_hlc() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    last bigint := coalesce(pg_sequence_last_value('standin.hlc'), 0);
    clock bigint := standin.clock();
    stamp bigint := greatest(clock, last + 1);
BEGIN
    IF last > clock - 2000000 AND random() < 0.25 THEN
        stamp := last + 1;
    END IF;
    PERFORM setval('standin.hlc', stamp);
    RETURN stamp;
END $$;

-- Gives a time at or above `at_least`: every commit at or below it is visible to snapshots taken from now on, and every later
-- commit is above it.
CREATE OR REPLACE FUNCTION standin.settle(at_least bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    settled bigint;
BEGIN
    PERFORM pg_advisory_lock(@lock@);
    settled := greatest(standin.clock(), coalesce(pg_sequence_last_value('standin.hlc'), 0), at_least);
    -- In a read-only transaction the clock alone has to do: a commit of this very microsecond may still get this time.
    IF current_setting('transaction_read_only') = 'off' THEN
        PERFORM setval('standin.hlc', settled);
    END IF;
    PERFORM pg_advisory_unlock(@lock@);
    RETURN settled;
EXCEPTION WHEN OTHERS THEN
    PERFORM pg_advisory_unlock(@lock@);
    RAISE;
END $$;

CREATE OR REPLACE FUNCTION standin.hlc_decimal(hlc bigint) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (hlc - hlc % 1000)::numeric + ((hlc % 1000)::numeric(20, 10) / 10000000000)::numeric(30, 10);

CREATE OR REPLACE FUNCTION standin.cluster_logical_timestamp() RETURNS numeric LANGUAGE sql VOLATILE
RETURN standin.hlc_decimal(standin.settle(0));

-- A log row whose transaction has no commit row: our own transaction's, or written past the stand-in.
CREATE OR REPLACE FUNCTION standin.unstamped(xid xid8) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF xid = pg_current_xact_id_if_assigned() THEN
        RETURN standin.clock();
    END IF;
    RAISE EXCEPTION 'stand-in: transaction % wrote without a commit stamp: its history cannot be told', xid
        USING ERRCODE = 'XX001';
END $$;

-- Marks the running transaction as one that writes.
CREATE OR REPLACE FUNCTION standin.touch() RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
DECLARE
    me xid8 := pg_current_xact_id();
BEGIN
    IF current_setting('standin.touched', true) IS DISTINCT FROM me::text THEN
        INSERT INTO standin.pending VALUES (me, coalesce(current_setting('standin.hidden', true), '') = 'on')
            ON CONFLICT DO NOTHING;
        PERFORM set_config('standin.touched', me::text, true);
    END IF;
END $$;

-- Runs at COMMIT. The lock falls when the commit is visible, so the order of timestamps, of commits and of visibility is one.
CREATE OR REPLACE FUNCTION standin.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(@lock@);
    INSERT INTO standin.commit VALUES (NEW.xid, standin.next_hlc(), NEW.hidden);
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS stamp ON standin.pending;
CREATE CONSTRAINT TRIGGER stamp AFTER INSERT ON standin.pending DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION standin.stamp();
ALTER TABLE standin.pending ENABLE ALWAYS TRIGGER stamp;

-- Schemas of users, neither the server's nor the stand-in's.
CREATE OR REPLACE FUNCTION standin.has_users(schema oid) RETURNS boolean LANGUAGE sql STABLE
RETURN (
    SELECT n.nspname NOT IN ('pg_catalog', 'information_schema', 'crdb_internal') AND n.nspname !~ '^(standin|pg_toast|pg_temp)'
    FROM pg_catalog.pg_namespace n WHERE n.oid = schema
);

CREATE OR REPLACE FUNCTION standin.columns_of(relid oid) RETURNS jsonb LANGUAGE sql STABLE
RETURN (
    SELECT jsonb_agg(jsonb_build_object(
        'n', a.attnum, 'name', a.attname, 'type', a.atttypid::int8, 'typmod', a.atttypmod) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = relid AND a.attnum > 0 AND NOT a.attisdropped
);

CREATE OR REPLACE FUNCTION standin.keys_of(relid oid) RETURNS int2[] LANGUAGE sql STABLE
RETURN (SELECT i.indkey::int2[] FROM pg_catalog.pg_index i WHERE i.indrelid = relid AND i.indisprimary);

-- Makes the statement triggers of a table. They log what left (`plus` false) and then what came (`plus` true): per key the
-- first row tells what was before the transaction and the last one what is after it, also when keys move between rows.
CREATE OR REPLACE FUNCTION standin.write_triggers(relid oid, columns jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    log text := format('standin.log_%s', relid);
    names text := (SELECT string_agg(quote_ident(c->>'name'), ', ' ORDER BY (c->>'n')::int) FROM jsonb_array_elements(columns) c);
    logged text := (SELECT string_agg('c' || (c->>'n'), ', ' ORDER BY (c->>'n')::int) FROM jsonb_array_elements(columns) c);
    left_rows text := format('INSERT INTO %s (x, plus, %s) SELECT pg_current_xact_id(), false, %s FROM standin_old;', log, logged, names);
    came_rows text := format('INSERT INTO %s (x, plus, %s) SELECT pg_current_xact_id(), true, %s FROM standin_new;', log, logged, names);
    whole text := format('INSERT INTO %s (x, plus, %s) SELECT pg_current_xact_id(), false, %s FROM %s;', log, logged, names, relid::regclass);
    touched text := 'IF FOUND THEN PERFORM standin.touch(); END IF; RETURN NULL; END';
    part record;
BEGIN
    FOR part IN SELECT * FROM (VALUES
        ('insert', 'AFTER INSERT', 'REFERENCING NEW TABLE AS standin_new', came_rows),
        ('update', 'AFTER UPDATE', 'REFERENCING OLD TABLE AS standin_old NEW TABLE AS standin_new', left_rows || came_rows),
        ('delete', 'AFTER DELETE', 'REFERENCING OLD TABLE AS standin_old', left_rows)
    ) AS parts (name, event, rows, body) LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION standin.%s_%s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L',
            part.name, relid, 'BEGIN ' || part.body || touched);
        EXECUTE format('CREATE OR REPLACE TRIGGER standin_%s %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION standin.%s_%s()',
            part.name, part.event, relid::regclass, part.rows, part.name, relid);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER standin_%s', relid::regclass, part.name);
    END LOOP;
    EXECUTE format('CREATE OR REPLACE FUNCTION standin.truncate_%s() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS %L', relid,
        format('BEGIN %s PERFORM standin.touch(); '
            'INSERT INTO standin.event (xid, relid, kind, name) VALUES (pg_current_xact_id(), TG_RELID, ''truncate'', TG_TABLE_NAME); '
            'RETURN NULL; END', whole));
    EXECUTE format('CREATE OR REPLACE TRIGGER standin_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION standin.truncate_%s()',
        relid::regclass, relid);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER standin_truncate', relid::regclass);
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
        EXECUTE format('CREATE TABLE %s AS SELECT NULL::xid8 AS x, NULL::bigint AS n, NULL::boolean AS plus, %s FROM %s WITH NO DATA', log,
            (SELECT string_agg(format('%I AS c%s', c->>'name', c->>'n'), ', ') FROM jsonb_array_elements(now_columns) c), relid::regclass);
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
        SELECT coalesce(o.n, c.n) AS n, o.n IS NULL AS added, c.n IS NULL AS dropped, o.type <> c.type OR o.typmod <> c.typmod AS altered,
            c.type, c.typmod, a.attnotnull OR a.atthasdef OR a.attidentity <> '' AS filled
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
    INSERT INTO standin.event (xid, relid, kind, name, old_columns, new_columns, old_keys, new_keys, backfill, columns_changed)
        VALUES (pg_current_xact_id(), relid, 'columns', (SELECT relname FROM pg_catalog.pg_class c WHERE c.oid = follow.relid),
            old.columns, now_columns, old.keys, now_keys, backfill, changed);
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
        SELECT d.objid, d.object_name FROM pg_event_trigger_dropped_objects() d JOIN standin.tracked t ON t.relid = d.objid
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objsubid = 0
    LOOP
        PERFORM standin.touch();
        INSERT INTO standin.event (xid, relid, kind, name) VALUES (pg_current_xact_id(), gone.objid, 'drop', gone.object_name);
        DELETE FROM standin.tracked WHERE relid = gone.objid;
        DELETE FROM standin.family WHERE relid = gone.objid;
        EXECUTE format('DROP TABLE IF EXISTS standin.log_%s', gone.objid);
        EXECUTE format('DROP FUNCTION IF EXISTS standin.insert_%1$s(), standin.update_%1$s(), standin.delete_%1$s(), standin.truncate_%1$s()',
            gone.objid);
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
