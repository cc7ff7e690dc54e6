//! An origin for load tests: answers every request at once, at the least cost that Rust allows.
//!
//! `load-origin ADDRESS [NAME] [--hang]`: answers 200 with NAME (`ok`), padded to 100 bytes; with `--hang` it reads and
//! never answers. Requests must fit one read and have no body, or a body that it may read past.

use std::env;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const BODY: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let hang = arguments.iter().any(|a| a == "--hang");
    let mut words = arguments.iter().filter(|a| !a.starts_with("--"));
    let address = words.next().expect("usage: load-origin ADDRESS [NAME] [--hang]");
    let name = words.next().map_or("ok", String::as_str);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {BODY}\r\nx-origin: {name}\r\n\r\n{name:<BODY$}"
    );
    let answer: &'static str = answer.leak();
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, answer, hang));
    }
}

async fn serve(mut stream: TcpStream, answer: &'static str, hang: bool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        // A proxy sends one request at a time on a connection, so the end of a head ends a request.
        if !hang && buffer[..n].windows(4).any(|w| w == b"\r\n\r\n") {
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}
