//! A real web server with a JSON document: nginx, with its ETags.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use lbd_tests::netns::Namespace;
use lbd_tests::process::Process;
use lbd_tests::root_or_skip;
use lbd_tests::web::{expect_no_failure, until, until_answered};

use super::stage::{Stage, put, spawn, until_eligible, until_failing, until_well};

const PORT: u16 = 8500;
const GIGABYTE: u64 = 1 << 30;

/// nginx that serves the files of a directory.
fn serve(namespace: &Namespace, dir: &Path) -> Result<Process> {
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 64; }}\n\
         http {{ log_format lbd '$status $body_bytes_sent $uri'; access_log {dir}/access.log lbd;\n\
         client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
         server {{ listen 127.0.0.1:{PORT}; root {dir}/files; }} }}\n",
        dir = dir.display()
    );
    fs::create_dir_all(dir.join("files"))?;
    fs::write(dir.join("nginx.conf"), text)?;
    let (log, config) = (dir.join("error.log"), dir.join("nginx.conf"));
    let mut process = spawn(
        "registry",
        namespace,
        "nginx",
        &["-e", &log.display().to_string(), "-c", &config.display().to_string()],
    )?;
    until("the registry listens", || {
        process.check_running()?;
        Ok(namespace.run(|| TcpStream::connect(("127.0.0.1", PORT)))?.is_ok())
    })?;
    Ok(process)
}

/// What the server has answered, with how many bytes: `304 0`.
fn answers(dir: &Path) -> Result<Vec<(u16, u64)>> {
    let text = fs::read_to_string(dir.join("access.log"))?;
    let whole = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    Ok(whole.filter_map(|words| Some((words.first()?.parse().ok()?, words.get(1)?.parse().ok()?))).collect())
}

#[test]
fn an_endpoint_is_followed_and_its_faults_change_nothing() -> Result<()> {
    if !root_or_skip("an_endpoint_is_followed_and_its_faults_change_nothing") {
        return Ok(());
    }
    let stage = Stage::new("http")?;
    let [one, two, three] = [0, 1, 2].map(|index| stage.backend(index));
    let dir = stage.dir.clone();
    let mut registry = serve(&stage.topology.balancer, &dir)?;
    let document = dir.join("files/web.json");
    put(&document, &format!("{{\"backends\":[{{\"address\":\"{one}:80\",\"weight\":5}},\"{two}:80\"]}}"))?;
    let url = format!("http://127.0.0.1:{PORT}/web.json");
    let discover =
        format!("discover = {{ type = \"http\", url = \"{url}\", interval = \"200ms\", timeout = \"2s\" }}");
    let web = stage.balanced(&discover)?;
    let of =
        |backends: &[&String]| backends.iter().map(|address| format!("{address}:80")).collect::<Vec<_>>();
    until_eligible(&web.lbd, &of(&[&one, &two]))?;
    // What has not changed is not served again.
    until("304", || Ok(answers(&dir)?.iter().filter(|(status, _)| *status == 304).count() >= 3))?;
    let whole = answers(&dir)?.iter().filter(|(status, _)| *status == 200).count();
    ensure!(whole == 1, "the document was served {whole} times");

    let load = web.load(50)?;
    let begin = Instant::now();
    let all = of(&[&one, &two, &three]);
    let json = format!("[\"{}\"]", all.join("\",\""));
    put(&document, &json)?;
    until_eligible(&web.lbd, &all)?;
    // A document without end, a page of somebody else's, nothing at all, nobody there.
    fs::File::create(dir.join("huge"))?.set_len(GIGABYTE)?;
    fs::rename(dir.join("huge"), &document)?;
    until_failing(&web.lbd, &url, "serves more than 4 MiB")?;
    let most = answers(&dir)?.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default();
    ensure!(most < GIGABYTE / 8, "{most} bytes of it were served");
    for (text, why) in [("<html>", "it is no JSON"), ("[]", "names no backend")] {
        put(&document, text)?;
        until_failing(&web.lbd, &url, why)?;
    }
    fs::remove_file(&document)?;
    until_failing(&web.lbd, &url, "answers 404, expected 200")?;
    registry.kill()?;
    until_failing(&web.lbd, &url, "cannot be reached")?;
    until_eligible(&web.lbd, &all)?;
    let _registry = serve(&web.topology.balancer, &dir)?;
    put(&document, &json)?;
    until_well(&web.lbd, &url)?;
    let end = Instant::now();
    until_answered(load.recorder(), end, 50)?;
    expect_no_failure(load.recorder(), begin)
}
