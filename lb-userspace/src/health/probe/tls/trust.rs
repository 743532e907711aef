//! The configurations of TLS, with the certificates that are trusted.
//!
//! In: what makes one configuration differ from another ([`Key`]), until when it is wanted. Out: the configuration, of certificates as they
//! are now, or were a second ago. Invariants: a file is looked at by a thread of its own, one for each key at a time, and none within
//! [`FILE_AGE`] of the last, however many ask: a file system that hangs costs a thread, holds up no check of another key, and no check longer
//! than its time; checks whose certificates were read once go on with those, also where no thread is to be had; certificates of a file are
//! read again when it has changed, those of the system after [`SYSTEM_AGE`].

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Alpn, Deadline, anyone};
use crate::spec::format_duration;

/// After so long the system's certificates are read again.
const SYSTEM_AGE: Duration = Duration::from_secs(600);

/// So long after a look at a file, and after one at anything that came to nothing, there is no other.
const FILE_AGE: Duration = Duration::from_secs(1);

/// A CA file of more than this is none.
const CA_LIMIT_LEN: u64 = 16 * 1024 * 1024;

/// Of the time that a check has left, what it waits for a look at certificates that were read before.
const SHARE_OF_TIME: u32 = 4;

/// What makes one configuration differ from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) ca: Option<PathBuf>,
    pub(super) insecure: bool,
    pub(super) alpn: Alpn,
}

impl Key {
    /// Of whom its certificates are, in words.
    fn words(&self) -> String {
        match &self.ca {
            Some(path) => format!("ca {}", path.display()),
            None => "this host's certificates".to_owned(),
        }
    }
}

/// A file as it was when it was read: inode, length, time of change.
type Stamp = (u64, u64, i64, i64);

/// A configuration as it was made.
#[derive(Clone)]
pub(super) struct Known {
    config: Arc<ClientConfig>,
    stamp: Option<Stamp>,
}

/// A configuration as it is now; the one known before, if there is one.
type Reader = dyn Fn(&Key, Option<Known>) -> Result<Known, String> + Send + Sync;
/// Begins a thread of this name.
type Spawner = dyn Fn(&str, Box<dyn FnOnce() + Send>) -> io::Result<()> + Send + Sync;
/// What a look has come to; `None` while it is under way.
type Look = watch::Receiver<Option<Result<Arc<ClientConfig>, String>>>;

/// The last look that has ended.
struct Looked {
    /// When it had.
    at: Instant,
    found: Result<Known, String>,
}

#[derive(Default)]
struct Entry {
    last: Option<Looked>,
    look: Option<Look>,
}

/// What a check goes by.
enum Answer {
    /// This.
    Found(Result<Arc<ClientConfig>, String>),
    /// What a look comes to; or, if that takes too long, what is known.
    Awaited(Look, Option<Arc<ClientConfig>>),
}

/// All configurations.
pub(super) struct Trust {
    entries: Mutex<HashMap<Key, Entry>>,
    reader: Box<Reader>,
    spawn: Box<Spawner>,
    /// [`FILE_AGE`].
    file_age: Duration,
}

/// Made once for all probes: the system's certificates alone take milliseconds to read.
static TRUST: LazyLock<Arc<Trust>> = LazyLock::new(|| Trust::new(Box::new(read), Box::new(spawn), FILE_AGE));

/// The configuration of this key.
///
/// # Errors
/// In a sentence, at the deadline at the latest.
pub(super) async fn config(key: Key, deadline: Deadline) -> Result<Arc<ClientConfig>, String> {
    TRUST.config(key, deadline).await
}

