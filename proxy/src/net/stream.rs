//! The client's connection as pingora sees it: an `IO` of our own.
//!
//! Bytes that were read beyond a head wait here, so the lane never gets bytes of the next request. Small writes are
//! joined, so a head and its body leave together. A body has a minimal rate, and a client that takes nothing is
//! dropped after [`WRITE_STALL`]. An idle connection holds no buffer.

use std::{
    io,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use super::{
    link::{Link, Stage},
    websocket::{CLOSE_GOING_AWAY, FrameTracker},
};

/// Writes are joined up to this many bytes: a head and a small body. Larger ones go out as they are.
const WRITE_BUFFER: usize = 16 * 1024;

/// First size of the buffer for a head: most heads fit.
const READ_BUFFER: usize = 2 * 1024;

/// What may come of the next request while this one is answered; more waits in the kernel.
const READ_AHEAD: usize = 512;

/// A client that takes no byte of its answer for this long is dropped.
const WRITE_STALL: Duration = Duration::from_secs(60);

/// The time over which the rate of a body is judged.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// A timer that is seen later than this was not waited for: something else than the client was slow.
const LATE: Duration = Duration::from_millis(500);

/// When we close before a request was read to its end, its rest is read for so long, or the client would be reset
/// before it has read our answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Transport {
    /// Clear text.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, parts),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, parts),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // A socket has nothing to flush.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    transport: Transport,
    link: Arc<Link>,
    ahead: BytesMut,
    unsent: BytesMut,
    rate: Rate,
    stall: Option<Pin<Box<Sleep>>>,
    frames: FrameTracker,
}

impl ClientStream {
    /// Wraps a connection. `min_rate` is the slowest body in bytes per second; 0: no bound.
    pub(super) fn new(transport: Transport, link: Arc<Link>, min_rate: u64) -> Self {
        Self {
            transport,
            link,
            ahead: BytesMut::new(),
            unsent: BytesMut::new(),
            rate: Rate::new(min_rate),
            stall: None,
            frames: FrameTracker::default(),
        }
    }

