use bytes::Bytes;
use proptest::prelude::*;
use tidegate_model::{
    Change, Lsn, NewRow, OldRow, RelationId, ReplicaIdentity, Row, SourceColumn, SourceTable, TableName, Timestamp,
    Value,
};

use super::encode::encode;
use super::{CommitPoint, DecodeError, Framing, Message, PROTOCOL_MAX, Relations, newest_protocol, options, parse};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn plain(payload: &Bytes) -> Result<Message, DecodeError> {
    parse(payload, Framing::Plain, PROTOCOL_MAX)
}

fn streamed(payload: &Bytes) -> Result<Message, DecodeError> {
    parse(payload, Framing::Streamed, PROTOCOL_MAX)
}

fn row<const N: usize>(values: [Value<'_>; N]) -> Row {
    values.into_iter().collect()
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text.as_bytes())
}

fn table(id: u32, identity: ReplicaIdentity, columns: &[(&str, u32, bool)]) -> SourceTable {
    let column = |&(name, type_oid, identity): &(&str, u32, bool)| SourceColumn {
        name: name.into(),
        type_oid,
        type_modifier: -1,
        identity,
    };
    let columns = columns.iter().map(column).collect();
    SourceTable { id: RelationId(id), name: TableName::new("public", "a"), replica_identity: identity, columns }
}

// The bytes of the following tests were sent by a PostgreSQL 15 server.

#[test]
fn brackets_of_a_real_server_are_understood() {
    let committed_at = Timestamp(946_684_800_000_000 + 0x0003_03df_fe5c_4433);
    let lsn = Lsn(0x0153_bbb8);
    assert_eq!(
        plain(&hex("42 000000000153bbb8 000303dffe5c4433 000002dd")),
        Ok(Message::Begin { final_lsn: lsn, committed_at, xid: 733 })
    );
    let commit = CommitPoint { lsn, end_lsn: Lsn(0x0153_bbe8), committed_at };
    assert_eq!(plain(&hex("43 00 000000000153bbb8 000000000153bbe8 000303dffe5c4433")), Ok(Message::Commit(commit)));
    assert_eq!(plain(&hex("53 000002e6 01")), Ok(Message::StreamStart { xid: 742, first_segment: true }));
    assert_eq!(plain(&hex("53 000002e6 00")), Ok(Message::StreamStart { xid: 742, first_segment: false }));
    assert_eq!(streamed(&hex("45")), Ok(Message::StreamStop));
    let subxid = 744;
    assert_eq!(plain(&hex("41 000002e6 000002e8")), Ok(Message::StreamAbort { xid: 742, subxid, at: None }));
    assert_eq!(
        plain(&hex("63 000002e6 00 000000000153bbb8 000000000153bbe8 000303dffe5c4433")),
        Ok(Message::StreamCommit { xid: 742, commit })
    );
}

#[test]
fn descriptions_of_a_real_server_are_understood() {
    let described = hex("52 00004000 7075626c696300 6100 64 0003 01 696400 00000017 ffffffff \
         00 7600 00000019 ffffffff 00 7400 00000019 ffffffff");
    let columns = [("id", 23, true), ("v", 25, false), ("t", 25, false)];
    let expected = table(16384, ReplicaIdentity::Default, &columns);
    assert_eq!(plain(&described), Ok(Message::Relation { xid: None, table: expected }));

    let described = hex("52 000002e6 0000401a 7075626c696300 6100 66 0001 01 7800 00000017 ffffffff");
    let expected = table(16410, ReplicaIdentity::Full, &[("x", 23, true)]);
    assert_eq!(streamed(&described), Ok(Message::Relation { xid: Some(742), table: expected }));

    let name = TableName::new("public", "mood");
    assert_eq!(plain(&hex("59 0000400f 7075626c696300 6d6f6f6400")), Ok(Message::Type { xid: None, oid: 16399, name }));
}

