//! A client that asks for `/` again and again until somebody ends it, as the command of a load test does.
//!
//! `ask FILE`: FILE holds the address; its own number becomes a line of `FILE.pids`.

use std::{
    env, fs, io,
    io::{Read, Write},
    net::TcpStream,
    thread::sleep,
    time::Duration,
};

/// Time between two requests: many, and not all that a machine can do.
const PAUSE: Duration = Duration::from_millis(1);

fn main() -> io::Result<()> {
    let file = env::args().nth(1).expect("usage: ask FILE");
    let address = fs::read_to_string(&file)?;
    let mut pids = fs::OpenOptions::new().create(true).append(true).open(format!("{file}.pids"))?;
    writeln!(pids, "{}", std::process::id())?;
    loop {
        // A proxy that is away comes back.
        let _ = ask(&address);
        sleep(PAUSE);
    }
}

fn ask(address: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: load.test\r\nconnection: close\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}
