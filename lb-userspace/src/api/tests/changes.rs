//! Changes, waiting for them, and what they leave in the events.

use std::time::Duration;

use super::*;
use crate::health::Health;
use crate::membership::{CheckId, Operation};

fn drain(address: &str) -> Operation {
    let json = format!(r#"{{"op":"backend_drain","pool":"web","address":"{address}"}}"#);
    serde_json::from_str(&json).unwrap()
}

fn add(address: &str, wait: Option<f64>) -> ChangeRequest {
    let address = address.parse().unwrap();
    let operations = vec![Operation::BackendAdd { pool: name("web"), address, weight: 1 }];
    ChangeRequest { operations, wait, ..ChangeRequest::default() }
}

fn request(operation: Operation) -> ChangeRequest {
    ChangeRequest { operations: vec![operation], ..ChangeRequest::default() }
}

#[tokio::test]
async fn a_change_is_one_revision_and_says_what_it_did() {
    let served = Served::start();
    let done = served.client.change(&request(drain("10.0.0.1"))).await.unwrap();
    assert_eq!((done.revision, done.changed, done.dry_run), (2, true, false));
    assert_eq!(done.notes, ["backend web/10.0.0.1: draining"]);
    let again = served.client.change(&request(drain("10.0.0.1"))).await.unwrap();
    assert_eq!((again.revision, again.changed), (2, false));
    let overrides = served.client.overrides().await.unwrap().overrides;
    let json = serde_json::to_value(&overrides[0]).unwrap();
    let uid = nix::unistd::Uid::effective();
    assert_eq!(
        json,
        serde_json::json!({"pool": "web", "address": "10.0.0.1", "state": "draining", "then": "keep",
            "expired": false, "since": "1970-01-01T00:00:01.000Z", "by": format!("uid {uid}")})
    );
    let backend = served.client.backend(&name("web"), "10.0.0.1".parse().unwrap()).await.unwrap().backend;
    assert_eq!(backend.over, Some(overrides[0].value.clone()));
    let list = served.raw(&post("/v1/changes", "", r#"[{"op":"override_clear_all"}]"#)).await;
    assert!(list.starts_with("HTTP/1.1 200") && list.contains("1 override cleared"), "{list}");
    assert!(list.to_lowercase().contains("etag: \"3\""), "{list}");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let served = Served::start();
    let done =
        served.client.change(&ChangeRequest { dry_run: true, ..add("10.0.0.3", Some(5.0)) }).await.unwrap();
    assert_eq!((done.revision, done.changed, done.dry_run), (1, true, true));
    assert_eq!(served.client.backends(None).await.unwrap().backends.len(), 2);
}

#[tokio::test]
async fn refusals_name_rule_file_and_line() {
    let served = Served::start();
    let remove =
        Operation::BackendRemove { pool: name("web"), address: "10.0.0.1".parse().unwrap(), drain: None };
    let error = served.client.change(&request(remove)).await.unwrap_err();
    assert_eq!((error.code(), error.code().exit_code()), (ErrorCode::Owner, 5));
    assert_eq!(
        (error.0.file.as_deref(), error.0.line, error.0.operation),
        (Some("lbd.toml"), Some(7), Some(0))
    );
    assert!(error.0.hint.as_deref().is_some_and(|hint| hint.contains("lbctl backend disable")), "{error}");
}

#[tokio::test]
async fn a_stale_revision_is_refused_by_header_and_by_field() {
    let served = Served::start();
    let stale = ChangeRequest { if_revision: Some(7), ..request(drain("10.0.0.1")) };
    let error = served.client.change(&stale).await.unwrap_err();
    assert_eq!((error.code(), error.code().exit_code()), (ErrorCode::StaleRevision, 5));
    let body = serde_json::to_string(&stale).unwrap();
    let answer = served.raw(&post("/v1/changes", "If-Match: \"9\"\r\n", &body)).await;
    assert!(answer.starts_with("HTTP/1.1 412") && answer.contains("not 9"), "{answer}");
    let answer = served.raw(&post("/v1/changes", "If-Match: \"1\"\r\n", &body)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn third() -> MemberId {
    MemberId { pool: name("web"), address: "10.0.0.3".parse().unwrap() }
}

fn healthy() -> Observation {
    Observation::Health {
        id: CheckId::direct(third()),
        health: Health::Healthy,
        detail: Arc::from("connected"),
    }
}

fn way() -> Observation {
    let state = WayState::Unneeded { source: Some("10.0.0.254".parse().unwrap()) };
    Observation::Way { ip: third().address.ip, state }
}

/// Waits until what is published is so.
async fn until(served: &Served, is_so: impl Fn(&Snapshot) -> bool) {
    let mut published = served.handle.published.clone();
    while !is_so(&served.handle.snapshot.load()) {
        published.changed().await.unwrap();
    }
}

#[tokio::test]
async fn a_change_waits_until_the_backend_takes_flows() {
    let served = Served::start();
    let client = served.client.clone();
    let waiting = tokio::spawn(async move { client.change(&add("10.0.0.3", Some(30.0))).await });
    until(&served, |snapshot| snapshot.pools[0].backends.len() == 3).await;
    served.observe.send(healthy()).await.unwrap();
    until(&served, |snapshot| snapshot.pools[0].backends[2].health == Health::Healthy).await;
    // Answers to requests made later have come, that to the change has not.
    for _ in 0..3 {
        served.client.backends(None).await.unwrap();
    }
    assert!(!waiting.is_finished());
    served.observe.send(way()).await.unwrap();
    assert!(waiting.await.unwrap().unwrap().changed);
}

/// A check that has succeeded is not enough: what else keeps flows away is waited for, and named when the time is over.
#[tokio::test]
async fn a_change_waits_for_the_way_and_for_the_maps() {
    let served = Served::start();
    served.client.change(&add("10.0.0.3", None)).await.unwrap();
    served.observe.send(healthy()).await.unwrap();
    until(&served, |snapshot| snapshot.pools[0].backends[2].health == Health::Healthy).await;
    let in_vain = async || served.client.change(&add("10.0.0.3", Some(0.05))).await.unwrap_err().to_string();
    let error = in_vain().await;
    assert!(error.contains("takes no flows after 50ms: next hop unresolved: not looked up yet"), "{error}");

    served.in_force.store(false, Ordering::Relaxed);
    served.observe.send(way()).await.unwrap();
    until(&served, |snapshot| snapshot.pools[0].backends[2].eligible).await;
    let error = in_vain().await;
    assert!(
        error.contains("it is not in the kernel's tables after 50ms: they could not be written"),
        "{error}"
    );
    // Whatever the change is: it counts when it is in force.
    let drained = ChangeRequest { wait: Some(0.05), ..request(drain("10.0.0.1")) };
    let error = served.client.change(&drained).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::WaitTimeout, "{error}");
}

/// `backend enable web 10.0.0.3` means 10.0.0.3:8443 where that is the only one.
#[tokio::test]
async fn a_change_waits_for_a_backend_that_is_named_without_its_port() {
    let served = Served::start();
    served.client.change(&add("10.0.0.3:8443", None)).await.unwrap();
    let address = "10.0.0.3".parse().unwrap();
    let disable = Operation::BackendDisable { pool: name("web"), address };
    served.client.change(&request(disable)).await.unwrap();
    let enable = Operation::BackendEnable { pool: name("web"), address };
    let enable = ChangeRequest { wait: Some(0.05), ..request(enable) };
    let error = served.client.change(&enable).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::WaitTimeout, "{error}");
    assert!(error.to_string().contains("web/10.0.0.3:8443 takes no flows"), "{error}");
}

/// Where the operator's own word keeps flows away, waiting for them would be in vain.
#[tokio::test]
async fn a_change_waits_for_the_check_alone_of_a_backend_without_weight() {
    let served = Served::start();
    let weightless = |wait| {
        let address = third().address;
        let operations = vec![Operation::BackendAdd { pool: name("web"), address, weight: 0 }];
        ChangeRequest { operations, wait, ..ChangeRequest::default() }
    };
    let error = served.client.change(&weightless(Some(0.05))).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::WaitTimeout, "{error}");
    served.observe.send(healthy()).await.unwrap();
    until(&served, |snapshot| snapshot.pools[0].backends[2].health == Health::Healthy).await;
    assert!(!served.client.change(&weightless(Some(30.0))).await.unwrap().changed);
}

#[tokio::test]
async fn waiting_in_vain_is_an_error_of_its_own_and_the_change_stands() {
    let served = Served::start();
    let error = served.client.change(&add("10.0.0.3", Some(0.05))).await.unwrap_err();
    assert_eq!((error.code(), error.code().exit_code()), (ErrorCode::WaitTimeout, 6));
    assert!(
        error.to_string().contains("revision 2") && error.to_string().contains("web/10.0.0.3"),
        "{error}"
    );
    assert_eq!(served.client.backends(None).await.unwrap().backends.len(), 3);
}

#[tokio::test]
async fn events_are_numbered_and_waited_for() {
    let served = Served::start();
    let client = &served.client;
    assert_eq!(client.events(0, None).await.unwrap(), EventList::default());
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.events(0, Some(Duration::from_secs(30))).await })
    };
    client.change(&request(drain("10.0.0.1"))).await.unwrap();
    let list = waiting.await.unwrap().unwrap();
    assert_eq!((list.events.len(), list.next, list.lost), (1, 1, 0));
    let json = serde_json::to_value(&list.events[0]).unwrap();
    assert_eq!((&json["seq"], &json["type"]), (&1.into(), &"override_set".into()));
    assert_eq!((&json["pool"], &json["backend"]), (&"web".into(), &"10.0.0.1".into()));
    // A wait that ends without news is no error.
    let list = client.events(1, Some(Duration::from_millis(20))).await.unwrap();
    assert_eq!((list.events.len(), list.next), (0, 1));
}

#[test]
fn old_events_are_lost_and_counted() {
    let log = EventLog::default();
    let event = |count: usize| {
        std::iter::repeat_n(
            crate::membership::DomainEvent {
                kind: crate::membership::EventKind::PoolUp,
                level: crate::membership::Level::Info,
                service: None,
                pool: None,
                backend: None,
                message: String::new(),
            },
            count,
        )
    };
    log.add(Millis(0), event(events::KEPT));
    assert_eq!(log.after(0).lost, 0);
    log.add(Millis(1), event(10));
    let list = log.after(3);
    assert_eq!((list.lost, list.events.len(), list.events[0].seq), (7, events::KEPT, 11));
    assert_eq!(log.after(list.next).events.len(), 0);
    // A number of a daemon that ran before.
    assert_eq!(log.after(list.next + 1).events.len(), events::KEPT);
}
