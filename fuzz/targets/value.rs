//! Values. The input is the name of a type on a line, and a JSON value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tidegate_source_cockroach::value::{Kind, write};

fuzz_target!(|input: &str| {
    let Some((name, json)) = input.split_once('\n') else { return };
    let (Some(kind), Ok(json)) = (Kind::of_type(name), serde_json::from_str::<&RawValue>(json)) else { return };
    let mut out = b"before".to_vec();
    match write(&kind, json.get(), &mut out) {
        Ok(is_there) => {
            let text = std::str::from_utf8(&out[6..]).expect("a text is UTF-8");
            assert!(!text.contains('\0'), "PostgreSQL holds no NUL");
            assert!(is_there || text.is_empty(), "NULL has no text");
            assert_eq!(json.get() == "null", !is_there);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(out.starts_with(b"before"));
});
