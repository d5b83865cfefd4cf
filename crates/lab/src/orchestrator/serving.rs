//! The members' sockets: which members accept, refuse or hang, and which member answers for another.

use std::io;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::http::{self, Request};
use super::{Inner, Orchestrator, Process};

const BACKLOG: u32 = 128;

/// Serves a member's socket until the runtime ends.
pub(super) async fn serve(orchestrator: Orchestrator, member: usize, mut listener: TcpListener) {
    let mut life = orchestrator.0.life.subscribe();
    loop {
        if orchestrator.inner().is_down(member) {
            match refuse(&orchestrator, member, listener, &mut life).await {
                Ok(again) => listener = again,
                Err(_) => return,
            }
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if !orchestrator.inner().is_down(member) => {
                    tokio::spawn(hold(orchestrator.clone(), member, stream));
                }
                Ok(_) => {}
                Err(_) => return,
            },
            changed = life.changed() => if changed.is_err() { return },
        }
    }
}

/// Refuses connections until the member starts. The port stays bound, so no other program can take it.
async fn refuse(
    orchestrator: &Orchestrator,
    member: usize,
    listener: TcpListener,
    life: &mut watch::Receiver<u64>,
) -> io::Result<TcpListener> {
    let address = listener.local_addr()?;
    drop(listener);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    while orchestrator.inner().is_down(member) {
        life.changed().await.map_err(io::Error::other)?;
    }
    socket.listen(BACKLOG)
}

/// Serves a connection until its member is killed or cut off.
async fn hold(orchestrator: Orchestrator, member: usize, stream: TcpStream) {
    let mut life = orchestrator.0.life.subscribe();
    let ends = async {
        while life.changed().await.is_ok() {
            let inner = orchestrator.inner();
            if inner.is_down(member) || inner.is_cut_off {
                return;
            }
        }
    };
    let _ = stream.set_nodelay(true);
    tokio::select! {
        _ = talk(&orchestrator, member, stream) => {}
        () = ends => {}
    }
}

async fn talk(orchestrator: &Orchestrator, member: usize, mut stream: TcpStream) -> io::Result<()> {
    let mut life = orchestrator.0.life.subscribe();
    let mut answers = 0;
    while let Some(request) = http::read_request(&mut stream).await? {
        let asked = orchestrator.inner().asked(member, &request);
        while orchestrator.inner().hangs(member, asked) {
            // A process that continues (SIGCONT) answers the requests that came meanwhile.
            life.changed().await.map_err(io::Error::other)?;
        }
        let fault = orchestrator.inner().fault(member, asked);
        if let Some(fault) = fault {
            if !http::respond_wrongly(&mut stream, fault).await? {
                return Ok(());
            }
            continue;
        }
        let takes = orchestrator.inner().takes(&request);
        tokio::time::sleep(takes).await;
        let reply = orchestrator.inner().request(asked, &request);
        answers += 1;
        let closes = orchestrator.inner().settings.closes_after.is_some_and(|most| answers >= most);
        http::respond(&mut stream, &reply, asked != member, closes).await?;
        if closes {
            return Ok(());
        }
    }
    Ok(())
}

impl Inner {
    fn is_down(&self, member: usize) -> bool {
        self.members[member].process == Process::Down
    }

    fn takes(&self, request: &Request) -> Duration {
        let is_of_history = self.path(request).is_some_and(|path| path.starts_with("audit-recovery"));
        if is_of_history { self.settings.history_page_takes } else { Duration::ZERO }
    }

    /// Which member answers a request to this member.
    ///
    /// All but local requests are proxied to the leader, if one is known (facts §9). Without raft none are proxied.
    fn asked(&self, member: usize, request: &Request) -> usize {
        if !self.settings.raft || self.leads(member) || self.path(request).is_none_or(super::answers::is_local) {
            return member;
        }
        self.leader.unwrap_or(member)
    }

    fn hangs(&self, member: usize, asked: usize) -> bool {
        self.is_cut_off || [member, asked].iter().any(|member| self.members[*member].process == Process::Hung)
    }

    fn fault(&self, member: usize, asked: usize) -> Option<http::Fault> {
        // The leader is gone, and this member has not noticed (26-relays).
        let relays_to_nobody = (asked != member && self.is_down(asked)).then_some(http::Fault::Gateway(502));
        self.members[member].fault.or(relays_to_nobody).or(self.members[asked].fault)
    }
}
