//! Where the parts of a run note what they do: for the terminal, and for `status` with every heartbeat.

use std::sync::Mutex;

use serde_json::Value;
use tokio::sync::watch;

use crate::status::StreamStatus;

#[derive(Debug)]
pub struct Board {
    status: watch::Sender<StreamStatus>,
    /// Where heartbeats take it from, once there is an owner who gives them.
    heartbeat: Mutex<Option<watch::Sender<Value>>>,
}

impl Board {
    pub fn new(status: StreamStatus) -> Board {
        Board { status: watch::Sender::new(status), heartbeat: Mutex::new(None) }
    }

    /// Passes the status on with every heartbeat from now on.
    pub fn beat(&self, heartbeat: watch::Sender<Value>) {
        *self.heartbeat.lock().expect("nothing panics while it is held") = Some(heartbeat);
        self.change(|_| {});
    }

    /// Changes the status and passes it on.
    pub fn change(&self, change: impl FnOnce(&mut StreamStatus)) {
        self.status.send_modify(change);
        let status = serde_json::to_value(&*self.status.borrow()).expect("a status is plain data");
        if let Some(heartbeat) = &*self.heartbeat.lock().expect("nothing panics while it is held") {
            heartbeat.send_replace(status);
        }
    }

    pub fn subscribe(&self) -> watch::Receiver<StreamStatus> {
        self.status.subscribe()
    }
}
