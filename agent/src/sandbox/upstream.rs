//! The proxy of this host's network, as the agent's environment names it: what a connector asks of the room's HTTP proxy
//! goes on through it, as the same request would without a sandbox. A proxy that a connection names itself is a target
//! like others: the lists must allow it.

use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

/// A proxy's answer is read up to here.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Empty where the network has no proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upstream {
    proxy: Option<Url>,
    /// Whether the connection, not this host, names the proxy.
    declared: bool,
    /// Hosts and suffixes that are reached directly; `*` is every host.
    direct: Vec<String>,
}

impl Upstream {
    /// From the variables that HTTP libraries read; `declared` are those that the connection sets.
    pub(crate) fn of(variables: &[(String, String)], declared: &[(String, String)]) -> Self {
        let set = |names: [&str; 2]| {
            let mut found = names.iter().filter_map(|name| variables.iter().find(|(known, _)| known == name));
            found.next().map(|(name, value)| (name, value.trim())).filter(|(_, value)| !value.is_empty())
        };
        let chosen = set(["https_proxy", "HTTPS_PROXY"]).or_else(|| set(["http_proxy", "HTTP_PROXY"]));
        let direct = set(["no_proxy", "NO_PROXY"]).map_or("", |(_, value)| value);
        // A name of the host's is not among the variables where the connection sets it, in whatever case.
        let is_declared = |chosen: &str| declared.iter().any(|(name, _)| name.eq_ignore_ascii_case(chosen));
        Self {
            proxy: chosen.and_then(|(_, text)| Url::parse(text).ok()).filter(|url| url.scheme() == "http"),
            declared: chosen.is_some_and(|(name, _)| is_declared(name)),
            direct: direct.split(',').map(|part| part.trim().to_ascii_lowercase()).collect(),
        }
    }

    /// Where the proxy for this target is, if the connection names it.
    pub(super) fn declared_for(&self, host: &str) -> Option<(String, u16)> {
        let proxy = self.proxy.as_ref().filter(|_| self.declared && !self.is_direct(host))?;
        Some((proxy.host_str().unwrap_or_default().to_owned(), port_of(proxy)))
    }

    /// A stream to the target through the proxy; `None` where the target is reached directly. `at` are the addresses of a
    /// proxy that the connection names.
    pub(super) async fn dial(&self, host: &str, port: u16, at: &[SocketAddr]) -> Option<io::Result<TcpStream>> {
        let proxy = self.proxy.as_ref().filter(|_| !self.is_direct(host))?;
        Some(connect(proxy, host, port, at).await)
    }

    fn is_direct(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.direct.iter().filter(|part| !part.is_empty()).any(|part| {
            let name = part.trim_start_matches('.');
            part == "*" || host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
        })
    }
}

fn port_of(proxy: &Url) -> u16 {
    proxy.port_or_known_default().unwrap_or(80)
}

