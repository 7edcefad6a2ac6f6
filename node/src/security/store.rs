//! The files of this node's credentials, below `tls` in the data directory, for the agent's user alone.
//!
//! ```text
//! node.pem        key, certificate and the CAs above it: one file, so that they always belong together
//! trusted.pem     the CAs whose certificates are accepted
//! authority.pem   the new cluster's CA with its key; moves into the replicated state when the cluster is made
//! ```

use std::path::{Path, PathBuf};

use muster_tls::{Authority, Certificate, CertificateError, Credentials, KeyPair, Trust};

use crate::storage::{FileError, durable};

const DIRECTORY: &str = "tls";
const NODE: &str = "node.pem";
const TRUSTED: &str = "trusted.pem";
const AUTHORITY: &str = "authority.pem";

/// Why the credentials can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] FileError),
    /// There are none.
    #[error(
        "{} is missing: this node can't show who it is. Restore this file, or move the data directory away and join \
         as a new node",
        .0.display()
    )]
    Missing(PathBuf),
    /// They can't be used.
    #[error(
        "{}: {source}. Restore this file, or move the data directory away and join as a new node",
        path.display()
    )]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: CertificateError,
    },
}

/// The directory.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Below a data directory.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { directory: data_dir.join(DIRECTORY) }
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.directory.parent().unwrap_or(&self.directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Keeps credentials.
    ///
    /// # Errors
    /// [`StoreError::File`]; the old ones are then still in place.
    pub fn save(&self, credentials: &Credentials) -> Result<(), StoreError> {
        self.save_trust(credentials.trust())?;
        durable::replace_file(&self.path(NODE), credentials.to_pem().as_bytes())?;
        Ok(())
    }

    /// Keeps whom to trust.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn save_trust(&self, trust: &Trust) -> Result<(), StoreError> {
        durable::create_directory(&self.directory)?;
        durable::replace_file(&self.path(TRUSTED), trust.to_pem().as_bytes())?;
        Ok(())
    }

    /// Reads the credentials.
    ///
    /// # Errors
    /// [`StoreError`]; a certificate that has expired is no error here.
    pub fn load(&self) -> Result<Credentials, StoreError> {
        let (own, trusted) = (self.read(NODE)?, self.read(TRUSTED)?);
        let unusable = |source| StoreError::Unusable { path: self.path(NODE), source };
        Credentials::from_pem(&own, &trusted).map_err(unusable)
    }

    /// Whether there are credentials.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.path(NODE).exists()
    }

    /// Keeps a new cluster's CA until the cluster is made.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn save_authority(&self, authority: &Authority) -> Result<(), StoreError> {
        durable::create_directory(&self.directory)?;
        let key = KeyPair::from_der(&authority.key_der()).map_err(|e| self.unusable_authority(e))?;
        let certificate = muster_tls::to_pem(authority.certificate());
        let text = key.to_pem() + &certificate;
        durable::replace_file(&self.path(AUTHORITY), text.as_bytes())?;
        Ok(())
    }

    /// The new cluster's CA; none when the cluster has it already.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn authority(&self) -> Result<Option<Authority>, StoreError> {
        let text = match self.read(AUTHORITY) {
            Ok(text) => text,
            Err(StoreError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = || {
            let certificate = Certificate::from_pem(&text)?;
            Authority::from_der(&KeyPair::from_pem(&text)?.to_der(), certificate.der())
        };
        read().map(Some).map_err(|e| self.unusable_authority(e))
    }

    /// The replicated state has the CA now.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub fn forget_authority(&self) -> Result<(), StoreError> {
        Ok(durable::remove_if_present(&self.path(AUTHORITY))?)
    }

    fn unusable_authority(&self, source: CertificateError) -> StoreError {
        StoreError::Unusable { path: self.path(AUTHORITY), source }
    }

    fn read(&self, name: &str) -> Result<String, StoreError> {
        let path = self.path(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(StoreError::Missing(path)),
            Err(error) => Err(FileError::of("read", path)(error).into()),
        }
    }
}
