//! A router that answers 200 for whatever it is asked, whether or not anything stands behind it.

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";

/// It answers for as long as this lives.
pub struct FakeRouter {
    pub address: String,
    serving: JoinHandle<()>,
}

impl Drop for FakeRouter {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FakeRouter {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to start a router")?;
        let address = format!("http://{}", listener.local_addr().context("failed to start a router")?);
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // A request that is cut off gets no answer, as from any router.
                    let mut request = [0; 4096];
                    if stream.read(&mut request).await.is_ok() {
                        let _ = stream.write_all(ANSWER).await;
                    }
                });
            }
        });
        Ok(FakeRouter { address, serving })
    }
}