#[test]
fn rows_of_a_real_server_are_understood() {
    let relation = RelationId(16384);
    let new = row([text("1"), text("one"), Value::Null]);
    assert_eq!(
        plain(&hex("49 00004000 4e 0003 74 00000001 31 74 00000003 6f6e65 6e")),
        Ok(Message::Insert { xid: None, relation, new })
    );
    let new = row([Value::Binary(&[0, 0, 3, 0x1e]), Value::Binary(b"b"), Value::Null]);
    assert_eq!(
        streamed(&hex("49 000002e9 00004000 4e 0003 62 00000004 0000031e 62 00000001 62 6e")),
        Ok(Message::Insert { xid: Some(745), relation, new })
    );
    // UPDATE a SET id = 3 WHERE id = 2, the third column out of line.
    let old = Some(OldRow::Key(row([text("2"), Value::Null, Value::Null])));
    let new = NewRow::Partial(row([text("3"), text("two"), Value::Unchanged]));
    assert_eq!(
        plain(&hex("55 00004000 4b 0003 74 00000001 32 6e 6e 4e 0003 74 00000001 33 74 00000003 74776f 75")),
        Ok(Message::Update { xid: None, relation, old, new })
    );
    let new = NewRow::Partial(row([text("3"), text("drei"), Value::Unchanged]));
    assert_eq!(
        plain(&hex("55 00004000 4e 0003 74 00000001 33 74 00000004 64726569 75")),
        Ok(Message::Update { xid: None, relation, old: None, new })
    );
    let old = OldRow::Full(row([Value::Binary(&[0, 0, 0, 2]), Value::Null]));
    assert_eq!(
        plain(&hex("44 0000402d 4f 0002 62 00000004 00000002 6e")),
        Ok(Message::Delete { xid: None, relation: RelationId(16429), old })
    );
    let relations = vec![relation, RelationId(16403)];
    assert_eq!(plain(&hex("54 00000002 00 00004000 00004013")), Ok(Message::Truncate { xid: None, relations }));
    assert_eq!(
        plain(&hex("4d 01 000000000153e858 746964656761746500 00000005 68656c6c6f")),
        Ok(Message::Logical {
            xid: None,
            transactional: true,
            lsn: Lsn(0x0153_e858),
            prefix: "tidegate".into(),
            content: Bytes::from_static(b"hello"),
        })
    );
}

#[test]
fn the_position_of_an_abort_is_read_where_it_is_sent() {
    let aborted = hex("41 000002e6 000002e8 000000000153bbb8 0000000000000000");
    let at = Some((Lsn(0x0153_bbb8), Timestamp(946_684_800_000_000)));
    assert_eq!(plain(&aborted), Ok(Message::StreamAbort { xid: 742, subxid: 744, at }));
    let trailing = DecodeError::Trailing { kind: b'A', extra: 16 };
    assert_eq!(parse(&aborted, Framing::Plain, 3), Err(trailing));
}

#[test]
fn values_left_out_are_taken_from_a_full_old_row() {
    let old = OldRow::Full(row([text("1"), text("long"), Value::Null]));
    let new = row([text("2"), Value::Unchanged, Value::Unchanged]);
    let relation = RelationId(1);
    let sent = Message::Update { xid: None, relation, old: Some(old.clone()), new: NewRow::Partial(new) };
    let filled = NewRow::Full(row([text("2"), text("long"), Value::Null]));
    assert_eq!(plain(&encode(&sent)), Ok(Message::Update { xid: None, relation, old: Some(old), new: filled }));
}

