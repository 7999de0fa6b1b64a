//! Whatever the way transactions are streamed, they come out as if they had come whole.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// What a transaction does, in order.
#[derive(Clone, Debug)]
enum Step {
    Insert(u32, String),
    Update(u32, String),
    Delete(u32),
    Truncate,
    Marker,
    /// Between SAVEPOINT and its RELEASE or (`true`) ROLLBACK TO.
    Savepoint(Vec<Step>, bool),
}

/// How a transaction says who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    None,
    OwnOrigin,
    OwnMessage,
    OwnBoth,
    ForeignOrigin,
    ForeignMessage,
    /// Our message behind something else.
    Late,
}

impl Mark {
    fn is_own(self) -> bool {
        matches!(self, Mark::OwnOrigin | Mark::OwnMessage | Mark::OwnBoth)
    }

    /// What comes at the very beginning.
    fn opening(self, xid: Option<u32>) -> Vec<Message> {
        match self {
            Mark::None | Mark::Late => vec![],
            Mark::OwnOrigin => vec![origin("tidegate_orders_1")],
            Mark::OwnMessage => vec![applied(xid, "orders")],
            Mark::OwnBoth => vec![origin("tidegate_orders_12"), applied(xid, "orders")],
            Mark::ForeignOrigin => vec![origin("tidegate_orders_2_1")],
            Mark::ForeignMessage => vec![applied(xid, "orders_2")],
        }
    }
}

/// One transaction and how it is sent.
#[derive(Clone, Debug)]
struct Plan {
    steps: Vec<Step>,
    mark: Mark,
    streamed: bool,
    /// Rolled back as a whole; possible only where it is streamed.
    aborted: bool,
    /// After how many changes a block ends, over and over.
    blocks: Vec<usize>,
}

/// A transaction flattened: changes and rollbacks with ids of subtransactions.
#[derive(Clone, Debug)]
enum Action {
    Change(u32, Step),
    Abort(u32),
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,5}", Just("wide".repeat(300))]
}

