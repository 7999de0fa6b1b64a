//! Refusals with the texts of the published tests.

use super::*;

fn refused(options: &[(&str, Option<&str>)]) -> String {
    let options: Vec<_> = options.iter().map(|(name, value)| ((*name).into(), value.map(str::to_owned))).collect();
    read(&options).expect_err("the options are refused").message
}

#[test]
fn options_are_refused_with_the_published_texts() {
    assert_eq!(refused(&[("topics", None)]), "invalid option \"topics\"");
    assert_eq!(refused(&[("on_error", None)]), "option \"on_error\" requires a value");
    assert_eq!(
        refused(&[("on_error", Some("not_valid"))]),
        "unknown on_error: not_valid, valid values are 'pause' and 'fail'"
    );
    assert!(
        refused(&[("format", Some("nope"))])
            .starts_with("unknown format: nope, valid values are 'json', 'avro', 'csv'")
    );
    assert_eq!(refused(&[("envelope", Some("nope"))]), "unknown envelope: nope");
    assert_eq!(
        refused(&[("resolved", Some("bar"))]),
        "problem parsing option resolved: time: invalid duration \"bar\""
    );
    assert_eq!(refused(&[("resolved", Some("-1s"))]), "negative durations are not accepted: resolved='-1s'");
    assert_eq!(
        refused(&[("webhook_client_timeout", Some("0s"))]),
        "option webhook_client_timeout must be a duration greater than 0"
    );
    assert_eq!(
        refused(&[("initial_scan", None), ("no_initial_scan", None)]),
        "cannot specify both initial_scan and no_initial_scan"
    );
    for name in ["resolved", "diff", "mvcc_timestamp", "updated"] {
        let text = refused(&[("initial_scan", Some("only")), (name, None)]);
        assert_eq!(text, format!("cannot specify both initial_scan='only' and {name}"));
    }
    assert_eq!(
        refused(&[("key_in_value", None), ("envelope", Some("row"))]),
        "key_in_value is only usable with envelope=wrapped"
    );
    assert_eq!(
        refused(&[("key_in_value", None), ("format", Some("avro"))]),
        "key_in_value is not supported with format=avro"
    );
    assert_eq!(
        refused(&[("enriched_properties", Some("source"))]),
        "enriched_properties is only usable with envelope=enriched"
    );
    assert_eq!(
        refused(&[("unordered", None), ("resolved", None)]),
        "unordered is not usable with resolved because resolved timestamps cannot be guaranteed to be correct in \
         unordered mode"
    );
    assert_eq!(refused(&[("format", Some("csv"))]), "format=csv is only usable with initial_scan_only");
    assert_eq!(
        refused(&[("format", Some("avro"))]),
        "WITH option confluent_schema_registry is required for format=avro"
    );
    assert_eq!(
        refused(&[("format", Some("avro")), ("encode_json_value_null_as_object", None)]),
        "encode_json_value_null_as_object is only usable with format=json"
    );
}

#[test]
fn values_are_read_whatever_their_case() {
    let given = [("envelope", Some("WRAPPED")), ("resolved", None), ("initial_scan", Some("No"))];
    let options: Vec<_> = given.iter().map(|(n, v)| ((*n).to_owned(), v.map(str::to_owned))).collect();
    let read = read(&options).unwrap();
    assert_eq!((read.resolved, read.initial_scan), (Some(Duration::ZERO), Some(InitialScan::No)));
}
