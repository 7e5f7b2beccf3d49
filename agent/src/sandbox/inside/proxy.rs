//! The room's HTTP proxy, for libraries that read HTTPS_PROXY: CONNECT to any port, and plain HTTP one request at a time.
//! It knows no list: the relay decides, and its refusal becomes a 403 that says what to do.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::doors::{Answer, ask};

/// A request's head; libraries stay far below.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// One connection of a client.
pub(super) async fn serve(mut stream: TcpStream) {
    let Ok(Ok((head, rest))) = tokio::time::timeout(HEAD_TIME_MAX, head(&mut stream)).await else { return };
    let Some(request) = Request::parse(&head) else {
        drop(stream.write_all(&reply("400 Bad Request", "this is no request for a proxy")).await);
        return;
    };
    let Request { host, port, first } = request;
    let target = format!("{host}:{port}");
    let mut outside = match ask(&format!("http {host} {port}")).await {
        Ok(Answer::Open(outside)) => outside,
        Ok(Answer::Refused) => {
            let text = format!(
                "{target} is not among the places that this host's policy (sandbox.egress) and the connection (config.egress) list"
            );
            drop(stream.write_all(&reply("403 Forbidden", &text)).await);
            return;
        }
        Ok(Answer::Failed) | Err(_) => {
            drop(stream.write_all(&reply("502 Bad Gateway", &format!("{target} could not be reached"))).await);
            return;
        }
    };
    let begun = match &first {
        None => stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await,
        Some(first) => outside.write_all(first).await,
    };
    if begun.is_ok() && outside.write_all(&rest).await.is_ok() {
        drop(tokio::io::copy_bidirectional(&mut stream, &mut outside).await);
    }
}

/// The head up to its empty line, and what came after it.
async fn head(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((bytes, rest));
        }
        if bytes.len() > HEAD_BYTES_MAX || stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::other("no head"));
        }
    }
}

fn reply(status: &str, text: &str) -> Vec<u8> {
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
    .into_bytes()
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    host: String,
    port: u16,
    /// What the target hears first; `None` for CONNECT.
    first: Option<Vec<u8>>,
}

impl Request {
    fn parse(head: &[u8]) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let (line, headers) = head.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if method == "CONNECT" {
            let (host, port) = target.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let plain = !host.is_empty() && !host.contains(|character: char| character.is_whitespace());
            return Some(Self { host: host.to_owned(), port: port.parse().ok()?, first: None }).filter(|_| plain);
        }
        let url = Url::parse(target).ok().filter(|url| url.scheme() == "http")?;
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut first = format!("{method} {path} {version}\r\n");
        let kept = headers.split("\r\n").filter(|line| !line.is_empty() && !is_hop(line));
        kept.for_each(|line| first.extend([line, "\r\n"]));
        first.push_str("Connection: close\r\n\r\n");
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Self { host, port: url.port_or_known_default()?, first: Some(first.into_bytes()) })
    }
}

/// What is between client and proxy only. One request per connection: the next one may be for another target.
fn is_hop(header: &str) -> bool {
    let name = header.split(':').next().unwrap_or_default().to_ascii_lowercase();
    name.starts_with("proxy-") || name == "connection" || name == "keep-alive"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_their_target() {
        let parse = |text: &str| Request::parse(text.as_bytes());
        let connect = parse("CONNECT db.example:8443 HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
        assert_eq!((connect.host.as_str(), connect.port, connect.first), ("db.example", 8443, None));
        let six = parse("CONNECT [fd00::1]:443 HTTP/1.1\r\n\r\n").expect("a request");
        assert_eq!((six.host.as_str(), six.port), ("fd00::1", 443));
        let plain = "GET http://a.example:81/x?y=1 HTTP/1.1\r\nHost: a.example:81\r\nProxy-Authorization: z\r\nConnection: keep-alive\r\nA: b\r\n\r\n";
        let plain = parse(plain).expect("a request");
        let first = "GET /x?y=1 HTTP/1.1\r\nHost: a.example:81\r\nA: b\r\nConnection: close\r\n\r\n";
        assert_eq!(plain, Request { host: "a.example".to_owned(), port: 81, first: Some(first.as_bytes().to_vec()) });
        for wrong in
            ["GET / HTTP/1.1\r\n\r\n", "CONNECT a HTTP/1.1\r\n\r\n", "GET https://a/ HTTP/1.1\r\n\r\n", "x\r\n\r\n"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
