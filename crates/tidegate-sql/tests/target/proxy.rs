//! A connection that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Passes bytes on to a server. Once told to, it withholds what the server answers; once cut, it closes every
/// connection it has, and passes new ones on as before.
pub struct Proxy {
    pub port: u16,
    control: Arc<Control>,
}

#[derive(Default)]
struct Control {
    deaf: AtomicBool,
    cut: Notify,
}

impl Proxy {
    pub async fn before(server_port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let control = Arc::new(Control::default());
        let accepting = Arc::clone(&control);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
                tokio::spawn(pass_on(client, server, Arc::clone(&accepting)));
            }
        });
        Proxy { port, control }
    }

    /// From now on no answer gets through.
    pub fn withhold_answers(&self) {
        self.control.deaf.store(true, Ordering::SeqCst);
    }

    /// Closes all connections. New ones work.
    pub fn cut(&self) {
        self.control.deaf.store(false, Ordering::SeqCst);
        self.control.cut.notify_waiters();
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, control: Arc<Control>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let cut = control.cut.notified();
    tokio::pin!(cut);
    loop {
        tokio::select! {
            () = &mut cut => return,
            read = from_client.read(&mut up) => match read {
                Ok(n) if n > 0 => to_server.write_all(&up[..n]).await.unwrap_or(()),
                _ => return,
            },
            read = from_server.read(&mut down) => match read {
                Ok(n) if n > 0 => {
                    if !control.deaf.load(Ordering::SeqCst) {
                        to_client.write_all(&down[..n]).await.unwrap_or(());
                    }
                }
                _ => return,
            },
        }
    }
}
