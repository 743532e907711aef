//! http: what is expected of a body, and how much of one is read.

use super::*;

fn body(wanted: &str) -> HealthSpec {
    http(GENEROUS, HttpCheck { body: Some(wanted.to_owned()), ..HttpCheck::default() })
}

#[tokio::test]
async fn a_body_is_searched() {
    let whole = canned("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nall is well.").await;
    assert_finding(&ask(whole, &body("is we"), "").await, ProbeResult::Success, "HTTP 200 with \"is we\"");
    let report = ask(whole, &body("ill"), "").await;
    assert_finding(&report, ProbeResult::Answer, "HTTP 200, but without \"ill\" in its body");
    let chunked = canned("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nall \r\n3\r\nis \r\n4\r\nwell\r\n0\r\n\r\n").await;
    assert_finding(&ask(chunked, &body("l is well"), "").await, ProbeResult::Success, "HTTP 200");
    let until_close = canned("HTTP/1.0 200 OK\r\n\r\nwell").await;
    assert_finding(&ask(until_close, &body("well"), "").await, ProbeResult::Success, "HTTP 200");
    let broken = canned("HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\nwell").await;
    assert_finding(&ask(broken, &body("well"), "").await, ProbeResult::Status, "HTTP 500");
}

#[tokio::test]
async fn what_was_found_early_is_enough() {
    let (address, _server) = server(|mut stream| async move {
        read_request(&mut stream).await;
        let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nwell").await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_finding(&ask(address, &body("well"), "").await, ProbeResult::Success, "HTTP 200");
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_no_answer() {
    let half = canned("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nall").await;
    let report = ask(half, &body("well"), "").await;
    assert_finding(&report, ProbeResult::Reset, "connection closed before the HTTP answer was whole");
}

/// A gigabyte, and one that has no end: how much was taken of them is what the server could send.
#[tokio::test]
async fn an_endless_body_is_left_alone_after_its_beginning() {
    for head in ["content-length: 1000000000", "connection: close"] {
        let (sent, mut total) = tokio::sync::mpsc::unbounded_channel();
        let (address, _server) = server(move |mut stream| {
            let sent = sent.clone();
            async move {
                read_request(&mut stream).await;
                let mut open =
                    stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes()).await.is_ok();
                let mut len = 0_usize;
                while open && len < 1_000_000_000 {
                    open = stream.write_all(&vec![b'a'; 65_536]).await.is_ok();
                    len += 65_536;
                }
                sent.send(len).unwrap();
            }
        })
        .await;
        let report = ask(address, &body("well"), "").await;
        assert_finding(&report, ProbeResult::Answer, "but without \"well\" in its body");
        // Two sockets' buffers are filled besides what was read.
        let len = total.recv().await.unwrap();
        assert!(len < 50_000_000, "{len} bytes were sent with {head}");
    }
}