fn step() -> impl Strategy<Value = Step> {
    let leaf = prop_oneof![
        4 => (1..4_u32, value()).prop_map(|(table, value)| Step::Insert(table, value)),
        2 => (1..4_u32, value()).prop_map(|(table, value)| Step::Update(table, value)),
        1 => (1..4_u32).prop_map(Step::Delete),
        1 => Just(Step::Truncate),
        1 => Just(Step::Marker),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        (proptest::collection::vec(inner, 0..6), any::<bool>())
            .prop_map(|(steps, undone)| Step::Savepoint(steps, undone))
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    let steps = proptest::collection::vec(step(), 0..12);
    let blocks = proptest::collection::vec(1..5_usize, 1..5);
    let mark = prop_oneof![
        4 => Just(Mark::None),
        1 => Just(Mark::OwnOrigin),
        1 => Just(Mark::OwnMessage),
        1 => Just(Mark::OwnBoth),
        1 => Just(Mark::ForeignOrigin),
        1 => Just(Mark::ForeignMessage),
        1 => Just(Mark::Late),
    ];
    let sent = (any::<bool>(), proptest::bool::weighted(0.2), blocks);
    (steps, mark, sent).prop_map(|(steps, mark, (streamed, aborted, blocks))| Plan {
        steps,
        mark,
        streamed: streamed || aborted,
        aborted,
        blocks,
    })
}

/// Numbers subtransactions as a server does, and rolls them back innermost first. Returns the subtransactions begun.
fn flatten(steps: &[Step], xid: u32, next: &mut u32, actions: &mut Vec<Action>) -> Vec<u32> {
    let mut begun = Vec::new();
    for step in steps {
        let Step::Savepoint(steps, undone) = step else {
            actions.push(Action::Change(xid, step.clone()));
            continue;
        };
        *next += 1;
        let sub = *next;
        let mut inside = flatten(steps, sub, next, actions);
        inside.push(sub);
        if *undone {
            actions.extend(inside.iter().copied().map(Action::Abort));
        } else {
            begun.extend(inside);
        }
    }
    begun
}

fn message(xid: Option<u32>, step: &Step) -> Message {
    match step {
        Step::Insert(table, value) => Message::Insert { xid, relation: RelationId(*table), new: row(1, value) },
        Step::Update(table, value) => {
            let old =
                (value.len() % 2 == 1).then(|| OldRow::Key([Value::Text(b"1"), Value::Null].into_iter().collect()));
            let new: Row = [Value::Text(value.as_bytes()), Value::Unchanged].into_iter().collect();
            Message::Update { xid, relation: RelationId(*table), old, new: NewRow::Partial(new) }
        }
        Step::Delete(table) => Message::Delete { xid, relation: RelationId(*table), old: OldRow::Full(row(1, "old")) },
        Step::Truncate => Message::Truncate { xid, relations: vec![RelationId(1), RelationId(2)] },
        Step::Marker => logical(xid, true, MESSAGE_PREFIX),
        Step::Savepoint(..) => unreachable!("flattened"),
    }
}

/// The tables that a step needs described, if they are not.
fn describe_for(step: &Step, xid: Option<u32>, described: &mut BTreeSet<u32>) -> Vec<Message> {
    let tables = match step {
        Step::Insert(id, _) | Step::Update(id, _) | Step::Delete(id) => vec![*id],
        Step::Truncate => vec![1, 2],
        Step::Marker | Step::Savepoint(..) => vec![],
    };
    tables.into_iter().filter(|&id| described.insert(id)).map(|id| describe(xid, table(id, "a"))).collect()
}

/// A transaction as the server sends it: pieces that others may come between. The commit is not in it.
fn pieces(plan: &Plan, xid: u32, actions: &[Action]) -> VecDeque<Vec<Message>> {
    let mut pieces = VecDeque::new();
    let mut described = BTreeSet::new();
    let mut lengths = plan.blocks.iter().cycle();
    let mut block: Vec<Message> = Vec::new();
    let mut left = 0;
    let close = |block: &mut Vec<Message>, pieces: &mut VecDeque<Vec<Message>>| {
        if !block.is_empty() {
            block.push(Message::StreamStop);
            pieces.push_back(std::mem::take(block));
        }
    };
    let mut first = true;
    for action in actions {
        match action {
            Action::Change(sub, step) => {
                if block.is_empty() {
                    block.push(start(xid, std::mem::take(&mut first)));
                    left = *lengths.next().unwrap();
                }
                block.extend(describe_for(step, Some(*sub), &mut described));
                block.push(message(Some(if matches!(step, Step::Marker) { xid } else { *sub }), step));
                left -= 1;
                if left == 0 {
                    close(&mut block, &mut pieces);
                }
            }
            Action::Abort(sub) => {
                close(&mut block, &mut pieces);
                pieces.push_back(vec![abort(xid, *sub)]);
            }
        }
    }
    close(&mut block, &mut pieces);
    if first {
        pieces.push_back(vec![start(xid, true), Message::StreamStop]);
    }
    let begins = |piece: &&mut Vec<Message>| matches!(piece[0], Message::StreamStart { first_segment: true, .. });
    let opening = pieces.iter_mut().find(begins).expect("it was begun");
    opening.splice(1..1, plan.mark.opening(Some(xid)));
    if plan.mark == Mark::Late && !first {
        pieces.push_back(vec![start(xid, false), applied(Some(xid), "orders"), Message::StreamStop]);
    }
    pieces
}

/// The changes that the transaction leaves. The server does not say which subtransaction a logical message is of, so
/// one that was rolled back after it was streamed is there.
fn live(actions: &[Action], streamed: bool) -> Vec<&Step> {
    let aborted = |xid| actions.iter().any(|action| matches!(action, Action::Abort(sub) if *sub == xid));
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Change(_, step @ Step::Marker) if streamed => Some(step),
            Action::Change(sub, step) if !aborted(*sub) => Some(step),
            Action::Change(..) | Action::Abort(_) => None,
        })
        .collect()
}

fn whole(steps: &[&Step], mark: Mark, end: u64, described: &mut BTreeSet<u32>) -> Vec<Message> {
    let mut messages = vec![begin(end)];
    messages.extend(mark.opening(None));
    for step in steps {
        messages.extend(describe_for(step, None, described));
        messages.push(message(None, step));
    }
    if mark == Mark::Late && !steps.is_empty() {
        messages.push(applied(None, "orders"));
    }
    messages.push(commit(end));
    messages
}

