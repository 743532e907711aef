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
    let error = bind(&served.path(), Rights::OWN).unwrap_err();
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
    let text = bind(&path, Rights::OWN).unwrap_err().to_string();
    assert!(text.contains("is served by another lbd (its process does not answer"), "{text}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lbd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = bind(&path, Rights::OWN).unwrap();
    assert_eq!(socket.path(), path);
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_named_and_left_alone() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let said = |path: &std::path::Path| bind(path, Rights::OWN).unwrap_err().to_string();
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
    let first = bind(&path, Rights::OWN).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = bind(&path, Rights::OWN).unwrap();
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
    let server =
        tokio::spawn(serve(bind(&path, Rights::OWN).unwrap(), handle, Access::of_this_process(), stopping));
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

/// With the answer that it has by then: what it waits for is longer than a stop lasts.
#[tokio::test]
async fn a_stop_lets_requests_under_way_end() {
    let served = Served::start();
    let client = served.client.clone();
    let add: ChangeRequest = serde_json::from_str(
        r#"{"operations":[{"op":"backend_add","pool":"web","address":"10.0.0.3"}],"wait":60}"#,
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
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.code(), ErrorCode::WaitTimeout);
    assert!(error.to_string().contains(" when lbd stopped: "), "{error}");
}

#[tokio::test]
async fn a_stop_answers_who_waits_for_events() {
    let served = Served::start();
    let client = served.client.clone();
    let last = client.events(0, None).await.unwrap().next;
    let hour = std::time::Duration::from_secs(3600);
    let waiting = tokio::spawn(async move { client.events(last, Some(hour)).await });
    // It is under way once it looks at the events, besides the log itself.
    while served.handle.events.followers() == 0 {
        tokio::task::yield_now().await;
    }
    served.stop.send(true).unwrap();
    served.server.await.unwrap();
    // What is cut off has no answer; without the stop it would have one, of no events too, after the longest wait there is (a minute).
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), waiting).await;
    assert_eq!(answer.expect("answered by the stop").unwrap().unwrap().events, []);
}

/// A served API to whose socket this process comes with a group alone, as `lbd`, a user of another number, serves it.
async fn served_to(role: Role) -> (Served, Client) {
    let mut served = Served::start();
    let own = nix::unistd::getegid().as_raw();
    let group =
        |is_in: bool| Some(Group { name: "watch".to_owned(), gid: if is_in { own } else { own + 1 } });
    let path = served.directory.path().join("groups.sock");
    let access = Access::of_groups_alone(group(role == Role::Admin), group(role == Role::Reader));
    let (stop, stopping) = watch::channel(false);
    let socket = bind(&path, Rights::OWN).unwrap();
    tokio::spawn(serve(socket, served.handle.clone(), access, stopping));
    served.stop = stop;
    (served, Client::new(&path))
}

#[tokio::test]
async fn a_reader_looks_and_an_admin_changes() {
    let add = |more: &str| -> ChangeRequest {
        let backend = r#"{"op":"backend_add","pool":"web","address":"10.0.0.3"}"#;
        serde_json::from_str(&format!(r#"{{"operations":[{backend}{more}]}}"#)).unwrap()
    };
    let refused = |error: ApiError, part: &str| {
        assert_eq!((error.code(), error.code().status()), (ErrorCode::Forbidden, 403));
        assert!(error.to_string().contains(part), "{part}: {error}");
    };
    let (_served, reader) = served_to(Role::Reader).await;
    reader.status().await.unwrap();
    reader.backends(None).await.unwrap();
    reader.revisions().await.unwrap();
    refused(reader.change(&add("")).await.unwrap_err(), "\"watch\" (daemon.admin)");
    refused(reader.plan().await.unwrap_err(), "(daemon.admin)");
    refused(reader.backup().await.unwrap_err(), "as root");
    refused(reader.revision(1, None).await.unwrap_err(), "as root");

    let (_served, admin) = served_to(Role::Admin).await;
    admin.status().await.unwrap();
    admin.plan().await.unwrap();
    admin.change(&add("")).await.unwrap();
    refused(admin.backup().await.unwrap_err(), "as root");
    // It would make lbd read a file with its own rights.
    let pool = r#",{"op":"pool_add","name":"own","health":{"type":"https","ca":"/etc/shadow"}}"#;
    refused(admin.change(&add(pool)).await.unwrap_err(), "as root");

    let (_served, stranger) = served_to(Role::Stranger).await;
    refused(stranger.status().await.unwrap_err(), "\"watch\" (daemon.read)");
    refused(stranger.change(&add("")).await.unwrap_err(), "(daemon.admin)");
}

#[tokio::test]
async fn strangers_keep_nobody_out() {
    let (_served, stranger) = served_to(Role::Stranger).await;
    // Far more than there is room for, none of which says anything.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(UnixStream::connect(stranger.socket()).await.unwrap());
    }
    for mut connection in silent {
        let mut nothing = Vec::new();
        // Each is closed by lbd; that a peer has reset it is as good.
        let _closed = connection.read_to_end(&mut nothing).await;
    }
    assert_eq!(stranger.status().await.unwrap_err().code(), ErrorCode::Forbidden);
}
