//! Where the parts of a run note what they do: for the terminal, and for `status` with every heartbeat.

use serde_json::Value;
use tokio::sync::watch;

use crate::status::StreamStatus;

#[derive(Debug, Clone)]
pub struct Board {
    status: watch::Sender<StreamStatus>,
    heartbeat: watch::Sender<Value>,
}

impl Board {
    pub fn new(status: StreamStatus, heartbeat: watch::Sender<Value>) -> Board {
        let board = Board { status: watch::Sender::new(status), heartbeat };
        board.change(|_| {});
        board
    }

    /// Changes the status and passes it on.
    pub fn change(&self, change: impl FnOnce(&mut StreamStatus)) {
        self.status.send_modify(change);
        let status = serde_json::to_value(&*self.status.borrow()).expect("a status is plain data");
        self.heartbeat.send_replace(status);
    }

    pub fn subscribe(&self) -> watch::Receiver<StreamStatus> {
        self.status.subscribe()
    }
}
