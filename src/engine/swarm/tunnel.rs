//! A Docker behind ssh, reached as the docker CLI reaches it: the machine's own `ssh`, with everything that its
//! configuration says, starts `docker system dial-stdio` there, and one such connection carries requests.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Context as _, Result, bail};
use bollard::{BollardRequest, ClientVersion, Docker};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

use crate::process::{Run, Talk};

/// Seconds until a machine that does not answer is given up.
const PATIENCE: &str = "ConnectTimeout=15";

/// Bytes of what `ssh` says of its end.
const WORDS: u64 = 4096;

/// Where `ssh://[user@]host[:port][/socket]` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// Docker's socket there, where it is another than the usual one.
    socket: Option<String>,
}

/// A client of the Docker at an address. Nothing is connected yet.
pub fn client(address: &str, timeout: u64, version: &ClientVersion) -> Result<Docker> {
    let client = Client::builder(TokioExecutor::new()).build(Dial(Address::read(address)?));
    let transport = move |request: BollardRequest| {
        let answer = client.request(request);
        Box::pin(async move { answer.await.map_err(bollard::errors::Error::from) })
            as Pin<Box<dyn Future<Output = _> + Send>>
    };
    // Where it leads is the connector's business; requests only need some host.
    Ok(Docker::connect_with_custom_transport(transport, Some("ssh://docker"), timeout, version)?)
}

impl Address {
    fn read(text: &str) -> Result<Self> {
        let url = Url::parse(text).with_context(|| format!("failed to read the address `{text}`"))?;
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || url.scheme() != "ssh" {
            bail!("`{text}` is no address of a Docker: expected `ssh://[user@]host[:port]`");
        }
        if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            bail!(
                "an `ssh` address of a Docker has no password, query or fragment: expected `ssh://[user@]host[:port]`"
            );
        }
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let socket = Some(url.path()).filter(|path| !matches!(*path, "" | "/"));
        Ok(Address { user: given(url.username()), host, port: url.port(), socket: socket.map(str::to_owned) })
    }

    /// The arguments of `ssh`. Nobody is asked for anything: nobody may be there.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["-o", "BatchMode=yes", "-o", PATIENCE, "-T"].map(str::to_owned).into();
        arguments.extend(self.user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
        arguments.extend(self.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        arguments.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        arguments.extend(self.socket.iter().flat_map(|path| ["--host".to_owned(), format!("unix://{path}")]));
        arguments.extend(["system", "dial-stdio"].map(str::to_owned));
        arguments
    }

    fn dial(&self) -> Result<Tunnel> {
        let mut run = Run::new("ssh", self.arguments());
        if let Some(agent) = std::env::var_os("SSH_AUTH_SOCK") {
            run = run.env("SSH_AUTH_SOCK", agent);
        }
        let Talk { child, stdin, stdout, stderr } = run.talk()?;
        Ok(Tunnel { stdin, stdout, last_words: Some(Box::pin(Talk::last_words(child, stderr, WORDS))) })
    }
}

/// Opens connections for the client.
#[derive(Clone)]
struct Dial(Address);

impl<T> Service<T> for Dial {
    type Response = TokioIo<Tunnel>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<TokioIo<Tunnel>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: T) -> Self::Future {
        std::future::ready(self.0.dial().map(TokioIo::new).map_err(|error| io::Error::other(format!("{error:#}"))))
    }
}

type LastWords = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// One connection. It ends with its `ssh`, and `ssh` with it.
struct Tunnel {
    stdin: tokio::process::ChildStdin,
    stdout: tokio::process::ChildStdout,
    /// What `ssh` said, unless all went well; to be asked for once.
    last_words: Option<LastWords>,
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stdout).poll_read(cx, into))?;
        let Some(words) = self.last_words.as_mut().filter(|_| into.filled().len() == before) else {
            return Poll::Ready(Ok(()));
        };
        // The end, of a conversation or of an `ssh` that never got there.
        let said = ready!(words.as_mut().poll(cx));
        self.last_words = None;
        Poll::Ready(said.map_or(Ok(()), |said| Err(io::Error::other(said))))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(Pin::new(&mut self.stdin).poll_write(cx, bytes)) {
            // Why nobody listens any more is said where the answer would be.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(bytes.len())),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}

impl Connection for Tunnel {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(address: &str) -> String {
        Address::read(address).unwrap().arguments()[4..].join(" ")
    }

    #[test]
    fn user_port_and_socket_are_told_apart_as_ssh_takes_them() {
        assert_eq!(arguments("ssh://host"), "-T -- host docker system dial-stdio");
        assert_eq!(arguments("ssh://me@127.0.0.1:2222"), "-T -l me -p 2222 -- 127.0.0.1 docker system dial-stdio");
        assert_eq!(arguments("ssh://[::1]:22"), "-T -p 22 -- ::1 docker system dial-stdio");
        let socket = "-T -- host docker --host unix:///run/user/1/docker.sock system dial-stdio";
        assert_eq!(arguments("ssh://host/run/user/1/docker.sock"), socket);
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_is_not_repeated() {
        let said = |address: &str| format!("{:#}", Address::read(address).unwrap_err());
        assert!(said("ssh://").contains("expected `ssh://[user@]host[:port]`"), "{}", said("ssh://"));
        assert!(said("ssh://host:99999").starts_with("failed to read the address"), "{}", said("ssh://host:99999"));
        let password = said("ssh://me:hidden@host");
        assert!(password.contains("has no password") && !password.contains("hidden"), "{password}");
    }
}