#[test]
fn rows_are_slices_of_the_message() {
    let payload = encode(&Message::Insert { xid: None, relation: RelationId(1), new: row([text("abc")]) });
    let Ok(Message::Insert { new, .. }) = plain(&payload) else { panic!("no insert") };
    let Value::Text(value) = new.value(0) else { panic!("no text") };
    assert!(payload.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn a_new_row_that_lacks_a_value_is_refused() {
    let new = row([Value::Unchanged]);
    let refused = plain(&encode(&Message::Insert { xid: None, relation: RelationId(1), new: new.clone() }));
    assert!(matches!(refused, Err(DecodeError::Invalid { kind: b'I', .. })), "{refused:?}");
    let old = OldRow::Key(new);
    let refused = plain(&encode(&Message::Delete { xid: None, relation: RelationId(1), old }));
    assert!(matches!(refused, Err(DecodeError::Invalid { kind: b'D', .. })), "{refused:?}");
}

#[test]
fn two_phase_and_unknown_messages_are_refused_with_their_codes() {
    for kind in *b"bPKrp" {
        let refused = plain(&Bytes::from(vec![kind, 0])).unwrap_err();
        assert_eq!(refused, DecodeError::TwoPhase { kind });
        assert_eq!(refused.problem("here").code, "PG102");
    }
    for kind in 0..=u8::MAX {
        if b"BCORYIUDTMSEcAbPKrp".contains(&kind) {
            continue;
        }
        let refused = plain(&Bytes::from(vec![kind, 0])).unwrap_err();
        assert_eq!(refused, DecodeError::Unknown { kind });
        assert_eq!(refused.problem("here").code, "PG101");
    }
}

#[test]
fn streaming_needs_the_protocol_that_has_it() {
    let payload = encode(&Message::StreamStart { xid: 1, first_segment: true });
    assert!(parse(&payload, Framing::Plain, 2).is_ok());
    let refused = parse(&payload, Framing::Plain, 1).unwrap_err();
    assert_eq!(refused, DecodeError::Protocol { kind: b'S', needs: 2, protocol: 1 });
}

#[test]
fn a_commit_without_a_position_is_refused() {
    for (lsn, end_lsn) in [(0, 0), (0, 8), (8, 8), (8, 7)] {
        let commit = CommitPoint { lsn: Lsn(lsn), end_lsn: Lsn(end_lsn), committed_at: Timestamp(0) };
        assert!(plain(&encode(&Message::Commit(commit))).is_err());
        assert!(plain(&encode(&Message::StreamCommit { xid: 1, commit })).is_err());
    }
}

#[test]
fn announced_counts_make_no_room_that_the_message_does_not_fill() {
    // 65535 columns, 2^31 - 1 relations, a value of 2 GiB, a negative length: each in a few bytes.
    for bytes in [
        "49 00000001 4e ffff 6e",
        "52 00000001 6100 6100 64 ffff 00",
        "54 7fffffff 00 00000001",
        "49 00000001 4e 0001 74 7fffffff 00",
        "49 00000001 4e 0001 74 ffffffff 00",
        "4d 01 0000000000000001 6100 7fffffff 00",
    ] {
        let refused = plain(&hex(bytes));
        assert!(
            matches!(refused, Err(DecodeError::Short { .. } | DecodeError::Invalid { .. })),
            "{bytes}: {refused:?}"
        );
    }
}

#[test]
fn a_message_past_any_server_is_refused() {
    // Zeroed pages that are never touched: this takes no memory.
    let huge = Bytes::from(vec![0; (1 << 30) + 1]);
    assert_eq!(plain(&huge), Err(DecodeError::TooLarge { kind: 0 }));
}

#[test]
fn the_options_quote_a_publication_twice() {
    assert_eq!(
        options(4, "tidegate_orders"),
        "(proto_version '4', streaming 'parallel', publication_names '\"tidegate_orders\"', messages 'true', \
         binary 'false')"
    );
    assert!(options(2, "a\"b'c").contains("proto_version '2', streaming 'on', publication_names '\"a\"\"b''c\"'"));
    assert!(!options(1, "p").contains("streaming"));
    assert_eq!([140_005, 150_018, 160_000, 180_001].map(newest_protocol), [2, 3, 4, 4]);
}

#[test]
fn a_table_stays_the_same_as_long_as_it_looks_the_same() {
    let mut relations = Relations::default();
    let described = |name: &str| table(7, ReplicaIdentity::Default, &[(name, 23, true)]);
    let insert = || Message::Insert { xid: None, relation: RelationId(7), new: row([Value::Null]) };
    let seen = |relations: &mut Relations| match relations.change(insert()) {
        Ok(Some(Change::Insert { table, .. })) => table,
        other => panic!("{other:?}"),
    };
    relations.describe(described("x").into(), 1);
    let first = seen(&mut relations);
    relations.describe(described("x").into(), 2);
    assert!(std::sync::Arc::ptr_eq(&first, &seen(&mut relations)));
    relations.describe(described("y").into(), 3);
    assert_eq!(*seen(&mut relations), described("y"));
    relations.describe(described("x").into(), 2);
    assert_eq!(*seen(&mut relations), described("y"), "an older description came later");
}

#[test]
fn a_change_that_does_not_fit_its_table_is_refused() {
    let mut relations = Relations::default();
    let insert = Message::Insert { xid: None, relation: RelationId(7), new: row([Value::Null]) };
    let unknown = relations.change(insert.clone()).unwrap_err();
    assert_eq!(unknown, DecodeError::UnknownRelation { relation: RelationId(7) });
    relations.describe(table(7, ReplicaIdentity::Default, &[("id", 23, true), ("t", 25, false)]).into(), 1);
    let mismatch = relations.change(insert).unwrap_err();
    assert!(matches!(mismatch, DecodeError::Columns { expected: 2, found: 1, .. }));
    assert_eq!(mismatch.problem("here").code, "PG104");

    let update = |old, new: [Value<'_>; 2]| {
        let new = NewRow::Partial(row(new));
        Message::Update { xid: None, relation: RelationId(7), old, new }
    };
    let nameless = relations.change(update(None, [Value::Unchanged, text("x")])).unwrap_err();
    assert_eq!(nameless.problem("here").code, "PG105");
    relations.change(update(None, [text("1"), Value::Unchanged])).unwrap();
    let old = Some(OldRow::Key(row([text("1"), Value::Null])));
    relations.change(update(old, [Value::Unchanged, text("x")])).unwrap();
}

fn arbitrary_row(unchanged: bool) -> impl Strategy<Value = Row> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..20);
    let value = (0..if unchanged { 4 } else { 3 }, bytes);
    proptest::collection::vec(value, 0..8).prop_map(|values| {
        values
            .iter()
            .map(|(kind, bytes)| match kind {
                0 => Value::Null,
                1 => Value::Text(bytes),
                2 => Value::Binary(bytes),
                _ => Value::Unchanged,
            })
            .collect()
    })
}