    /// What has been read and not yet taken.
    pub(super) fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Waits for the client to send something, without holding a buffer if the transport allows it.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match &self.transport {
            Transport::Plain(tcp) => tcp.readable().await,
            // Decrypted bytes may wait inside; TLS has no cheaper way to ask.
            Transport::Tls(_) => Ok(()),
        }
    }

    /// Reads more into [`ahead`](Self::ahead). 0: the client has closed.
    pub(super) async fn read_ahead(&mut self) -> io::Result<usize> {
        self.ahead.reserve(READ_BUFFER);
        match &mut self.transport {
            Transport::Plain(tcp) => tcp.read_buf(&mut self.ahead).await,
            Transport::Tls(tls) => tls.read_buf(&mut self.ahead).await,
        }
    }

    /// Prepares for the next request: a body's rate begins anew, and empty buffers are given back.
    pub(super) fn next_request(&mut self) {
        self.rate.restart();
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        if self.unsent.is_empty() {
            self.unsent = BytesMut::new();
        }
    }

    /// Writes an answer that no lane has made, and closes.
    pub(super) async fn answer_and_close(&mut self, answer: &[u8]) {
        // A client that does not take it has gone: there is nobody to tell.
        let _ = self.write_all(answer).await;
        self.link.enter(Stage::Body);
        Shutdown::shutdown(self).await;
    }

    /// Sends what is buffered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(self.poll_transport_write(cx, &[]))?;
            debug_assert!(sent == 0, "nothing but the buffer was to be sent");
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the buffer and then `data` in one go. Returns how much of `data` was written.
    fn poll_transport_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.transport.poll_write(cx, &[io::IoSlice::new(&self.unsent), io::IoSlice::new(data)]);
        let Poll::Ready(written) = written else {
            return self.poll_stall(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        };
        self.stall = None;
        let written = written?;
        if written == 0 && !(self.unsent.is_empty() && data.is_empty()) {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let buffered = written.min(self.unsent.len());
        self.unsent.advance(buffered);
        Poll::Ready(Ok(written - buffered))
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_STALL))).as_mut().poll(cx)
    }

    /// Takes data to write: into the buffer if it fits, else out.
    fn poll_accept(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.unsent.len() + data.len() <= WRITE_BUFFER {
            self.unsent.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        loop {
            let written = ready!(self.poll_transport_write(cx, data))?;
            if written > 0 {
                return Poll::Ready(Ok(written));
            }
        }
    }

    fn take_ahead(&mut self, buffer: &mut ReadBuf<'_>) {
        let taken = self.ahead.split_to(self.ahead.len().min(buffer.remaining()));
        buffer.put_slice(&taken);
    }

    /// Reads for as long as the body comes fast enough.
    fn poll_read_body(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match self.transport.poll_read(cx, buffer) {
            Poll::Ready(result) => {
                self.rate.received(buffer.filled().len() - before);
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.rate.poll_too_slow(cx));
                self.link.mark_too_slow();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request body came too slowly")))
            }
        }
    }

    /// Watches for the client's end while its request is answered. Bytes that come are kept for the next request.
    fn poll_client_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            return Poll::Pending;
        }
        let mut scratch = [0; READ_AHEAD];
        let mut early = ReadBuf::new(&mut scratch);
        ready!(self.transport.poll_read(cx, &mut early))?;
        if early.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.ahead.extend_from_slice(early.filled());
        Poll::Pending
    }

    /// Reads from a tunnel; when it is cut, says goodbye after the frame that is being written, and ends.
    fn poll_read_tunnel(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.link.wake_on_cut(cx);
        if !self.link.is_cut() {
            return self.transport.poll_read(cx, buffer);
        }
        if !self.frames.at_border() {
            return Poll::Pending;
        }
        self.unsent.extend_from_slice(&CLOSE_GOING_AWAY);
        self.frames.written(&CLOSE_GOING_AWAY);
        // What cannot be sent now is sent by the flush that ends the answer.
        let _ = self.poll_send(cx)?;
        Poll::Ready(Ok(()))
    }

    async fn linger(&mut self) {
        let mut scratch = [0; READ_AHEAD];
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read = match &mut self.transport {
                Transport::Plain(tcp) => tcp.read(&mut scratch).await,
                Transport::Tls(tls) => tls.read(&mut scratch).await,
            };
            match read {
                Ok(read @ 1..) => left = left.saturating_sub(read),
                Ok(0) | Err(_) => return,
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let stage = this.link.stage();
        if stage != Stage::Answer && !this.ahead.is_empty() {
            this.take_ahead(buffer);
            return Poll::Ready(Ok(()));
        }
        match stage {
            // The lane is given whole heads. Should it want more of one, it has no deadline for it.
            Stage::Head => Poll::Ready(Err(io::Error::other("the request head is not complete"))),
            Stage::Invited => this.transport.poll_read(cx, buffer),
            Stage::Body => this.poll_read_body(cx, buffer),
            Stage::Answer => this.poll_client_gone(cx),
            Stage::Tunnel => this.poll_read_tunnel(cx, buffer),
            Stage::Http2 => this.transport.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = ready!(this.poll_accept(cx, data))?;
        if this.link.stage() == Stage::Tunnel {
            this.frames.written(data.get(..written).unwrap_or_default());
            if this.link.is_cut() {
                this.link.wake_tunnel();
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        self.transport.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.transport.poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // Either may fail because the client has gone, which is what is wanted.
        let _ = AsyncWriteExt::shutdown(self).await;
        if self.link.stage() == Stage::Body {
            let _ = timeout(LINGER, self.linger()).await;
        }
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        self.transport.socket().as_raw_fd()
    }
}

impl Ssl for ClientStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        (self.link.stage() == Stage::Http2).then_some(ALPN::H2)
    }
}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for ClientStream {}

/// The rate of a body, judged only over time in which the client was waited for.
#[derive(Debug)]
struct Rate {
    min: u64,
    received: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Rate {
    fn new(min: u64) -> Self {
        Self { min, received: 0, waited: Duration::ZERO, waiting_since: None, timer: None }
    }

    fn restart(&mut self) {
        *self = Self::new(self.min);
    }

    fn received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Ready when the client was waited for through a whole window and sent too little in it.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.min == 0 {
            return Poll::Pending;
        }
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            let end = now + RATE_WINDOW.saturating_sub(self.waited);
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(end),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(end))),
            }
        }
        loop {
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(cx));
            let due = timer.deadline();
            let now = Instant::now();
            if now.saturating_duration_since(due) < LATE && self.received < self.min * RATE_WINDOW.as_secs() {
                return Poll::Ready(());
            }
            self.received = 0;
            self.waited = Duration::ZERO;
            self.waiting_since = Some(now);
            timer.as_mut().reset(now + RATE_WINDOW);
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
