//! A small HTTP/1.1 server. It writes answers by hand, because some of them have to be wrong.
//!
//! Like Go's server, it sends long and proxied bodies chunked, and others with their length (1-healthy/*.headers).

use std::io;

use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REQUEST_MAX: usize = 64 << 10;

/// The longest body that is not sent chunked, in bytes.
const LENGTH_KNOWN_MAX: usize = 2048;

const JSON: &str = "Content-Type: application/json; charset=UTF-8\r\n";
const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n";
const HTML: &str = "Content-Type: text/html\r\n";
const ASK_AGAIN: &str = "Content-Type: text/plain; charset=utf-8\r\n\
    Www-Authenticate: Basic realm=\"Authorization Required\"\r\nX-Content-Type-Options: nosniff\r\n";

/// Ways to answer wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// HTTP 500 with Orchestrator's own error object.
    InternalError,
    /// A body that is not JSON.
    Garbage,
    /// The body ends before its announced length.
    Truncated,
    /// A hundred million bytes.
    Huge,
    /// JSON with wrong types.
    WrongTypes,
    /// HTTP 401.
    Unauthorized,
    /// The answer of a gateway that does not reach Orchestrator: 502, 503 or 504, with an HTML page.
    Gateway(u16),
}

/// The parts of a request that matter here.
pub(super) struct Request {
    pub(super) path: String,
    pub(super) authorization: Option<String>,
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    headers: &'static str,
    body: String,
}

impl Reply {
    /// A bare array, object or string.
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: JSON, body: body.to_string() }
    }

    /// A command's success.
    pub(super) fn done(message: &str, details: &Value) -> Self {
        Self::json(200, &json!({"Code": "OK", "Message": message, "Details": details}))
    }

    /// An error (1-healthy/cluster_nosuch.json).
    pub(super) fn error(message: &str) -> Self {
        Self::json(500, &json!({"Code": "ERROR", "Message": message, "Details": null}))
    }

    /// The answer to an unknown request (1-healthy/recently-active-instance-recovery).
    pub(super) fn not_found() -> Self {
        Self { status: 404, headers: TEXT, body: "404 page not found\n".to_owned() }
    }

    /// The answer to missing or wrong credentials (20-basic-auth).
    pub(super) fn unauthorized() -> Self {
        Self { status: 401, headers: ASK_AGAIN, body: "Not Authorized\n".to_owned() }
    }
}

/// Reads one request; `None` if the client has gone.
pub(super) async fn read_request(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&bytes).map_err(io::Error::other)?;
        if parsed.is_complete() {
            let authorization = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("authorization"));
            return Ok(Some(Request {
                path: request.path.unwrap_or_default().to_owned(),
                authorization: authorization.map(|header| String::from_utf8_lossy(header.value).into_owned()),
            }));
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 || bytes.len() > REQUEST_MAX {
            return Ok(None);
        }
        bytes.extend(&buffer[..read]);
    }
}

/// Sends an answer. The proxied answer of another member is chunked.
pub(super) async fn respond(stream: &mut TcpStream, reply: &Reply, is_proxied: bool, closes: bool) -> io::Result<()> {
    let Reply { status, headers, body } = reply;
    let length = body.len();
    let closing = if closes { "Connection: close\r\n" } else { "" };
    let text = if is_proxied || length > LENGTH_KNOWN_MAX {
        let vary = if is_proxied { "Vary: Accept-Encoding\r\n" } else { "" };
        let head = head(*status, headers);
        format!("{head}{vary}{closing}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
    } else {
        format!("{}{closing}Content-Length: {length}\r\n\r\n{body}", head(*status, headers))
    };
    stream.write_all(text.as_bytes()).await
}

/// Sends a wrong answer. Returns whether the connection stays usable.
pub(super) async fn respond_wrongly(stream: &mut TcpStream, fault: Fault) -> io::Result<bool> {
    let raw = |body: &str| Reply { status: 200, headers: JSON, body: body.to_owned() };
    let reply = match fault {
        Fault::InternalError => Reply::error("the lab was told to fail"),
        Fault::Garbage => raw("<html>not the API</html>"),
        Fault::WrongTypes => raw(r#"[{"Key":"node01:3306","ReadOnly":"yes"}]"#),
        Fault::Unauthorized => Reply::unauthorized(),
        Fault::Gateway(status) => {
            Reply { status, headers: HTML, body: "<html>no server available</html>\n".to_owned() }
        }
        Fault::Truncated => {
            let text = format!("{}Content-Length: 1000\r\n\r\n[{{\"Key\":", head(200, JSON));
            stream.write_all(text.as_bytes()).await?;
            return Ok(false);
        }
        Fault::Huge => {
            const BYTES: usize = 100_000_000;
            let text = format!("{}Content-Length: {BYTES}\r\n\r\n", head(200, JSON));
            stream.write_all(text.as_bytes()).await?;
            let block = vec![b' '; 64 << 10];
            for _ in 0..BYTES / block.len() {
                stream.write_all(&block).await?;
            }
            return Ok(false);
        }
    };
    respond(stream, &reply, false, false).await?;
    Ok(true)
}

/// The status line and the headers, without those of the body's length.
fn head(status: u16, headers: &str) -> String {
    let reason = match status {
        200 => "OK",
        401 => "Unauthorized",
        404 => "Not Found",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    };
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now()).unwrap_or_default();
    format!("HTTP/1.1 {status} {reason}\r\n{headers}Date: {date}\r\n")
}