fn arbitrary_old() -> impl Strategy<Value = OldRow> {
    (any::<bool>(), arbitrary_row(false)).prop_map(|(key, row)| if key { OldRow::Key(row) } else { OldRow::Full(row) })
}

fn arbitrary_commit() -> impl Strategy<Value = CommitPoint> {
    (1..u64::MAX / 2, 1..u64::MAX / 2, any::<i32>()).prop_map(|(lsn, len, time)| CommitPoint {
        lsn: Lsn(lsn),
        end_lsn: Lsn(lsn + len),
        committed_at: Timestamp(i64::from(time)),
    })
}

fn arbitrary_table() -> impl Strategy<Value = SourceTable> {
    let identity = prop_oneof![
        Just(ReplicaIdentity::Default),
        Just(ReplicaIdentity::Index),
        Just(ReplicaIdentity::Full),
        Just(ReplicaIdentity::Nothing)
    ];
    let column =
        ("[^\0]{0,9}", any::<u32>(), any::<i32>(), any::<bool>()).prop_map(|(name, oid, modifier, identity)| {
            SourceColumn { name: name.into(), type_oid: oid, type_modifier: modifier, identity }
        });
    (any::<u32>(), "[^\0]{1,9}", "[^\0]{0,9}", identity, proptest::collection::vec(column, 0..6)).prop_map(
        |(id, schema, name, replica_identity, columns)| SourceTable {
            id: RelationId(id),
            name: TableName::new(schema, name),
            replica_identity,
            columns,
        },
    )
}

