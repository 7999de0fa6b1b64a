//! What a statement may use of PostgreSQL. What is not named here is refused, though the backing server has it: a real
//! CockroachDB would refuse it too, or answer something else.

/// Functions that CockroachDB has too, with the same meaning.
pub const FUNCTIONS: &[&str] = &[
    // Aggregates and window functions.
    "array_agg", "avg", "bit_and", "bit_or", "bool_and", "bool_or", "count", "cume_dist", "dense_rank", "every",
    "first_value", "json_agg", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "lag", "last_value", "lead", "max",
    "min", "nth_value", "ntile", "percent_rank", "percentile_cont", "percentile_disc", "rank", "row_number", "stddev",
    "stddev_pop", "stddev_samp", "string_agg", "sum", "var_pop", "var_samp", "variance", "corr", "covar_pop",
    // Text and bytes.
    "ascii", "bit_length", "btrim", "char_length", "character_length", "chr", "concat", "concat_ws", "convert_from",
    "convert_to", "decode", "encode", "format", "get_bit", "get_byte", "initcap", "left", "length", "lower", "lpad",
    "ltrim", "md5", "octet_length", "overlay", "parse_ident", "position", "quote_ident", "quote_literal",
    "quote_nullable", "regexp_matches", "regexp_match", "regexp_replace", "regexp_split_to_array",
    "regexp_split_to_table", "repeat", "replace", "reverse", "right", "rpad", "rtrim", "set_bit", "set_byte", "sha224",
    "sha256", "sha384", "sha512", "split_part", "starts_with", "strpos", "substr", "substring", "to_ascii", "to_hex",
    "translate", "trim", "upper", "bit", "varbit", "text", "varchar", "bpchar", "name", "similar_to_escape",
    // Numbers.
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "ceiling", "cos", "cot", "degrees", "div", "exp", "floor",
    "ln", "log", "mod", "pi", "pow", "power", "radians", "random", "round", "sign", "sin", "sqrt", "tan", "trunc",
    "width_bucket", "int2", "int4", "int8", "float4", "float8", "numeric", "bool", "setseed",
    // Times.
    "age", "clock_timestamp", "date", "date_part", "date_trunc", "extract", "interval", "justify_days",
    "justify_hours", "justify_interval", "make_date", "make_timestamp", "make_timestamptz", "now",
    "statement_timestamp", "time", "timeofday", "timestamp", "timestamptz", "timetz", "timezone", "to_char",
    "to_timestamp", "transaction_timestamp", "date_cmp",
    // JSON.
    "array_to_json", "json_array_length", "json_build_array", "json_build_object", "json_each", "json_each_text",
    "json_extract_path", "json_extract_path_text", "json_object", "json_object_keys", "json_populate_record",
    "json_populate_recordset", "json_strip_nulls", "json_to_record", "json_to_recordset", "json_typeof",
    "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array",
    "jsonb_build_object", "jsonb_each", "jsonb_each_text", "jsonb_exists_any", "jsonb_extract_path",
    "jsonb_extract_path_text", "jsonb_insert", "jsonb_object", "jsonb_object_keys", "jsonb_populate_record",
    "jsonb_populate_recordset", "jsonb_pretty", "jsonb_set", "jsonb_strip_nulls", "jsonb_to_record",
    "jsonb_to_recordset", "jsonb_typeof", "json_array_elements", "json_array_elements_text", "row_to_json", "to_json",
    "to_jsonb",
    // Arrays, rows, sets.
    "array_append", "array_cat", "array_length", "array_lower", "array_ndims", "array_position", "array_positions",
    "array_prepend", "array_remove", "array_replace", "array_to_string", "array_upper", "cardinality", "coalesce",
    "generate_series", "generate_subscripts", "greatest", "least", "nullif", "num_nonnulls", "num_nulls", "row",
    "string_to_array", "unnest",
    // Sequences and identifiers.
    "currval", "gen_random_uuid", "lastval", "nextval", "setval", "unique_rowid",
    // Addresses, enumerations, text search.
    "abbrev", "broadcast", "enum_first", "enum_last", "enum_range", "family", "host", "hostmask", "inet_same_family",
    "masklen", "netmask", "set_masklen", "to_tsquery", "to_tsvector", "plainto_tsquery", "phraseto_tsquery", "ts_rank",
    "inet", "network",
    // What sessions and catalogs tell.
    "col_description", "current_database", "current_schema", "current_schemas", "current_setting", "current_user",
    "format_type", "has_any_column_privilege", "has_column_privilege", "has_database_privilege",
    "has_function_privilege", "has_schema_privilege", "has_sequence_privilege", "has_table_privilege",
    "has_type_privilege", "information_schema._pg_expandarray", "obj_description", "oid", "oidvectortypes",
    "pg_client_encoding", "pg_collation_for", "pg_encoding_to_char", "pg_function_is_visible", "pg_get_expr",
    "pg_get_function_arguments", "pg_get_function_identity_arguments", "pg_get_function_result", "pg_get_functiondef",
    "pg_get_indexdef", "pg_get_keywords", "pg_get_serial_sequence", "pg_get_userbyid", "pg_get_viewdef",
    "pg_has_role", "pg_is_in_recovery", "pg_my_temp_schema", "pg_postmaster_start_time", "pg_relation_is_updatable",
    "pg_sequence_last_value", "pg_sleep", "pg_table_is_visible", "pg_type_is_visible", "pg_typeof", "regclass",
    "regnamespace", "regproc", "regprocedure", "regrole", "regtype", "session_user", "set_config", "shobj_description",
    "to_regclass", "to_regnamespace", "to_regproc", "to_regprocedure", "to_regrole", "to_regtype", "txid_current",
    "user", "inet_client_addr", "inet_client_port", "inet_server_addr", "inet_server_port", "pg_backend_pid",
    "pg_column_size", "pg_is_other_temp_schema", "getdatabaseencoding", "overlaps", "like", "notlike", "char",
];

