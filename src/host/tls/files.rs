//! Certificates and keys in files, and what is made of them for as long as the files stay as they are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, RootCertStore};

use crate::config::Tls;
use crate::error::{Error, Result};
use crate::host::{Disk, OpenMode};

/// What the files of one side hold.
pub(super) struct Material {
    /// The member's own certificate with those behind it, and its key.
    pub(super) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Those that sign others' certificates.
    pub(super) roots: Option<Arc<RootCertStore>>,
}

/// The bytes of certificate, key and roots, where the flags name them.
#[derive(PartialEq, Eq)]
struct Files {
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    roots: Option<Vec<u8>>,
}

/// How files become a `T`.
type Make<T> = Box<dyn Fn(&Tls, Material) -> Result<T> + Send + Sync>;

/// Something made of files, and made anew when they have changed.
pub(super) struct Fresh<T> {
    disk: Arc<dyn Disk>,
    tls: Tls,
    file_bytes_max: usize,
    make: Make<T>,
    last: Mutex<Last<T>>,
}

/// The last that could be made.
struct Last<T> {
    files: Files,
    made: Arc<T>,
    /// What was said about files that could not be used; said once.
    complaint: Option<Error>,
}

impl<T> Fresh<T> {
    /// Reads the files for the first time.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        tls: &Tls,
        file_bytes_max: usize,
        make: impl Fn(&Tls, Material) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        let files = Files::read(&*disk, tls, file_bytes_max)?;
        let made = Arc::new(make(tls, files.material(tls)?)?);
        let last = Mutex::new(Last { files, made, complaint: None });
        Ok(Self { disk, tls: tls.clone(), file_bytes_max, make: Box::new(make), last })
    }

    /// What is made of the files as they are now; of what they were, where that is impossible.
    pub(super) fn current(&self) -> Arc<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.anew(&last.files) {
            Ok(None) => last.complaint = None,
            Ok(Some((files, made))) => {
                let flags =
                    ["cert-file", "key-file", "trusted-ca-file"].map(|it| self.tls.flag(it));
                tracing::info!("{} have changed and are used from now on", flags.join(", "));
                *last = Last { files, made: Arc::new(made), complaint: None };
            }
            Err(error) => {
                if last.complaint.as_ref() != Some(&error) {
                    tracing::warn!("what was there before is used on: {error}");
                    last.complaint = Some(error);
                }
            }
        }
        Arc::clone(&last.made)
    }

    fn anew(&self, before: &Files) -> Result<Option<(Files, T)>> {
        let files = Files::read(&*self.disk, &self.tls, self.file_bytes_max)?;
        if files == *before {
            return Ok(None);
        }
        let made = (self.make)(&self.tls, files.material(&self.tls)?)?;
        Ok(Some((files, made)))
    }
}

impl Files {
    fn read(disk: &dyn Disk, tls: &Tls, bytes_max: usize) -> Result<Self> {
        let read = |path: &Option<PathBuf>, name: &str| {
            let Some(path) = path else { return Ok(None) };
            read(disk, path, bytes_max).map(Some).map_err(|cause| {
                let flag = tls.flag(name);
                Error::Config(format!(
                    "cannot read {flag} {}: {cause}; check the path, and who may read it",
                    path.display()
                ))
            })
        };
        Ok(Self {
            cert: read(&tls.cert_file, "cert-file")?,
            key: read(&tls.key_file, "key-file")?,
            roots: read(&tls.trusted_ca_file, "trusted-ca-file")?,
        })
    }

    fn material(&self, tls: &Tls) -> Result<Material> {
        let key = |pem: &[u8]| {
            PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
                let what = words(&error, "private key without a password");
                no_pem(tls, "key-file", &what, "PRIVATE KEY")
            })
        };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(pem)) => Some((certificates(tls, "cert-file", cert)?, key(pem)?)),
            _ => None,
        };
        let Some(pem) = &self.roots else { return Ok(Material { identity, roots: None }) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(tls, "trusted-ca-file", pem)? {
            roots.add(certificate).map_err(|error| {
                let (flag, path) = (tls.flag("trusted-ca-file"), path(tls, "trusted-ca-file"));
                let why = error.to_string().replace("invalid peer certificate: ", "");
                Error::Config(format!(
                    "{flag} {path} holds a certificate that cannot be used ({why}); make it anew, or take it out"
                ))
            })?;
        }
        Ok(Material { identity, roots: Some(Arc::new(roots)) })
    }
}

/// A file as it is now.
pub(super) fn read(disk: &dyn Disk, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(io::Error::other(format!("{length} bytes are too many for it")));
    }
    let mut bytes = vec![0; length];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn certificates(tls: &Tls, name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>();
    let found = match found {
        Ok(found) if found.is_empty() => Err(pem::Error::NoItemsFound),
        found => found,
    };
    found.map_err(|error| no_pem(tls, name, &words(&error, "certificate"), "CERTIFICATE"))
}

/// What a file holds that is not what was looked for.
fn words(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("no {wanted}"),
        pem::Error::MissingSectionEnd { .. } => {
            format!("a {wanted} whose -----END line is missing")
        }
        _ => format!("broken PEM ({error})"),
    }
}

fn no_pem(tls: &Tls, name: &str, what: &str, begin: &str) -> Error {
    let (flag, path) = (tls.flag(name), path(tls, name));
    Error::Config(format!(
        "{flag} {path} holds {what}; give it PEM, which begins with -----BEGIN {begin}-----"
    ))
}

fn path(tls: &Tls, name: &str) -> String {
    let path = match name {
        "cert-file" => &tls.cert_file,
        "key-file" => &tls.key_file,
        _ => &tls.trusted_ca_file,
    };
    path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

/// What rustls says about a certificate and its key.
pub(super) fn refuse(tls: &Tls, error: &rustls::Error) -> Error {
    let [cert, key] =
        ["cert-file", "key-file"].map(|name| format!("{} {}", tls.flag(name), path(tls, name)));
    Error::Config(match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("{key} is not the key of {cert}; give the two that belong together")
        }
        rustls::Error::InvalidCertificate(why) => {
            format!("{cert} holds a certificate that cannot be used ({why}); make it anew")
        }
        error => format!("{cert} with {key} cannot be used: {error}; make both anew"),
    })
}