/// Sends the transactions in the order that `turns` makes of them. Returns the messages; and those of the same
/// transactions one after another, whole, without marks and with nothing in those of our own.
fn interleave(plans: &[Plan], turns: &[Index]) -> (Vec<Message>, Vec<Message>) {
    let mut waiting: Vec<_> = plans
        .iter()
        .zip(1..)
        .map(|(plan, number)| {
            let (xid, mut actions) = (number * 1000, Vec::new());
            flatten(&plan.steps, xid, &mut xid.clone(), &mut actions);
            let pieces = if plan.streamed { pieces(plan, xid, &actions) } else { VecDeque::new() };
            (plan, xid, actions, pieces)
        })
        .collect();
    let (mut sent, mut expected, mut end) = (Vec::new(), Vec::new(), 0);
    // What the server takes for known, in each of the two streams.
    let (mut known, mut known_expected) = (BTreeSet::new(), BTreeSet::new());
    let mut turns = turns.iter().cycle();
    while !waiting.is_empty() {
        let at = turns.next().unwrap().index(waiting.len());
        if let Some(piece) = waiting[at].3.pop_front() {
            sent.extend(piece);
            continue;
        }
        let (plan, xid, actions, _) = waiting.remove(at);
        if plan.aborted {
            sent.push(abort(xid, xid));
            continue;
        }
        end += 10;
        let live = live(&actions, plan.streamed);
        if plan.streamed {
            sent.push(stream_commit(xid, end));
            for action in &actions {
                if let Action::Change(_, step) = action {
                    describe_for(step, None, &mut known);
                }
            }
        } else {
            sent.extend(whole(&live, plan.mark, end, &mut known));
        }
        let left = if plan.mark.is_own() { &[][..] } else { &live };
        expected.extend(whole(left, Mark::None, end, &mut known_expected));
    }
    (sent, expected)
}

proptest! {
    #[test]
    fn streamed_transactions_come_out_as_if_they_had_come_whole(
        plans in proptest::collection::vec(plan(), 1..7),
        turns in proptest::collection::vec(any::<Index>(), 1..40),
        budget in prop_oneof![Just(0), 1..2000_u64, 2000..20_000_u64, Just(LARGE)],
    ) {
        let (sent, expected) = interleave(&plans, &turns);
        let mut whole = Run::new(0, LARGE);
        whole.all(&expected);
        let mut streamed = Run::new(0, budget).dropping();
        streamed.all(&sent);
        prop_assert_eq!(streamed.seen(), whole.seen());
        let own = plans.iter().filter(|plan| plan.mark.is_own() && !plan.aborted).count() as u64;
        prop_assert_eq!(streamed.assembler.dropped(), own);
        let mut spooled = Run::new(0, budget);
        spooled.all(&expected);
        prop_assert_eq!(spooled.seen(), whole.seen());
        for run in [streamed, spooled] {
            let Run { assembler, spool, out, .. } = run;
            drop((assembler, out));
            prop_assert_eq!((spool.disk_bytes(), spool.memory_bytes()), (0, 0));
        }
    }

    #[test]
    fn any_messages_give_events_or_a_problem(
        messages in proptest::collection::vec((0..12_u32, 1..4_u32, 2..6_u64, any::<bool>()), 0..30),
        budget in prop_oneof![Just(0), Just(300), Just(LARGE)],
    ) {
        let mut run = Run::new(0, budget);
        for (kind, number, end, flag) in messages {
            let xid = flag.then_some(number);
            let sent = match kind {
                0 => begin(end),
                1 => commit(end),
                2 => start(number, flag),
                3 => Message::StreamStop,
                4 => stream_commit(number, end),
                5 => abort(number, end as u32),
                6 | 7 => describe(xid, table(number, if flag { "a" } else { "b" })),
                8 => message(xid, &Step::Truncate),
                9 => message(xid, &Step::Marker),
                10 => message(xid, &Step::Delete(number)),
                _ => insert(xid, number, 1),
            };
            // What would be refused ends the run; what is taken must go on to make sense.
            let _ = run.assembler.message(Lsn(1), encode(&sent), &mut run.out);
            run.keepalive(end);
        }
        let positions: Vec<_> = run.out.iter().map(|event| match event {
            Event::Commit(transaction) => transaction.position.lsn(),
            Event::Watermark(position) => position.lsn(),
        }).collect();
        prop_assert!(positions.is_sorted());
    }
}
