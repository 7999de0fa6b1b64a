//! Commands ask, the owner answers.

use serde_json::json;
use tidegate_model::Position;
use tidegate_sql::requests::{
    Answers, DRAIN, Request, RequestState, Taken, ask, drain_position, new_request_id, request_state, serve,
    unknown_kind, wait_for_answer,
};
use tidegate_standin::Standin;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, Target, at, on_both_servers};

on_both_servers!(
    a_drain_is_answered_once_the_checkpoint_has_passed_it,
    a_request_that_an_owner_left_unanswered_is_answered_by_the_next,
);

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

async fn a_drain_is_answered_once_the_checkpoint_has_passed_it(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let owner = target.own().await;
    let (applied, applying) = watch::channel(at(10));
    let stop = CancellationToken::new();
    let serving =
        tokio::spawn(serve(target.settings(), owner.lease().clone(), Answers::All, drains(applying), stop.clone()));
    let (request, session, key) = (drain(&at(15).to_string()), target.session(), &target.key);
    ask(session, key, &request).await.unwrap();
    ask(session, key, &request).await.unwrap();
    target.until("the owner has taken it", "SELECT count(*) FROM tidegate.request WHERE state = 'running'").await;
    assert_eq!(request_state(session, key, &request.id).await.unwrap(), Some(RequestState::Running(None)));
    applied.send(at(16)).unwrap();
    let answer = timeout(LIMIT, wait_for_answer(session, key, &request.id)).await.unwrap().unwrap();
    assert_eq!(answer["applied_position"], json!(at(16).to_string()));
    let other = Request { arguments: json!({ "position": "0/1" }), ..request };
    assert_eq!(ask(session, key, &other).await.unwrap_err().code, "ST013");
    stop.cancel();
    timeout(LIMIT, serving).await.unwrap().unwrap();
}

async fn a_request_that_an_owner_left_unanswered_is_answered_by_the_next(standin: &'static Standin) {
    let target = Target::new(standin, &[]).await;
    let first = target.own().await;
    let request = drain(&at(9).to_string());
    ask(target.session(), &target.key, &request).await.unwrap();
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
    let answer = timeout(LIMIT, wait_for_answer(target.session(), &target.key, &request.id)).await.unwrap().unwrap();
    assert_eq!(answer["position"], json!(at(9).to_string()));
}
