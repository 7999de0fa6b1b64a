//! Positions: what a feed, a state table or a user writes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate_model::{Hlc, Position};

fuzz_target!(|input: &str| {
    if let Ok(hlc) = input.parse::<Hlc>() {
        let text = hlc.to_string();
        assert_eq!(text.parse(), Ok(hlc));
        assert_eq!(text.split_once('.').map(|(_, logical)| logical.len()), Some(10));
        assert_eq!(input.parse::<Position>().ok().and_then(|position| position.hlc()), Some(hlc));
    }
    if let Ok(position) = input.parse::<Position>() {
        let text = position.to_string();
        assert_eq!(text.parse::<Position>().expect("its own text is read"), position);
        assert!(position.is_at_or_before(&position));
        assert_eq!(position.hlc().is_some(), position.lsn().is_none());
    }
});
