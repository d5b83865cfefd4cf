//! The server: connections, headers and times are bounded.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceExt;

use super::wake;
use crate::agent::to_its_end;

/// The most connections at a time. A further one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

/// The longest wait for the headers of a request, also on an idle connection.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);

/// The longest time of one request with its answer.
const REQUEST_WITHIN: Duration = wake::WAIT_MAX.saturating_add(Duration::from_secs(5));

/// The longest time of one connection. A client that reads slowly gives its place back.
const CONNECTION_WITHIN: Duration = Duration::from_secs(120);

/// The most bytes of a request's line and headers.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The most headers of a request.
const HEADERS_MAX: usize = 64;

/// The time between two tries to listen.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Serves until the process ends. `remark` is logged with the address.
pub fn serve(address: SocketAddr, routes: Router, remark: &str) {
    let served = to_its_end::<(), io::Error>(async {
        let listener = listen(address).await;
        tracing::info!(%address, "HTTP is served{remark}");
        accept(listener, routes).await;
        Ok(())
    });
    if let Err(error) = served {
        tracing::error!("HTTP is off: {error}");
    }
}

/// Listens as soon as the address can be had.
async fn listen(address: SocketAddr) -> TcpListener {
    let mut said = String::new();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                let why = error.to_string();
                if why != said {
                    tracing::error!(
                        "HTTP is off: {address} cannot be listened on ({why}). It is tried again every 10 s; http.listen sets another address"
                    );
                }
                said = why;
            }
        }
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
    }
}

async fn accept(listener: TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = serve_connection(stream, routes.clone());
                tokio::spawn(async move {
                    let _ = timeout(CONNECTION_WITHIN, connection).await;
                    drop(place);
                });
            }
            // No file is left for a connection, or the client has gone.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, routes: Router) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let routes = routes.clone();
        async move {
            let answered = timeout(REQUEST_WITHIN, routes.oneshot(request.map(Body::new))).await;
            answered.unwrap_or_else(|_| Ok(StatusCode::REQUEST_TIMEOUT.into_response()))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = served.await; // a client that breaks off is nobody's concern
}
