//! The seed: 32 secret bytes that every hash depends on, so that nobody outside can aim packets at one bucket.
//!
//! In: the seed file (64 hexadecimal digits, made on the first start with mode 0600) and the seed in the pinned maps. Out: the
//! seed to use and its fingerprint. Invariant: a pinned seed wins, because the pinned flows lie where it put them.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{DatapathError, bpffs};

/// The secret of every hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u64; 4]);

impl Seed {
    /// The seed in its four words; `None` if they are all 0, which stands for "not set".
    pub fn from_words(words: [u64; 4]) -> Option<Self> {
        (words != [0; 4]).then_some(Self(words))
    }

    /// As the settings of the program hold it.
    pub fn words(&self) -> [u64; 4] {
        self.0
    }

    /// Eight hexadecimal digits by which people compare the seeds of two nodes; the seed cannot be told from them.
    pub fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(b"lbd seed fingerprint");
        digest.update(self.bytes());
        hexadecimal(&digest.finalize()[..4])
    }

    /// The seed of a seed file, which is made if it is not there.
    ///
    /// # Errors
    /// [`DatapathError::Seed`] if the file cannot be read or made, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, DatapathError> {
        let failed = |reason: String| DatapathError::Seed { path: path.to_path_buf(), reason };
        match fs::read_to_string(path) {
            Ok(text) => {
                warn_if_others_read(path);
                Self::parse(&text).map_err(failed)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(|error| failed(error.to_string()))?;
                let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
                Self::parse(&text).map_err(failed)
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// The seed to go on with: the pinned one, or that of the file.
    pub(super) fn choose(pinned: Option<Self>, file: Self, path: &Path) -> Self {
        match pinned {
            Some(pinned) if pinned != file => {
                tracing::warn!(
                    seed_file = %path.display(), in_file = file.fingerprint(), in_use = pinned.fingerprint(),
                    "the pinned maps were made with another seed, which stays in use until `lbd detach`"
                );
                pinned
            }
            _ => file,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.trim();
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(format!("it holds {} characters, not 64 hexadecimal digits", digits.len()));
        }
        let mut words = [0; 4];
        for (index, word) in words.iter_mut().enumerate() {
            let part = &digits[index * 16..(index + 1) * 16];
            *word =
                u64::from_str_radix(part, 16).map_err(|_| format!("{part:?} is not a hexadecimal number"))?;
        }
        Self::from_words(words).ok_or_else(|| "it is all zeros, which is no secret".into())
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

/// Never the seed itself: it would end up in a log.
impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seed({})", self.fingerprint())
    }
}

/// Makes the file whole or not at all, and never over one that is there.
fn create(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory {
        bpffs::make_directory(directory)?;
    }
    let mut bytes = [0; 32];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let made = writeln!(file, "{}", hexadecimal(&bytes)).and_then(|()| file.sync_all()).and_then(|()| {
        match fs::hard_link(&temporary, path) {
            // Another lbd was faster; its seed is as good.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    fs::remove_file(&temporary)?;
    made
}

fn warn_if_others_read(path: &Path) {
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            seed_file = %path.display(), mode = format!("{:o}", mode & 0o777),
            "others can read the seed and aim packets at one bucket: chmod 600"
        );
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_made_once_for_the_owner_alone_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/seed");
        let first = Seed::load_or_create(&path).unwrap();
        assert_eq!(Seed::load_or_create(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let other = Seed::load_or_create(&directory.path().join("other")).unwrap();
        assert_ne!(other.fingerprint(), first.fingerprint());
        assert!(!format!("{first:?}").contains(&format!("{:x}", first.words()[0])));
    }

    #[test]
    fn what_is_no_seed_is_refused_with_its_reason() {
        for (text, part) in
            [("", "0 characters"), (&"0".repeat(64), "all zeros"), (&"g".repeat(64), "hexadecimal")]
        {
            assert!(Seed::parse(text).unwrap_err().contains(part));
        }
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(Seed::parse(&text).unwrap().words(), [0x0123_4567_89ab_cdef; 4]);
    }

    #[test]
    fn the_pinned_seed_wins() {
        let (file, pinned) = (Seed([1, 2, 3, 4]), Seed([5, 6, 7, 8]));
        let path = Path::new("seed");
        assert_eq!(Seed::choose(Some(pinned), file, path), pinned);
        assert_eq!(Seed::choose(None, file, path), file);
        assert_eq!(Seed::from_words([0; 4]), None);
    }
}
