-- information_schema as CockroachDB fills it.
CREATE SCHEMA standin_information;
GRANT USAGE ON SCHEMA standin_information TO PUBLIC;

CREATE VIEW standin_information.tables AS
    SELECT table_catalog, table_schema, table_name,
           CASE WHEN table_schema IN ('pg_catalog', 'information_schema') THEN 'SYSTEM VIEW' ELSE table_type::text END
               AS table_type,
           is_insertable_into, 1::int8 AS version
    FROM information_schema.tables WHERE NOT standin_catalog.is_own(table_schema::name);

CREATE VIEW standin_information.columns AS
    SELECT i.table_catalog, i.table_schema, i.table_name, i.column_name,
           pg_catalog.col_description(c.oid, a.attnum) AS column_comment, i.ordinal_position, i.column_default,
           i.is_nullable, i.data_type, i.character_maximum_length, i.character_octet_length, i.numeric_precision,
           i.numeric_precision_radix, i.numeric_scale, i.datetime_precision, i.interval_type, i.interval_precision,
           i.collation_catalog, i.collation_schema, i.collation_name, i.domain_catalog, i.domain_schema, i.domain_name,
           i.udt_catalog, i.udt_schema, i.udt_name, i.is_identity, i.identity_generation, i.identity_start,
           i.identity_increment, i.identity_maximum, i.identity_minimum, i.identity_cycle,
           CASE WHEN standin_catalog.is_hidden(c.oid, a.attnum) THEN 'YES' ELSE 'NO' END AS is_hidden,
           CASE WHEN a.attgenerated <> '' THEN 'ALWAYS' ELSE 'NEVER' END AS is_generated,
           coalesce(i.generation_expression, '') AS generation_expression, i.is_updatable,
           standin_catalog.crdb_type(a.atttypid, a.atttypmod) AS crdb_sql_type
    FROM information_schema.columns i
    JOIN pg_catalog.pg_namespace n ON n.nspname = i.table_schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = i.table_name
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = i.column_name
    WHERE NOT standin_catalog.is_own(i.table_schema::name);

CREATE VIEW standin_information.table_constraints AS
    SELECT constraint_catalog, constraint_schema,
           -- A column that cannot be null shows as a check.
           CASE WHEN constraint_name ~ '^[0-9]+_[0-9]+_[0-9]+_not_null$' THEN
               regexp_replace(constraint_name, '^[0-9]+_', '') ELSE constraint_name END AS constraint_name,
           table_catalog, table_schema, table_name, constraint_type::text, 'NO'::text AS is_deferrable,
           'NO'::text AS initially_deferred
    FROM information_schema.table_constraints WHERE NOT standin_catalog.is_own(table_schema::name);

CREATE VIEW standin_information.schemata AS
    SELECT catalog_name, schema_name, default_character_set_name, NULL::text AS sql_path,
           'NO'::text AS crdb_is_user_defined
    FROM information_schema.schemata
    WHERE NOT standin_catalog.is_own(schema_name::name) AND schema_name NOT LIKE 'pg\_toast%';

DO $$
DECLARE
    part record;
BEGIN
    FOR part IN SELECT * FROM (VALUES
        ('check_constraints', 'constraint_schema'), ('column_udt_usage', 'table_schema'),
        ('constraint_column_usage', 'table_schema'), ('key_column_usage', 'table_schema'),
        ('parameters', 'specific_schema'), ('referential_constraints', 'constraint_schema'),
        ('routines', 'specific_schema'), ('sequences', 'sequence_schema'),
        ('triggers', 'trigger_schema'), ('views', 'table_schema')
    ) AS parts (name, schema_column) LOOP
        EXECUTE format('CREATE VIEW standin_information.%I AS SELECT * FROM information_schema.%I '
            'WHERE NOT standin_catalog.is_own(%I::name)', part.name, part.name, part.schema_column)
            || CASE part.name WHEN 'triggers' THEN ' AND NOT standin_catalog.is_own(trigger_name::name)' ELSE '' END;
    END LOOP;
END $$;

-- Whoever has all privileges has one row, ALL; the right to TRUNCATE is called DROP; admin and root have all of all.
CREATE VIEW standin_information.table_privileges AS
    WITH granted AS (
        SELECT grantor::text, CASE grantee WHEN 'PUBLIC' THEN 'public' ELSE grantee END::text AS grantee,
               table_catalog::text, table_schema::text, table_name::text, privilege_type::text, is_grantable::text,
               count(*) FILTER (WHERE privilege_type IN ('INSERT', 'SELECT', 'UPDATE', 'DELETE', 'TRUNCATE',
                   'REFERENCES', 'TRIGGER')) OVER (PARTITION BY grantee, table_schema, table_name) = 7 AS has_all
        FROM information_schema.table_privileges WHERE NOT standin_catalog.is_own(table_schema::name)
    )
    SELECT DISTINCT NULL::text AS grantor, grantee, table_catalog, table_schema, table_name,
           CASE WHEN has_all THEN 'ALL' WHEN privilege_type = 'TRUNCATE' THEN 'DROP' ELSE privilege_type END
               AS privilege_type, is_grantable, NULL::text AS with_hierarchy
    FROM granted
    WHERE grantee NOT IN ('admin', 'root', 'postgres') AND (has_all OR privilege_type NOT IN ('REFERENCES', 'MAINTAIN'))
    UNION ALL
    SELECT NULL, r.role, t.table_catalog::text, t.table_schema::text, t.table_name::text, 'ALL', 'YES', NULL
    FROM information_schema.tables t CROSS JOIN (VALUES ('admin'), ('root')) r (role)
    WHERE NOT standin_catalog.is_own(t.table_schema::name);
CREATE VIEW standin_information.role_table_grants AS SELECT * FROM standin_information.table_privileges;
CREATE VIEW standin_information.schema_privileges AS
    SELECT r.rolname::text AS grantee, current_database()::text AS table_catalog, n.nspname::text AS table_schema,
           p.privilege AS privilege_type, 'NO'::text AS is_grantable
    FROM standin_catalog.pg_roles r CROSS JOIN standin_catalog.pg_namespace n
    CROSS JOIN (VALUES ('CREATE'), ('USAGE')) p (privilege)
    WHERE pg_catalog.has_schema_privilege(r.oid, n.oid, p.privilege);
GRANT SELECT ON ALL TABLES IN SCHEMA standin_information TO PUBLIC;
