//! A small HTTP/1.1 server: answers are written by hand, because some of them have to be wrong.

use std::io;

use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REQUEST_MAX: usize = 64 << 10;

/// Ways to answer wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// HTTP 500 with Orchestrator's own error object.
    InternalError,
    /// No JSON.
    Garbage,
    /// The body ends before its announced length.
    Truncated,
    /// A hundred million bytes.
    Huge,
    /// JSON with wrong types.
    WrongTypes,
    /// HTTP 401.
    Unauthorized,
}

/// A request, as far as it matters here.
pub(super) struct Request {
    pub(super) path: String,
    pub(super) authorization: Option<String>,
}

/// Reads one request; `None`: the client has gone.
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

/// Answers with JSON.
pub(super) async fn respond(stream: &mut TcpStream, status: u16, body: &str) -> io::Result<()> {
    let head = head(status, body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

/// Answers wrongly; whether the connection can go on.
pub(super) async fn respond_wrongly(stream: &mut TcpStream, fault: Fault) -> io::Result<bool> {
    match fault {
        Fault::InternalError => {
            respond(stream, 500, r#"{"Code":"ERROR","Message":"the lab was told to fail","Details":null}"#).await?;
        }
        Fault::Garbage => respond(stream, 200, "<html>not the API</html>").await?,
        Fault::WrongTypes => respond(stream, 200, r#"[{"Key":"node01:3306","ReadOnly":"yes"}]"#).await?,
        Fault::Unauthorized => respond(stream, 401, r#""Not authorized""#).await?,
        Fault::Truncated => {
            let text = head(200, 1_000);
            stream.write_all(format!("{text}[{{\"Key\":").as_bytes()).await?;
            return Ok(false);
        }
        Fault::Huge => {
            const BYTES: usize = 100_000_000;
            stream.write_all(head(200, BYTES).as_bytes()).await?;
            let block = vec![b' '; 64 << 10];
            for _ in 0..BYTES / block.len() {
                stream.write_all(&block).await?;
            }
            return Ok(false);
        }
    }
    Ok(true)
}

fn head(status: u16, length: usize) -> String {
    let reason = match status {
        200 => "OK",
        401 => "Unauthorized",
        404 => "Not Found",
        _ => "Internal Server Error",
    };
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now()).unwrap_or_default();
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json; charset=UTF-8\r\nDate: {date}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}
