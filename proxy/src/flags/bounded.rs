//! A byte stream that stops at a bound and shows that it moves, so that no answer of a store costs more than it may.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may still come in. Whoever holds it sees by its change that bytes come.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    /// Allows this many bytes from now on, whatever was left.
    pub(super) fn renew(&self, bytes: usize) {
        self.0.store(bytes, Relaxed);
    }

    /// What is left of it.
    pub(super) fn left(&self) -> usize {
        self.0.load(Relaxed)
    }

    fn spend(&self, bytes: usize) {
        // A renewal in between may only make the bound wider by what came at that moment.
        self.0.store(self.left().saturating_sub(bytes), Relaxed);
    }
}

/// A stream whose incoming bytes are bounded. What goes out is not.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
}

impl<S> Bounded<S> {
    /// Bounds a stream.
    pub(super) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.allowance.left() == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, "the answer is too long")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.allowance.spend(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::{Allowance, Bounded};

    #[tokio::test]
    async fn bytes_beyond_the_allowance_are_an_error_and_a_renewal_lets_them_in() {
        let allowance = Allowance::default();
        allowance.renew(5);
        let mut stream = Bounded::new(&b"0123456789"[..], allowance.clone());
        let mut part = [0; 5];
        stream.read_exact(&mut part).await.unwrap();
        assert_eq!(allowance.left(), 0);
        assert!(stream.read_u8().await.is_err());
        allowance.renew(1);
        assert_eq!(stream.read_u8().await.unwrap(), b'5');
    }
}
