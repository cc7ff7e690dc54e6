use tokio::net::TcpListener;

use super::*;

const MIN_RATE: u64 = 100;

/// A client and our side of its connection.
async fn pair(stage: Stage) -> (TcpStream, ClientStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    (client, ClientStream::new(Transport::Plain(tcp), Arc::new(Link::new(stage)), MIN_RATE))
}

async fn exactly(client: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    client.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_head_and_its_body_leave_together() {
    let (mut client, mut stream) = pair(Stage::Answer).await;
    stream.write_all(b"head").await.unwrap();
    stream.write_all(b"body").await.unwrap();
    assert_eq!(stream.unsent.as_ref(), b"headbody", "nothing is sent before it is flushed");
    stream.flush().await.unwrap();
    assert!(stream.unsent.is_empty());
    assert_eq!(exactly(&mut client, 8).await, b"headbody");
}

#[tokio::test]
async fn bytes_stay_in_order_whatever_their_sizes() {
    let (mut client, mut stream) = pair(Stage::Answer).await;
    let sizes = [1, 100, WRITE_BUFFER - 1, 1, WRITE_BUFFER, WRITE_BUFFER + 1, 300_000, 7, 2 * WRITE_BUFFER];
    let total: usize = sizes.iter().sum();
    let expected: Vec<u8> = (0..total).map(|at| (at % 251) as u8).collect();
    let read = tokio::spawn(async move { exactly(&mut client, total).await });
    let mut rest = expected.as_slice();
    for size in sizes {
        let (part, after) = rest.split_at(size);
        stream.write_all(part).await.unwrap();
        rest = after;
    }
    stream.flush().await.unwrap();
    assert!(read.await.unwrap() == expected);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up() {
    let (_client, mut stream) = pair(Stage::Answer).await;
    let began = Instant::now();
    let error = loop {
        if let Err(error) = stream.write_all(&[0; 1 << 20]).await {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() >= WRITE_STALL);
}

#[tokio::test(start_paused = true)]
async fn a_body_below_the_minimal_rate_is_cut_after_one_window() {
    let (mut client, mut stream) = pair(Stage::Body).await;
    client.write_all(&[0; 999]).await.unwrap();
    let began = Instant::now();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed().abs_diff(RATE_WINDOW) < Duration::from_millis(100), "{:?}", began.elapsed());
    assert!(stream.link.was_too_slow());
}

#[tokio::test(start_paused = true)]
async fn every_window_needs_its_bytes() {
    let (mut client, mut stream) = pair(Stage::Body).await;
    client.write_all(&[0; 1000]).await.unwrap();
    let began = Instant::now();
    stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert!(began.elapsed().abs_diff(2 * RATE_WINDOW) < Duration::from_millis(100), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_reads_is_not_the_client_s() {
    let (mut client, mut stream) = pair(Stage::Body).await;
    let mut buffer = [0; 10];
    // The read is begun and left alone, as when an endpoint takes nothing.
    assert!(timeout(Duration::from_secs(1), stream.read(&mut buffer)).await.is_err());
    tokio::time::sleep(10 * RATE_WINDOW).await;
    assert!(timeout(Duration::from_secs(1), stream.read(&mut buffer)).await.is_err(), "it has a new window");
    client.write_all(b"x").await.unwrap();
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
}

#[tokio::test]
async fn while_a_request_is_answered_the_next_one_waits_and_an_end_is_seen() {
    let (mut client, mut stream) = pair(Stage::Answer).await;
    let mut buffer = [0; 10];
    client.write_all(b"next").await.unwrap();
    let read = timeout(Duration::from_millis(50), stream.read(&mut buffer)).await;
    assert!(read.is_err(), "bytes of the next request are not given to this one");
    assert_eq!(stream.ahead().as_ref(), b"next");

    let (client, mut stream) = pair(Stage::Answer).await;
    drop(client);
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
}

#[tokio::test]
async fn bytes_read_ahead_come_first() {
    let (mut client, mut stream) = pair(Stage::Body).await;
    client.write_all(b"head|body").await.unwrap();
    while stream.ahead().len() < 9 {
        stream.read_ahead().await.unwrap();
    }
    let head = stream.ahead().split_to(5);
    assert_eq!(head.as_ref(), b"head|");
    client.write_all(b" more").await.unwrap();
    let mut body = [0; 9];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"body more");
}

#[tokio::test]
async fn a_lane_that_wants_more_of_a_head_gets_an_error() {
    let (_client, mut stream) = pair(Stage::Head).await;
    assert!(stream.read(&mut [0; 10]).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let (mut client, mut stream) = pair(Stage::Head).await;
    client.write_all(b"request").await.unwrap();
    stream.read_ahead().await.unwrap();
    stream.ahead().clear();
    stream.write_all(b"answer").await.unwrap();
    stream.flush().await.unwrap();
    stream.next_request();
    assert_eq!((stream.ahead.capacity(), stream.unsent.capacity()), (0, 0));
}
