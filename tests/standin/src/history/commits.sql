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
    xid xid8 NOT NULL, n bigint GENERATED ALWAYS AS IDENTITY, relid oid NOT NULL, kind text NOT NULL,
    name text NOT NULL,
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

-- Gives a time at or above `at_least`: every commit at or below it is visible to snapshots taken from now on, and every
-- later commit is above it.
CREATE OR REPLACE FUNCTION standin.settle(at_least bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER
AS $$
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

-- Runs at COMMIT. The lock falls when the commit is visible, so the order of timestamps, of commits and of visibility
-- is one.
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