fn arbitrary_message() -> impl Strategy<Value = Message> {
    let xid = || any::<Option<u32>>();
    let id = || any::<u32>().prop_map(RelationId);
    prop_oneof![
        (any::<u64>(), any::<i32>(), any::<u32>()).prop_map(|(lsn, time, xid)| Message::Begin {
            final_lsn: Lsn(lsn),
            committed_at: Timestamp(i64::from(time)),
            xid
        }),
        arbitrary_commit().prop_map(Message::Commit),
        (any::<u64>(), "[^\0]{0,9}").prop_map(|(lsn, name)| Message::Origin { lsn: Lsn(lsn), name }),
        (xid(), arbitrary_table()).prop_map(|(xid, table)| Message::Relation { xid, table }),
        (xid(), any::<u32>()).prop_map(|(xid, oid)| Message::Type { xid, oid, name: TableName::new("s", "t") }),
        (xid(), id(), arbitrary_row(false)).prop_map(|(xid, relation, new)| Message::Insert { xid, relation, new }),
        (xid(), id(), arbitrary_row(true))
            .prop_map(|(xid, relation, new)| { Message::Update { xid, relation, old: None, new: new.into() } }),
        (xid(), id(), arbitrary_old(), arbitrary_row(false)).prop_map(|(xid, relation, old, new)| {
            Message::Update { xid, relation, old: Some(old), new: NewRow::Full(new) }
        }),
        (xid(), id(), arbitrary_old()).prop_map(|(xid, relation, old)| Message::Delete { xid, relation, old }),
        (xid(), proptest::collection::vec(id(), 0..5))
            .prop_map(|(xid, relations)| Message::Truncate { xid, relations }),
        (xid(), any::<bool>(), any::<u64>(), "[^\0]{0,9}", proptest::collection::vec(any::<u8>(), 0..30)).prop_map(
            |(xid, transactional, lsn, prefix, content)| Message::Logical {
                xid,
                transactional,
                lsn: Lsn(lsn),
                prefix,
                content: content.into()
            }
        ),
        (any::<u32>(), any::<bool>()).prop_map(|(xid, first_segment)| Message::StreamStart { xid, first_segment }),
        Just(Message::StreamStop),
        (any::<u32>(), arbitrary_commit()).prop_map(|(xid, commit)| Message::StreamCommit { xid, commit }),
        (any::<u32>(), any::<u32>(), any::<Option<u64>>()).prop_map(|(xid, subxid, lsn)| Message::StreamAbort {
            xid,
            subxid,
            at: lsn.map(|lsn| (Lsn(lsn), Timestamp(0)))
        }),
    ]
}

fn framing_of(message: &Message) -> Framing {
    let streamed = matches!(
        message,
        Message::Relation { xid: Some(_), .. }
            | Message::Type { xid: Some(_), .. }
            | Message::Insert { xid: Some(_), .. }
            | Message::Update { xid: Some(_), .. }
            | Message::Delete { xid: Some(_), .. }
            | Message::Truncate { xid: Some(_), .. }
            | Message::Logical { xid: Some(_), .. }
    );
    if streamed { Framing::Streamed } else { Framing::Plain }
}

proptest! {
    #[test]
    fn every_message_survives_its_bytes(message in arbitrary_message()) {
        let parsed = parse(&encode(&message), framing_of(&message), PROTOCOL_MAX);
        prop_assert_eq!(parsed, Ok(message));
    }

    #[test]
    fn no_part_of_a_message_passes_for_a_whole_one(
        message in arbitrary_message(),
        cut in any::<prop::sample::Index>(),
    ) {
        let payload = encode(&message);
        let part = payload.slice(..cut.index(payload.len()));
        let parsed = parse(&part, framing_of(&message), PROTOCOL_MAX);
        // An abort without its position is what versions before 4 send.
        if !matches!(parsed, Ok(Message::StreamAbort { at: None, .. })) {
            prop_assert!(parsed.is_err(), "{:?}", parsed);
        }
    }

    #[test]
    fn damaged_messages_give_errors_and_never_panic(
        message in arbitrary_message(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        swap in any::<bool>(),
    ) {
        let mut payload = encode(&message).to_vec();
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let framing = if swap { Framing::Plain } else { framing_of(&message) };
        let _ = parse(&Bytes::from(payload), framing, PROTOCOL_MAX);
    }

    #[test]
    fn any_bytes_give_an_answer(
        kind in prop_oneof![any::<u8>(), prop::sample::select(b"BCORYIUDTMSEcAbPKrp".as_slice())],
        rest in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(0), prop::sample::select(b"NKOntub".as_slice())],
            0..60,
        ),
        is_streamed in any::<bool>(),
        protocol in 0..6_u8,
    ) {
        let mut payload = vec![kind];
        payload.extend(rest);
        let framing = if is_streamed { Framing::Streamed } else { Framing::Plain };
        if let Ok(message) = parse(&Bytes::from(payload), framing, protocol) {
            let _ = Relations::default().change(message);
        }
    }
}
