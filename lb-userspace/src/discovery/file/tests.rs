use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// So long a change may take to be noticed; nothing here waits for it unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

struct Case {
    directory: TempDir,
    watched: Watched,
}

impl Case {
    fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let watched = Watched::new(&directory.path().join(name), 1_000);
        Self { directory, watched }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn read(&mut self) -> Result<Vec<String>, String> {
        let answer = self.watched.read().await;
        answer.map(|answer| answer.found.backends.keys().map(ToString::to_string).collect())
    }

    /// Reads again with every change, until it says this.
    async fn becomes(&mut self, wanted: &[&str]) {
        let follow = async {
            while self.watched.read().await.map(|answer| answer.found.backends.len()).ok()
                != Some(wanted.len())
                || self.read().await.unwrap() != wanted
            {
                self.watched.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, follow)
            .await
            .unwrap_or_else(|_| panic!("it never becomes {wanted:?}"));
    }
}

#[tokio::test]
async fn a_file_is_followed_over_every_way_of_changing_it() {
    let mut case = Case::new("below/web.list");
    assert!(case.read().await.unwrap_err().ends_with("web.list does not exist"));
    // The directory comes, and then the file.
    fs::create_dir(case.path("below")).unwrap();
    case.write("below/web.list", "10.0.0.1\n");
    case.becomes(&["10.0.0.1"]).await;
    // Written where it is.
    case.write("below/web.list", "10.0.0.2\n");
    case.becomes(&["10.0.0.2"]).await;
    // Another put in its place, as people should.
    case.write("below/new", "10.0.0.3\n");
    fs::rename(case.path("below/new"), case.path("below/web.list")).unwrap();
    case.becomes(&["10.0.0.3"]).await;
    // The whole directory exchanged.
    fs::create_dir(case.path("other")).unwrap();
    case.write("other/web.list", "10.0.0.4\n");
    fs::rename(case.path("below"), case.path("old")).unwrap();
    fs::rename(case.path("other"), case.path("below")).unwrap();
    case.becomes(&["10.0.0.4"]).await;
    // Gone, with its directory, and back.
    fs::remove_dir_all(case.path("below")).unwrap();
    tokio::time::timeout(PATIENCE, case.watched.changed()).await.unwrap();
    assert!(case.read().await.is_err());
    fs::create_dir(case.path("below")).unwrap();
    case.write("below/web.list", "10.0.0.5\n");
    case.becomes(&["10.0.0.5"]).await;
}

#[tokio::test]
async fn a_link_that_is_pointed_elsewhere_is_followed() {
    let mut case = Case::new("web.list");
    for (version, text) in [("..1", "10.0.0.1\n"), ("..2", "10.0.0.2\n")] {
        fs::create_dir(case.path(version)).unwrap();
        case.write(&format!("{version}/web.list"), text);
    }
    symlink("..1", case.path("..data")).unwrap();
    symlink("..data/web.list", case.path("web.list")).unwrap();
    case.becomes(&["10.0.0.1"]).await;
    symlink("..2", case.path("..new")).unwrap();
    fs::rename(case.path("..new"), case.path("..data")).unwrap();
    fs::remove_dir_all(case.path("..1")).unwrap();
    case.becomes(&["10.0.0.2"]).await;
    // A link may be made, and made anew.
    fs::remove_file(case.path("web.list")).unwrap();
    case.write("elsewhere", "10.0.0.3\n");
    symlink(case.path("elsewhere"), case.path("web.list")).unwrap();
    case.becomes(&["10.0.0.3"]).await;
}

#[tokio::test]
async fn its_neighbours_are_nobodys_news() {
    let mut case = Case::new("web.list");
    case.write("web.list", "10.0.0.1\n");
    case.becomes(&["10.0.0.1"]).await;
    case.write("other.list", "10.0.0.2\n");
    fs::remove_file(case.path("other.list")).unwrap();
    // Events come in order: the first that is told is that of the file itself.
    case.write("web.list", "10.0.0.3\n");
    tokio::time::timeout(PATIENCE, case.watched.changed()).await.unwrap();
    assert_eq!(case.read().await.unwrap(), ["10.0.0.3"]);
}

#[tokio::test]
async fn what_is_no_list_is_refused_and_says_why() {
    let mut case = Case::new("web.list");
    case.write("web.list", "10.0.0.1\n<html>\n");
    assert!(case.read().await.unwrap_err().contains("web.list is no list of backends: line 2: "));
    fs::write(case.path("web.list"), [0xff, 0xfe]).unwrap();
    assert!(case.read().await.unwrap_err().ends_with("it is no text"));
    fs::remove_file(case.path("web.list")).unwrap();
    fs::create_dir(case.path("web.list")).unwrap();
    assert!(case.read().await.unwrap_err().ends_with("is no ordinary file"));
    fs::remove_dir(case.path("web.list")).unwrap();
    // Nobody will ever write into this pipe.
    nix::unistd::mkfifo(&case.path("web.list"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(case.read().await.unwrap_err().ends_with("is no ordinary file"));
    fs::remove_file(case.path("web.list")).unwrap();
    File::create(case.path("web.list")).unwrap().set_len(1 << 30).unwrap();
    assert!(
        case.read().await.unwrap_err().ends_with("is larger than 4 MiB, of which nothing is read further")
    );
    let mut json = Case::new("web.json");
    json.write("web.json", r#"{"backends":["10.0.0.1:80"]}"#);
    assert_eq!(json.read().await.unwrap(), ["10.0.0.1:80"]);
}