impl Trust {
    fn new(reader: Box<Reader>, spawn: Box<Spawner>, file_age: Duration) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), reader, spawn, file_age })
    }

    async fn config(self: &Arc<Self>, key: Key, deadline: Deadline) -> Result<Arc<ClientConfig>, String> {
        let (mut look, known) = match self.look(&key) {
            Answer::Found(found) => return found,
            Answer::Awaited(look, known) => (look, known),
        };
        let now = Instant::now();
        let at = match &known {
            Some(_) => now + deadline.at.saturating_duration_since(now) / SHARE_OF_TIME,
            None => deadline.at,
        };
        let looked = timeout_at(at, look.wait_for(Option::is_some)).await;
        match (looked, known) {
            (Ok(Ok(found)), _) => found.clone().unwrap_or_else(|| Err(key.words())),
            (Ok(Err(_ended)), _) => Err(format!("reading {} has ended without a result", key.words())),
            (Err(_elapsed), Some(known)) => Ok(known),
            (Err(_elapsed), None) => {
                let timeout = format_duration(deadline.timeout);
                Err(format!("cannot read {} within {timeout}: its file system does not answer", key.words()))
            }
        }
    }

    /// What is found of a key, without a new look where the last one is good for that.
    fn look(self: &Arc<Self>, key: &Key) -> Answer {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(key.clone()).or_default();
        if let Some(last) = entry.last.as_ref().filter(|last| self.is_good(key, last)) {
            return Answer::Found(
                last.found.as_ref().map(|known| Arc::clone(&known.config)).map_err(String::clone),
            );
        }
        let before = entry.last.as_ref().and_then(|last| last.found.as_ref().ok()).cloned();
        let known = before.as_ref().map(|known| Arc::clone(&known.config));
        // One whose thread has ended without a word is none.
        if let Some(look) = entry.look.as_ref().filter(|look| look.has_changed().is_ok()) {
            return Answer::Awaited(look.clone(), known);
        }
        match self.begin(key, before) {
            Ok(look) => {
                entry.look = Some(look.clone());
                Answer::Awaited(look, known)
            }
            // As with a file system that hangs.
            Err(error) => Answer::Found(
                known.ok_or_else(|| format!("cannot read {}: no thread can be made ({error})", key.words())),
            ),
        }
    }

    /// Begins a look at a key of which this was known before.
    fn begin(self: &Arc<Self>, key: &Key, before: Option<Known>) -> io::Result<Look> {
        let (found, look) = watch::channel(None);
        let (trust, of) = (Arc::clone(self), key.clone());
        let work = move || {
            let read = (trust.reader)(&of, before);
            trust.take(&of, read.clone());
            // Whoever asked may have gone.
            let _unused = found.send(Some(read.map(|known| known.config)));
        };
        (self.spawn)("lbd-ca", Box::new(work))?;
        Ok(look)
    }

    /// The look at a key is over.
    fn take(&self, key: &Key, found: Result<Known, String>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(key) else { return };
        entry.look = None;
        entry.last = Some(Looked { at: Instant::now(), found });
    }

    /// There need be no other look yet. A file may have changed since, and what came to nothing may have been mended.
    fn is_good(&self, key: &Key, last: &Looked) -> bool {
        let age = match last.found {
            Ok(_) if key.ca.is_none() && key.insecure => return true,
            Ok(_) if key.ca.is_none() => SYSTEM_AGE,
            _ => self.file_age,
        };
        last.at.elapsed() < age
    }
}

fn spawn(name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn read(key: &Key, before: Option<Known>) -> Result<Known, String> {
    let stamp = match &key.ca {
        Some(path) => {
            Some(stamp(path).map_err(|error| format!("cannot read ca {}: {error}", path.display()))?)
        }
        None => None,
    };
    if let Some(before) = before.filter(|before| stamp.is_some() && before.stamp == stamp) {
        return Ok(before);
    }
    Ok(Known { config: Arc::new(make(key)?), stamp })
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

fn make(key: &Key) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be used: {error}"))?;
    let builder = match key.insecure {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(anyone::Anyone(provider))),
        false => builder.with_root_certificates(roots(key.ca.as_deref())?),
    };
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match key.alpn {
        Alpn::Http1 => vec![b"http/1.1".to_vec()],
        Alpn::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

/// Whom to trust: those of the file, else those of the system (SSL_CERT_FILE and SSL_CERT_DIR, as with OpenSSL).
fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "this host has no certificates to trust: install ca-certificates, or name a ca".to_owned()
            );
        }
        return Ok(roots);
    };
    let file = || format!("ca {}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", file()))?;
    if !metadata.is_file() || metadata.len() > CA_LIMIT_LEN {
        return Err(format!("{} is no file of certificates", file()));
    }
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| format!("cannot read {}: {error}", file()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{} is not PEM: {error}", file()))?;
        roots.add(certificate).map_err(|error| format!("{} holds no usable certificate: {error}", file()))?;
    }
    match roots.is_empty() {
        true => Err(format!("{} holds no certificate", file())),
        false => Ok(roots),
    }
}

#[cfg(test)]
mod tests;
