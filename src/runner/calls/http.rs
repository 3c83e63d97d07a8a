//! One question and its answer over HTTP, with everything bounded that comes from inside of a cage.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes of a question's head.
const LONGEST_HEAD: usize = 16 << 10;
/// Bytes of a question: a file of 16 MiB, encoded.
const LONGEST_BODY: usize = 24 << 20;
/// A program on the same machine says what it wants at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was asked.
#[derive(Debug)]
pub struct Question {
    /// `exec`, from the path.
    pub call: String,
    /// With `?raw` behind it: the bare output is wanted, for programs that read no JSON.
    pub raw: bool,
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

impl Answer {
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Answer { status: 200, kind: "application/json", body },
            Err(error) => Answer::refusal(500, &format!("failed to encode the answer: {error}")),
        }
    }

    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Answer { status: 200, kind: "application/octet-stream", body: body.into() }
    }

    /// Why there is no answer, in a line of its own.
    pub fn refusal(status: u16, error: &str) -> Self {
        let body = json!({ "error": error }).to_string() + "\n";
        Answer { status, kind: "application/json", body: body.into() }
    }
}

/// Answers the one question of a connection. What goes wrong with the connection itself is its other end's business.
pub async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: impl AsyncFnOnce(Question) -> Answer) {
    let answer = match tokio::time::timeout(PATIENCE, question(&mut stream)).await {
        Ok(Ok(question)) => answer(question).await,
        Ok(Err(error)) => Answer::refusal(400, &format!("{error:#}")),
        Err(_) => return,
    };
    let Answer { status, kind, body } = answer;
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        if status == 200 { "OK" } else { "Refused" },
        body.len()
    );
    let written = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        // What was sent and not read would cut off the answer.
        tokio::io::copy(&mut (&mut stream).take(LONGEST_BODY as u64), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(PATIENCE, written).await;
}

async fn question(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Question> {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        match head(&bytes)? {
            Some(head) => break head,
            None if bytes.len() > LONGEST_HEAD => bail!("the head of the question has more than {LONGEST_HEAD} bytes"),
            None => {}
        }
        if stream.read_buf(&mut bytes).await.context("failed to read the question")? == 0 {
            bail!("the question ends before it is complete");
        }
    };
    if head.waits {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.context("failed to ask for the question")?;
    }
    let mut body = bytes.split_off(length.min(bytes.len()));
    let missing = head.length.saturating_sub(body.len());
    let read = stream.take(missing as u64).read_to_end(&mut body).await.context("failed to read the question")?;
    if read < missing {
        bail!("the question ends after {} of its {} bytes", body.len(), head.length);
    }
    body.truncate(head.length);
    Ok(Question { call: head.call, raw: head.raw, body })
}

struct Head {
    call: String,
    raw: bool,
    length: usize,
    /// The other end sends the body only when it is told to.
    waits: bool,
}

/// The head of a question and its length; `None` while it is incomplete.
fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).context("failed to understand the question")? else {
        return Ok(None);
    };
    let path = request.path.unwrap_or_default();
    let (call, query) = path.split_once('?').unwrap_or((path, ""));
    let header = |name: &str| request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if header("Transfer-Encoding").is_some() {
        bail!(
            "the question comes in pieces (`Transfer-Encoding`): send it with its `Content-Length`, as `curl --data` does"
        );
    }
    let body = match header("Content-Length") {
        Some(header) => std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok()),
        None => Some(0),
    };
    let body: usize = body.context("the question's `Content-Length` is no number")?;
    if body > LONGEST_BODY {
        bail!("the question has {body} bytes, and more than {} MiB are not taken", LONGEST_BODY >> 20);
    }
    let waits = header("Expect").is_some_and(|header| header.value.eq_ignore_ascii_case(b"100-continue"));
    let call = call.trim_start_matches('/').to_owned();
    Ok(Some((Head { call, raw: query == "raw", length: body, waits }, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a question is answered, by a server that says what it was asked.
    async fn ask(question: &[u8]) -> String {
        let (mut near, far) = tokio::io::duplex(1 << 10);
        let serving = tokio::spawn(serve(far, async |question: Question| {
            let body = String::from_utf8_lossy(&question.body).into_owned();
            Answer::json(&json!({ "call": question.call, "raw": question.raw, "body": body }))
        }));
        near.write_all(question).await.unwrap();
        near.shutdown().await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        serving.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_question_is_its_path_and_its_body() {
        let answer = ask(b"POST /exec?raw HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n{\"call\":\"exec\",\"raw\":true,\"body\":\"{}\"}"), "{answer}");
        let answer = ask(b"GET /services HTTP/1.1\r\n\r\n").await;
        assert!(answer.ends_with("{\"call\":\"services\",\"raw\":false,\"body\":\"\"}"), "{answer}");
        let waits = ask(b"POST /write HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx").await;
        assert!(waits.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{waits}");
    }

    #[tokio::test]
    async fn what_is_too_much_or_too_little_is_refused() {
        for (question, expected) in [
            (
                "POST /write HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
                "the question has 99999999 bytes, and more than 24 MiB are not taken",
            ),
            ("POST /write HTTP/1.1\r\nContent-Length: x\r\n\r\n", "the question's `Content-Length` is no number"),
            ("POST /write HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", "the question ends after 3 of its 9 bytes"),
            ("POST /write HT", "the question ends before it is complete"),
            ("\u{1}\r\n\r\n", "failed to understand the question: invalid token"),
        ] {
            let answer = ask(question.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400 Refused\r\n"), "{answer}");
            assert!(answer.ends_with(&format!("{{\"error\":\"{expected}\"}}\n")), "{answer}");
        }
        let pieces = ask(b"POST /write HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert!(pieces.contains("the question comes in pieces"), "{pieces}");
        let endless = format!("POST /write HTTP/1.1\r\nX: {}", "x".repeat(LONGEST_HEAD));
        assert!(ask(endless.as_bytes()).await.contains("the head of the question has more than 16384 bytes"));
    }
}
