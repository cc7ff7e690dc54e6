//! An origin for load tests: answers every request at once, at the least cost that Rust allows.
//!
//! `load-origin ADDRESS [NAME] [--hang] [--slow=MS] [--unready] [--pid=FILE]`: answers 200 with NAME (`ok`), padded to 100
//! bytes; with `--hang` it reads and never answers, with `--slow=MS` it answers after so many milliseconds, and with
//! `--unready` it answers 503 to `GET /ready`. With `--pid=FILE` it writes its number there once it listens. Requests must
//! fit one read and have no body, or a body that it may read past.

use std::{env, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

const BODY: usize = 100;
/// How long the port may still belong to the process before this one.
const BIND: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let hang = arguments.iter().any(|a| a == "--hang");
    let unready = arguments.iter().any(|a| a == "--unready");
    let slow = arguments.iter().find_map(|a| a.strip_prefix("--slow="));
    let slow = Duration::from_millis(slow.map_or(0, |ms| ms.parse().expect("--slow=MS takes a number")));
    let mut words = arguments.iter().filter(|a| !a.starts_with("--"));
    let address =
        words.next().expect("usage: load-origin ADDRESS [NAME] [--hang] [--slow=MS] [--unready] [--pid=FILE]");
    let name = words.next().map_or("ok", String::as_str);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\nx-origin: {name}\r\n\r\n{name:<BODY$}"
    );
    let answer: &'static str = answer.leak();
    let listener = bind(address).await?;
    if let Some(file) = arguments.iter().find_map(|a| a.strip_prefix("--pid=")) {
        // Whoever waits for the file must find all of it.
        let next = format!("{file}.next");
        std::fs::write(&next, std::process::id().to_string())?;
        std::fs::rename(next, file)?;
    }
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, answer, How { hang, unready, slow }));
    }
}

async fn bind(address: &str) -> io::Result<TcpListener> {
    let deadline = Instant::now() + BIND;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(Duration::from_millis(5)).await;
            }
            bound => return bound,
        }
    }
}

const UNREADY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

#[derive(Clone, Copy)]
struct How {
    hang: bool,
    unready: bool,
    slow: Duration,
}

async fn serve(mut stream: TcpStream, answer: &'static str, how: How) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        // A proxy sends one request at a time on a connection, so the end of a head ends a request.
        if !how.hang && buffer[..n].windows(4).any(|w| w == b"\r\n\r\n") {
            if !how.slow.is_zero() {
                sleep(how.slow).await;
            }
            let answer = if how.unready && buffer.starts_with(b"GET /ready ") { UNREADY } else { answer };
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}