async fn connect(proxy: &Url, host: &str, port: u16, at: &[SocketAddr]) -> io::Result<TcpStream> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let name = proxy.host_str().ok_or_else(|| invalid("the proxy has no host"))?;
    let mut stream =
        if at.is_empty() { TcpStream::connect((name, port_of(proxy))).await? } else { TcpStream::connect(at).await? };
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if !proxy.username().is_empty() {
        let login = format!("{}:{}", proxy.username(), proxy.password().unwrap_or_default());
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        request.push_str(&format!("Proxy-Authorization: Basic {login}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX {
            return Err(invalid("the proxy's answer is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let accepted = String::from_utf8_lossy(&head).split_ascii_whitespace().nth(1).is_some_and(|code| code == "200");
    if accepted { Ok(stream) } else { Err(io::Error::other("the proxy refuses the target")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_hosts_and_suffixes() {
        let variables = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "localhost, .corp.example,db")];
        let upstream = Upstream::of(&variables.map(|(name, value)| (name.to_owned(), value.to_owned())), &[]);
        assert!(upstream.proxy.is_some());
        for (host, direct) in
            [("localhost", true), ("a.Corp.example", true), ("db", true), ("xdb", false), ("a.db", true), ("b", false)]
        {
            assert_eq!(upstream.is_direct(host), direct, "{host}");
        }
    }

    #[test]
    fn a_proxy_that_a_connection_names_is_a_target() {
        let variables = [("HTTPS_PROXY".to_owned(), "http://proxy.example:3128".to_owned())];
        assert_eq!(Upstream::of(&variables, &[]).declared_for("a.example"), None);
        let declared = Upstream::of(&variables, &variables);
        assert_eq!(declared.declared_for("a.example"), Some(("proxy.example".to_owned(), 3128)));
        let direct = [variables.as_slice(), &[("NO_PROXY".to_owned(), "a.example".to_owned())]].concat();
        assert_eq!(Upstream::of(&direct, &direct).declared_for("a.example"), None);
    }

    #[test]
    fn a_proxy_is_the_connections_only_where_its_own_variable_was_chosen() {
        let list = |text: &str| {
            let words = text.split_ascii_whitespace().filter_map(|word| word.split_once('='));
            words.map(|(name, host)| (name.to_owned(), format!("http://{host}"))).collect::<Vec<_>>()
        };
        // What the host has, what the connection sets, which proxy is used, and whether it must be listed.
        for (host, set, proxy, declared) in [
            ("", "", None, false),
            ("HTTPS_PROXY=host:1", "", Some("host"), false),
            ("HTTPS_PROXY=host:1", "HTTP_PROXY=own:2", Some("host"), false),
            ("https_proxy=host:1", "http_proxy=own:2", Some("host"), false),
            ("HTTP_PROXY=host:1", "HTTPS_PROXY=own:2", Some("own"), true),
            ("HTTP_PROXY=host:1", "HTTP_PROXY=own:2", Some("own"), true),
            ("HTTP_PROXY=host:1", "", Some("host"), false),
            ("", "HTTP_PROXY=own:2", Some("own"), true),
            ("HTTPS_PROXY=host:1", "https_proxy=own:2", Some("own"), true),
            ("HTTPS_PROXY=host:1 HTTP_PROXY=host:3", "HTTPS_PROXY=own:2 HTTP_PROXY=own:4", Some("own"), true),
            ("HTTPS_PROXY=host:1", "OTHER=own:2", Some("host"), false),
        ] {
            let (own, case) = (list(set), format!("{host} | {set}"));
            let is_set = |name: &str| own.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            let mut variables = list(host);
            variables.retain(|(name, _)| !is_set(name));
            variables.extend(own.clone());
            let upstream = Upstream::of(&variables, &own);
            assert_eq!(upstream.proxy.as_ref().and_then(Url::host_str), proxy, "{case}");
            assert_eq!(upstream.declared_for("a.example").is_some(), declared, "{case}");
        }
    }

    #[tokio::test]
    async fn a_target_is_asked_of_the_proxy_with_its_login() {
        let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://me:secret@{}", proxy.local_addr().expect("its address"));
        let upstream = Upstream::of(&[("https_proxy".to_owned(), url)], &[]);
        let asked = crate::tasks::spawn("proxy", async move {
            let (mut stream, _) = proxy.accept().await.expect("a client");
            let mut head = vec![0; 1024];
            let count = stream.read(&mut head).await.expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.expect("an answer");
            String::from_utf8_lossy(&head[..count]).into_owned()
        });
        let mut stream = upstream.dial("db.example", 443, &[]).await.expect("a proxy").expect("a stream");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("its bytes");
        assert_eq!(text, "hello");
        let asked = asked.await.expect("joins");
        assert!(
            asked.starts_with("CONNECT db.example:443 HTTP/1.1\r\n") && asked.contains("Basic bWU6c2VjcmV0"),
            "{asked}"
        );
    }
}
