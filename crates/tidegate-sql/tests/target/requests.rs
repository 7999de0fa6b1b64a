//! Commands ask, the owner answers.

use serde_json::json;
use tidegate_model::Position;
use tidegate_sql::requests::{
    Answers, DRAIN, Request, RequestState, TURN, Taken, ask, drain_position, new_request_id, request_state, serve,
    unknown_kind, wait_for_answer,
};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, Target, at};

fn drain(position: &str) -> Request {
    Request { id: new_request_id(), kind: DRAIN.to_owned(), arguments: json!({ "position": position }) }
}

/// Does drains, and refuses everything else.
fn drains(applied: watch::Receiver<Position>) -> mpsc::Sender<Taken> {
    let (doers, mut taken) = mpsc::channel::<Taken>(8);
    tokio::spawn(async move {
        while let Some(taken) = taken.recv().await {
            let mut applied = applied.clone();
            tokio::spawn(async move {
                if taken.request.kind != DRAIN {
                    let problem = unknown_kind(&taken.request);
                    return taken.refuse(&problem);
                }
                let position = match drain_position(&taken.request) {
                    Ok(position) => position,
                    Err(problem) => return taken.refuse(&problem),
                };
                let Ok(now) = applied.wait_for(|applied| *applied >= position).await.map(|now| now.clone()) else {
                    return;
                };
                taken.answer(json!({ "position": position.to_string(), "applied_position": now.to_string() }));
            });
        }
    });
    doers
}

#[tokio::test]
async fn a_drain_is_answered_once_the_checkpoint_has_passed_it() {
    let target = Target::new("").await;
    let owner = target.own().await;
    let (applied, applying) = watch::channel(at(10));
    let stop = CancellationToken::new();
    let serving =
        tokio::spawn(serve(target.settings(), owner.lease().clone(), Answers::All, drains(applying), stop.clone()));
    let (request, client, key) = (drain(&at(15).to_string()), target.client(), &target.key);
    ask(client, key, &request).await.unwrap();
    ask(client, key, &request).await.unwrap();
    target.until("the owner has taken it", "SELECT state = 'running' FROM tidegate.request").await;
    assert_eq!(request_state(client, key, &request.id).await.unwrap(), Some(RequestState::Running(None)));
    applied.send(at(16)).unwrap();
    let answer = timeout(LIMIT, wait_for_answer(client, key, &request.id)).await.unwrap().unwrap();
    assert_eq!(answer["applied_position"], json!(at(16).to_string()));
    for (request, what) in
        [(drain("nowhere"), "no position"), (Request { kind: "dance".to_owned(), ..drain("0/1") }, "unknown kind")]
    {
        ask(client, key, &request).await.unwrap();
        let answer = timeout(LIMIT, wait_for_answer(client, key, &request.id)).await.unwrap().unwrap();
        assert_eq!(answer["error"]["code"], json!("ST015"), "{what}");
    }
    let other = Request { arguments: json!({ "position": "0/1" }), ..request };
    assert_eq!(ask(client, key, &other).await.unwrap_err().code, "ST013");
    stop.cancel();
    timeout(LIMIT, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_an_owner_left_unanswered_is_answered_by_the_next() {
    let target = Target::new("").await;
    let first = target.own().await;
    let request = drain(&at(9).to_string());
    ask(target.client(), &target.key, &request).await.unwrap();
    target.sql("UPDATE tidegate.request SET state = 'running'").await;
    drop(first);
    let second = target.own().await;
    let (_applied, applying) = watch::channel(at(10));
    tokio::spawn(serve(
        target.settings(),
        second.lease().clone(),
        Answers::All,
        drains(applying),
        CancellationToken::new(),
    ));
    let answer = timeout(LIMIT, wait_for_answer(target.client(), &target.key, &request.id)).await.unwrap().unwrap();
    assert_eq!(answer["position"], json!(at(9).to_string()));
}

#[tokio::test]
async fn an_owner_for_one_request_leaves_turns_of_others_to_an_owner_that_stays() {
    let target = Target::new("").await;
    let (client, key) = (target.client(), &target.key);
    let turn = || Request { kind: TURN.to_owned(), ..drain("0/1") };
    let (left, asked, ours, drained) = (turn(), turn(), turn(), drain(&at(9).to_string()));
    ask(client, key, &left).await.unwrap();
    target.sql("UPDATE tidegate.request SET state = 'running'").await;
    for request in [&asked, &ours, &drained] {
        ask(client, key, request).await.unwrap();
    }
    let owner = target.own().await;
    let (_applied, applying) = watch::channel(at(10));
    let answers = Answers::NoTurnBut { id: ours.id.clone() };
    let (settings, doers) = (target.settings(), drains(applying));
    tokio::spawn(serve(settings, owner.lease().clone(), answers, doers, CancellationToken::new()));
    for request in [&ours, &drained] {
        timeout(LIMIT, wait_for_answer(client, key, &request.id)).await.unwrap().unwrap();
    }
    assert_eq!(request_state(client, key, &left.id).await.unwrap(), Some(RequestState::Running(None)));
    assert_eq!(request_state(client, key, &asked.id).await.unwrap(), Some(RequestState::Asked));
}
