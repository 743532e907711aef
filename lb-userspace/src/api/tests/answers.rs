//! What the contract fixes of answers.

use serde_json::Value;

use super::*;

async fn json(served: &Served, path: &str) -> Value {
    let answer = served.raw(&get(path)).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    assert!(body.starts_with(r#"{"api_version":"v1","#), "{body}");
    serde_json::from_str(body).unwrap()
}

fn has(value: &Value, keys: &[&str]) {
    for key in keys {
        assert!(value.get(key).is_some(), "{key} is missing in {value}");
    }
}

#[tokio::test]
async fn fixed_fields_are_there() {
    let served = Served::start();
    let status = json(&served, "/v1/status").await;
    has(&status, &["version", "uptime", "revision", "degraded", "interfaces", "flows", "drops"]);
    has(&status["interfaces"][0], &["name", "mode", "attached", "program_id"]);
    assert_eq!(status["flows"]["v4"]["capacity"], 2);
    assert_eq!(status["drops"], serde_json::json!({"truncated": 5, "fragment": 4}));
    let services = json(&served, "/v1/services").await;
    let service = &services["services"][0];
    has(service, &["name", "listen", "pool", "forward", "origin", "backends", "eligible"]);
    // Sixty-four bits, to the last.
    assert_eq!((&service["packets"], &service["bytes"]), (&(1_u64 << 60).into(), &u64::MAX.into()));
    assert_eq!(service["drops"], 7);
    assert_eq!(service["listen"][0], "203.0.113.10:80/tcp");
    has(&services["pools"][0], &["name", "generation", "table_hash", "slots"]);
    let backends = json(&served, "/v1/pools/web/backends").await;
    let backend = &backends["backends"][0];
    has(backend, &["pool", "address", "origin", "weight", "state", "health", "eligible", "reason", "reach"]);
    has(backend, &["slots", "flows", "packets", "bytes", "new_flows"]);
    assert_eq!((&backend["address"], &backend["origin"]), (&"10.0.0.1".into(), &"file".into()));
    assert_eq!((&backend["state"], &backend["health"]), (&"active".into(), &"unknown".into()));
    assert_eq!((&backend["flows"], &backend["slots"]), (&16.into(), &500.into()));
    assert_eq!(backend["reason"], "waiting for first check");
    let explanation =
        json(&served, "/v1/explain?protocol=tcp&source=192.0.2.1:1&destination=203.0.113.10:80").await;
    has(
        &explanation,
        &["verdict", "reason", "service", "pool", "backend", "selected_by", "interface", "next_hop"],
    );
}

#[tokio::test]
async fn every_reader_of_the_client_works() {
    let served = Served::start();
    let client = &served.client;
    assert_eq!(client.status().await.unwrap().services, 1);
    assert_eq!(client.services().await.unwrap().pools[0].table_hash, "0000000000000abc");
    assert_eq!(client.service(&name("web")).await.unwrap().backends.len(), 2);
    assert_eq!(client.pools().await.unwrap().pools[0].generation, 2);
    assert_eq!(client.pool(&name("web")).await.unwrap().backends.len(), 2);
    assert_eq!(client.backends(None).await.unwrap().backends.len(), 2);
    let backend = client.backend(&name("web"), "10.0.0.2:81".parse().unwrap()).await.unwrap();
    assert_eq!(backend.backend.place.as_deref(), Some("lbd.toml:7"));
    let stats = client.stats(Some(name("web"))).await.unwrap();
    assert_eq!((stats.services[0].totals.new_flows, stats.backends[0].totals.packets), (7, 11));
    let drops = client.drops(None).await.unwrap();
    assert_eq!(drops.reasons.iter().map(|row| row.packets).collect::<Vec<_>>(), [5, 4]);
    assert_eq!(drops.reasons[0].services, [("web".to_owned(), 3)].into());
    assert_eq!(client.drops(Some(name("web"))).await.unwrap().reasons[0].packets, 3);
    assert!(client.overrides().await.unwrap().overrides.is_empty());
    assert!(client.flows(&FlowFilter::default()).await.unwrap().truncated);
    let filter = FlowFilter { name: Some(name("web")), ..FlowFilter::default() };
    assert_eq!(client.count_flows(&filter).await.unwrap().services["web"], 1);
    let filter = FlowFilter { backend: Some("[2001:db8::1]:80".parse().unwrap()), ..FlowFilter::default() };
    assert_eq!(client.flush_flows(&filter).await.unwrap().flushed, 1);
    let request = ExplainRequest {
        protocol: crate::spec::Protocol::Udp,
        source: "[2001:db8::1]:1".parse().unwrap(),
        destination: "[2001:db8::2]:2".parse().unwrap(),
        interface: None,
    };
    let explanation = client.explain(&request).await.unwrap();
    assert_eq!(explanation.sentence, "udp [2001:db8::1]:1 [2001:db8::2]:2");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let served = Served::start();
    let client = &served.client;
    let error = client.service(&name("wbe")).await.unwrap_err();
    assert_eq!((error.code(), error.code().exit_code()), (ErrorCode::NotFound, 4));
    assert_eq!(error.to_string(), "there is no service \"wbe\": did you mean \"web\"?");
    assert_eq!(client.backends(Some(&name("none"))).await.unwrap_err().code(), ErrorCode::NotFound);
    let error = client.backend(&name("web"), "[2001:db8::1]:80".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("[2001:db8::1]:80"), "{error}");
    assert_eq!(client.get::<Status>("/v2/status").await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(client.drops(Some(name("none"))).await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn what_is_no_request_is_said_in_json() {
    let served = Served::start();
    for (request, status, code) in [
        (get("/v1/changes"), 405, "method_not_allowed"),
        (get("/v1/services/WEB"), 400, "bad_request"),
        (get("/v1/explain?protocol=sctp&source=1.2.3.4:5&destination=1.2.3.4:5"), 400, "bad_request"),
        (get("/v1/explain?protocol=tcp&source=[::1]:5&destination=1.2.3.4:5"), 400, "bad_request"),
        (get("/v1/events?since=yesterday"), 400, "bad_request"),
        (get("/v1/pools/web/backends/10.0.0.1.2"), 400, "bad_request"),
        (post("/v1/changes", "", "{"), 400, "bad_request"),
        (post("/v1/changes", "", r#"{"operations":[],"forse":true}"#), 400, "bad_request"),
        (post("/v1/changes", "", r#"[{"op":"explode"}]"#), 400, "bad_request"),
        (post("/v1/changes", "If-Match: \"x\"\r\n", "[]"), 400, "bad_request"),
        (post("/v1/changes", "", &" ".repeat((32 << 20) + 1)), 413, "too_large"),
    ] {
        let answer = served.raw(&request).await;
        let line: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let body: Value =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error}: {body}"));
        assert_eq!(body["error"]["code"], code, "{line}");
        has(&body["error"], &["message", "hint", "file", "line"]);
    }
}
