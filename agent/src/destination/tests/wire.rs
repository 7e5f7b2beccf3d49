//! A proxy between a destination and a real store that loses, delays and cuts what passes: the answers that no well-behaved
//! server gives. One request a connection; the request's bytes go on as they came, so that signatures stay valid.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::tasks;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// It does not reach the store and is answered with this status and code.
    Status(u16, &'static str),
    /// It reaches the store, and the answer is 502.
    BadGateway,
    /// It reaches the store, and the connection is reset instead of an answer.
    Reset,
    /// The answer's head comes, and half of its body.
    Truncated,
    /// It is answered 503 at once and reaches the store so much later.
    Late(Duration),
    /// The answer says that the store's clock is a day ahead, and refuses.
    Skewed,
    /// The store does not hear that it should write only if nothing is there, as one that does not know conditions.
    Unconditional,
}

/// The headers by which a client says "only if nothing is there".
const CONDITIONS: [&str; 2] = ["if-none-match:", "x-goog-if-generation-match:"];

type Script = Arc<Mutex<Vec<(&'static str, Wire)>>>;
type Dice = Arc<Mutex<Option<fastrand::Rng>>>;

/// The proxy; it ends when dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    script: Script,
    dice: Dice,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn before(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (script, dice) = (Script::default(), Dice::default());
        let shared = (Arc::clone(&script), Arc::clone(&dice));
        let accepting = tasks::spawn("fault proxy", async move {
            while let Ok((client, _)) = listener.accept().await {
                let (script, dice) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                // Ends with its connection.
                drop(tasks::spawn("proxied request", async move {
                    drop(pass(client, server, &script, &dice).await);
                }));
            }
        });
        Proxy { address, script, dice, accepting }
    }

    /// The next request whose first line contains the text meets this, once.
    pub(super) fn plan(&self, line: &'static str, wire: Wire) {
        self.script.lock().unwrap().push((line, wire));
    }

    pub(super) fn unused(&self) -> Vec<(&'static str, Wire)> {
        self.script.lock().unwrap().clone()
    }

    /// From here on every fifth write meets something.
    pub(super) fn throw_dice(&self, seed: Option<u64>) {
        *self.dice.lock().unwrap() = seed.map(fastrand::Rng::with_seed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A server that gives every request this answer.
pub(super) async fn refusing(wire: Wire) -> Proxy {
    let proxy = Proxy::before(SocketAddr::from(([127, 0, 0, 1], 9))).await;
    (0..64).for_each(|_| proxy.plan("HTTP/1.1", wire));
    proxy
}

fn next(line: &str, script: &Script, dice: &Dice) -> Option<Wire> {
    let mut script = script.lock().unwrap();
    if let Some(index) = script.iter().position(|(text, _)| line.contains(text)) {
        return Some(script.remove(index).1);
    }
    let mut dice = dice.lock().unwrap();
    let dice = dice.as_mut()?;
    if line.starts_with("GET") || line.starts_with("HEAD") {
        return (dice.u8(..30) == 0).then_some(Wire::Truncated);
    }
    let busy = [(409, "ConditionalRequestConflict"), (412, "PreconditionFailed"), (429, "TooManyRequests")];
    let broken = [(500, "InternalError"), (503, "SlowDown")];
    let status = |(status, code): (u16, &'static str)| Wire::Status(status, code);
    match dice.u8(..40) {
        0 => Some(status(busy[dice.usize(..3)])),
        1 => Some(status(broken[dice.usize(..2)])),
        2 | 3 => Some(Wire::BadGateway),
        4 | 5 => Some(Wire::Reset),
        6 | 7 => Some(Wire::Late(Duration::from_millis(dice.u64(..400)))),
        _ => None,
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, script: &Script, dice: &Dice) -> std::io::Result<()> {
    let request = read_message(&mut client).await?;
    let text = String::from_utf8_lossy(&request);
    // Some clients spell the marks of a key.
    let spelled = [("%2F", "/"), ("%2E", "."), ("%5F", "_"), ("%2D", "-")];
    let line = text.lines().next().unwrap_or_default();
    let line = spelled.iter().fold(line.to_owned(), |line, (escape, letter)| line.replace(escape, letter));
    match next(&line, script, dice) {
        None => client.write_all(&forwarded(server, &request).await?).await?,
        Some(Wire::Unconditional) => client.write_all(&forwarded(server, &unconditional(&request)).await?).await?,
        Some(Wire::Status(status, code)) => client.write_all(&refusal(status, code, 0)).await?,
        Some(Wire::Skewed) => client.write_all(&refusal(403, "SignatureDoesNotMatch", 86_400)).await?,
        Some(Wire::BadGateway) => {
            forwarded(server, &request).await?;
            client.write_all(&refusal(502, "BadGateway", 0)).await?;
        }
        Some(Wire::Reset) => {
            forwarded(server, &request).await?;
            client.set_zero_linger()?;
            return Ok(());
        }
        Some(Wire::Truncated) => {
            let answer = forwarded(server, &request).await?;
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
            let half = head + (answer.len() - head) / 2;
            client.write_all(&answer[..half]).await?;
        }
        Some(Wire::Late(delay)) => {
            client.write_all(&refusal(503, "SlowDown", 0)).await?;
            client.shutdown().await?;
            tokio::time::sleep(delay).await;
            forwarded(server, &request).await?;
        }
    }
    client.shutdown().await
}

/// Head and body of a request. Its size stands in its head: the stores' clients send no chunks.
async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut wanted = usize::MAX;
    while message.len() < wanted {
        let mut buffer = vec![0; 16 << 10];
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        message.extend_from_slice(&buffer[..read]);
        if wanted == usize::MAX
            && let Some(end) = message.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&message[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:").map(str::trim));
            wanted = end + 4 + length.map_or(0, |length| length.parse().expect("a number"));
        }
    }
    Ok(message)
}

/// The store's whole answer, in which it says that it closes the connection.
async fn forwarded(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let line = request.windows(2).position(|two| two == b"\r\n").map_or(0, |at| at + 2);
    let (first, rest) = request.split_at(line);
    stream.write_all(&[first, b"connection: close\r\n", rest].concat()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn unconditional(request: &[u8]) -> Vec<u8> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n").map_or(request.len(), |at| at + 2);
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let is_condition = |line: &&str| !CONDITIONS.iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    let kept: String = head.split_inclusive("\r\n").filter(is_condition).collect();
    [kept.as_bytes(), &request[end..]].concat()
}

fn refusal(status: u16, code: &str, ahead_seconds: i64) -> Vec<u8> {
    let date = (chrono::Utc::now() + chrono::TimeDelta::seconds(ahead_seconds)).format("%a, %d %b %Y %H:%M:%S GMT");
    let body = format!("<Error><Code>{code}</Code><Message>as the script says</Message></Error>");
    let head = format!("HTTP/1.1 {status} Scripted\r\ndate: {date}\r\ncontent-length: {}\r\n", body.len());
    format!("{head}connection: close\r\n\r\n{body}").into_bytes()
}
