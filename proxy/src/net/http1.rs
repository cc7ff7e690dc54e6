//! HTTP/1: reads heads within their limits, and hands one request after the other to the lane.

use std::{rc::Rc, sync::Arc};

use bytes::{Buf, BytesMut};
use pingora_core::{apps::HttpServerApp, protocols::http::ServerSession};
use tidegate_core::Reject;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    connection::{Newcomer, answer},
    head::{HeadScanner, Progress, leading_empty_lines},
    link::{Client, serving},
    stream::ClientStream,
    worker::House,
};

/// What came of waiting for a head.
enum HeadRead {
    /// A whole head.
    Complete(BytesMut),
    /// The client has closed, or was idle for too long, or the process stops.
    Ended,
    /// It breaks a limit.
    Refused(Reject),
}

/// Serves requests until the connection ends.
pub(super) async fn serve(mut stream: Box<ClientStream>, client: Arc<Client>, house: &Rc<House>, newcomer: Newcomer) {
    let mut first = Some(newcomer);
    loop {
        let idle = house.shared.counters.idle(client.listener);
        let head = read_head(&mut stream, &client, house, first.take()).await;
        drop(idle);
        let head = match head {
            HeadRead::Complete(head) => head,
            HeadRead::Ended => return,
            HeadRead::Refused(reject) => {
                house.shared.counters.rejected(reject);
                return stream.answer_and_close(answer(reject).as_bytes()).await;
            }
        };
        let Some(kept) = serve_request(stream, head, &client, house).await else { return };
        if client.link.is_stopped() {
            return;
        }
        client.link.await_head();
        stream = kept;
        stream.next_request();
    }
}

/// Hands one request to the lane. Returns the connection if it can be used again.
async fn serve_request(
    stream: Box<ClientStream>,
    head: BytesMut,
    client: &Arc<Client>,
    house: &House,
) -> Option<Box<ClientStream>> {
    let mut session = ServerSession::new_http1(stream);
    session.set_pipelined_prefix(head);
    let served = tokio::select! {
        biased;
        served = serving(Arc::clone(client), house.lane.process_new_http(session, &house.stopping)) => served,
        () = client.link.severed() => None,
    };
    if !client.link.has_begun() {
        house.shared.counters.rejected(Reject::Malformed);
    }
    let (stream, _) = served?.consume();
    stream.into_any().downcast().ok()
}

/// Reads up to the end of a head, in the time and size that the limits allow.
async fn read_head(stream: &mut ClientStream, client: &Client, house: &House, first: Option<Newcomer>) -> HeadRead {
    let limits = &house.shared.settings.limits;
    skip_empty_lines(stream);
    if stream.ahead().is_empty() && !first_bytes(stream, client, first).await {
        return HeadRead::Ended;
    }
    let deadline = first.map_or_else(|| Instant::now() + limits.header_timeout, |newcomer| newcomer.deadline);
    let mut scanner = HeadScanner::default();
    loop {
        skip_empty_lines_before(stream, &mut scanner);
        match scanner.scan(stream.ahead(), limits) {
            Progress::Complete(length) => return HeadRead::Complete(stream.ahead().split_to(length)),
            Progress::TooLarge => return HeadRead::Refused(Reject::HeadTooLarge),
            Progress::Partial => {}
        }
        match timeout_at(deadline, stream.read_ahead()).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return HeadRead::Ended,
            Err(_) if stream.ahead().is_empty() => return HeadRead::Ended,
            Err(_) => return HeadRead::Refused(Reject::ClientTooSlow),
        }
    }
}

/// Waits for a request to begin: until the first head's deadline, or as long as an unused connection is kept.
async fn first_bytes(stream: &mut ClientStream, client: &Client, first: Option<Newcomer>) -> bool {
    let idle = client.link.idle();
    let read = async {
        stream.readable().await?;
        stream.read_ahead().await
    };
    let read = async {
        match first {
            Some(newcomer) => timeout_at(newcomer.deadline, read).await,
            None => timeout(idle, read).await,
        }
    };
    let sent_away = async {
        match first {
            Some(newcomer) => newcomer.sent_away(&client.link).await,
            None => client.link.stopped().await,
        }
    };
    tokio::select! {
        // What the client has already sent is served, even while the process stops.
        biased;
        read = read => matches!(read, Ok(Ok(1..))),
        () = sent_away => false,
    }
}

fn skip_empty_lines(stream: &mut ClientStream) {
    let ahead = stream.ahead();
    let empty = leading_empty_lines(ahead);
    ahead.advance(empty);
}

/// Empty lines may come alone: then the head has not begun, and the scanner has seen nothing.
fn skip_empty_lines_before(stream: &mut ClientStream, scanner: &mut HeadScanner) {
    if scanner.is_fresh() {
        skip_empty_lines(stream);
    }
}