/// Functions that CockroachDB has, and what stands for them; a name in a schema of the stand-in.
pub const REPLACED: &[(&str, &str)] = &[
    ("pg_get_constraintdef", "standin_catalog.pg_get_constraintdef"),
    ("pg_try_advisory_lock", "standin_catalog.pg_try_advisory_lock"),
    ("pg_advisory_unlock", "standin_catalog.pg_advisory_unlock"),
    ("cluster_logical_timestamp", "standin.cluster_logical_timestamp"),
    ("follower_read_timestamp", "standin_catalog.follower_read_timestamp"),
    ("experimental_follower_read_timestamp", "standin_catalog.follower_read_timestamp"),
    ("uuid_v4", "standin_catalog.uuid_v4"),
    ("unique_rowid", "standin_catalog.unique_rowid"),
    ("unordered_unique_rowid", "standin_catalog.unique_rowid"),
    ("fnv32", "standin_catalog.fnv32"),
];

/// Catalog tables of `pg_catalog` that have rows in CockroachDB. Views of the same names leave out what is the
/// stand-in's own.
pub const CATALOG: &[&str] = &[
    "pg_attrdef", "pg_attribute", "pg_class", "pg_collation", "pg_constraint", "pg_database", "pg_depend",
    "pg_description", "pg_enum", "pg_extension", "pg_index", "pg_indexes", "pg_inherits", "pg_language", "pg_namespace",
    "pg_proc", "pg_range", "pg_roles", "pg_sequence", "pg_sequences", "pg_tables", "pg_tablespace", "pg_trigger",
    "pg_type", "pg_user", "pg_views", "pg_am", "pg_authid", "pg_auth_members", "pg_settings", "pg_matviews",
    "pg_operator", "pg_cast", "pg_aggregate", "pg_rewrite", "pg_shdescription", "pg_policy", "pg_opclass",
];

/// Those that are there and empty.
pub const EMPTY: &[&str] = &[
    "pg_publication", "pg_publication_rel", "pg_publication_tables", "pg_replication_slots", "pg_stat_activity",
    "pg_stat_replication", "pg_subscription", "pg_stat_user_tables", "pg_stat_database", "pg_largeobject",
    "pg_replication_origin", "pg_replication_origin_status", "pg_stat_subscription", "pg_prepared_xacts",
    "pg_foreign_table", "pg_foreign_server", "pg_event_trigger", "pg_locks", "pg_statistic_ext",
];

/// Of `information_schema`.
pub const INFORMATION: &[&str] = &[
    "check_constraints", "column_udt_usage", "columns", "constraint_column_usage", "key_column_usage", "parameters",
    "referential_constraints", "routines", "schema_privileges", "schemata", "sequences", "table_constraints",
    "table_privileges", "tables", "triggers", "views", "role_table_grants",
];

/// Columns that rows have in PostgreSQL alone.
pub const NO_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax"];
