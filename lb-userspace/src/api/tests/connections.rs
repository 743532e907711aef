//! The socket, and who may use it.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn the_socket_is_for_its_owner_alone() {
    let served = Served::start();
    let mode = fs::metadata(served.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(served.path().parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_socket_that_is_served_is_refused_naming_it_and_its_process() {
    let served = Served::start();
    let error = bind(&served.path()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("run/lbd.sock is served by another lbd"), "{text}");
    assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
    served.client.status().await.unwrap();
}

/// Who looks whether a name is taken must not wait for one that accepts nobody.
#[tokio::test]
async fn a_socket_that_nobody_accepts_at_is_held_all_the_same() {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as name, connect, listen, socket,
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lbd.sock");
    let address = UnixAddr::new(&path).unwrap();
    let open = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let deaf = open();
    name(deaf.as_raw_fd(), &address).unwrap();
    listen(&deaf, Backlog::new(0).unwrap()).unwrap();
    let waiting: Vec<_> = std::iter::repeat_with(open)
        .take_while(|caller| connect(caller.as_raw_fd(), &address).is_ok())
        .take(100)
        .collect();
    assert!(waiting.len() < 100, "its queue is full");
    let text = bind(&path).unwrap_err().to_string();
    assert!(text.contains("is served by another lbd (its process does not answer"), "{text}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lbd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = bind(&path).unwrap();
    assert_eq!(socket.path(), path);
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_named_and_left_alone() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let said = |path: &std::path::Path| bind(path).unwrap_err().to_string();
    std::fs::write(at("file"), "of somebody").unwrap();
    std::fs::create_dir(at("lbd")).unwrap();
    std::fs::write(at("lbd").join("inside"), "too").unwrap();
    symlink(at("nowhere"), at("link")).unwrap();
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let whole = |name: &str| at(name).display().to_string();
    for (name, kind) in [("file", "a regular file"), ("link", "a symbolic link"), ("pipe", "a named pipe")] {
        let remedy = "move it away, or set daemon.socket to another path";
        assert_eq!(said(&at(name)), format!("{} is {kind}, not a socket: {remedy}", whole(name)));
    }
    assert_eq!(
        said(&at("lbd")),
        format!(
            "{0} is a directory, not a socket: set daemon.socket to a path in it, such as {0}/lbd.sock",
            whole("lbd")
        )
    );
    // As the directory of a socket, a file is no better.
    assert_eq!(
        said(&at("file").join("deeper/lbd.sock")),
        format!(
            "{0} is a regular file, so there can be no socket {0}/deeper/lbd.sock: set daemon.socket to a path in a directory",
            whole("file")
        )
    );
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "of somebody");
    assert_eq!(std::fs::read_to_string(at("lbd").join("inside")).unwrap(), "too");
    assert!(std::fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 4);
}

#[tokio::test]
async fn the_name_goes_with_the_server_unless_it_is_anothers_by_then() {
    let served = Served::start();
    let path = served.path();
    served.stop.send(true).unwrap();
    served.server.await.unwrap();
    assert!(!path.exists());
    let first = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
    drop(served.directory);
}

#[tokio::test]
async fn without_a_daemon_the_client_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lbd.sock");
    let error = Client::new(&path).status().await.unwrap_err();
    assert_eq!((error.code(), error.code().exit_code()), (ErrorCode::Unreachable, 3));
    assert!(
        error.to_string().contains("there is no socket") && error.to_string().contains("--socket"),
        "{error}"
    );
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Client::new(&path).status().await.unwrap_err();
    assert!(error.to_string().contains("nobody answers at"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_has_lost_its_controller_says_so() {
    let (commands, inbox) = mpsc::channel(1);
    drop(inbox);
    let (_published, handle) = handle(commands);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lbd.sock");
    let (_stop, stopping) = watch::channel(false);
    let server = tokio::spawn(serve(bind(&path).unwrap(), handle, Access::of_this_process(), stopping));
    let error = Client::new(&path).count_flows(&FlowFilter::default()).await.unwrap_err();
    assert_eq!((error.code(), error.code().exit_code()), (ErrorCode::Unavailable, 3));
    server.abort();
}

#[tokio::test]
async fn clients_that_say_nothing_hold_up_nobody() {
    let served = Served::start();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(UnixStream::connect(served.path()).await.unwrap());
    }
    served.client.status().await.unwrap();
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end() {
    let served = Served::start();
    let client = served.client.clone();
    let add: ChangeRequest = serde_json::from_str(
        r#"{"operations":[{"op":"backend_add","pool":"web","address":"10.0.0.3"}],"wait":0.3}"#,
    )
    .unwrap();
    let waiting = tokio::spawn(async move { client.change(&add).await });
    // It is under way once what it does can be seen.
    let mut published = served.handle.published.clone();
    while served.handle.snapshot.load().pools[0].backends.len() < 3 {
        published.changed().await.unwrap();
    }
    served.stop.send(true).unwrap();
    served.server.await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().code(), ErrorCode::WaitTimeout);
}

#[test]
fn only_root_and_lbds_own_user_may() {
    let access = Access::of(999);
    assert!(access.admits(0) && access.admits(999));
    assert!(!access.admits(1000));
}
