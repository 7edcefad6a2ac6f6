//! Where the agents are: `--endpoint`, then `--context`, then `MUSTER_CONTEXT`, then the user's configuration,
//! then the local agent's socket. A context also holds the user's key and certificate; `--endpoint` alone takes them from
//! the context that would be used without it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::spec::file::nearest_known_key;
use muster_tls::Credentials;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::failure::Failure;

/// How long [`nobody_listens`] waits for an agent to take a connection.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// The port of agents.
pub const DEFAULT_PORT: u16 = 7420;
/// The local agent's socket.
pub const LOCAL_SOCKET: &str = "/run/muster/api.sock";
/// Below the home directory.
const CONFIG_PATH: &str = ".config/muster/config.toml";

/// One agent's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// HOST:PORT.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Endpoint {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH` or an absolute path.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("'{text}' is not an endpoint; write HOST, HOST:PORT, [IPV6]:PORT or unix:PATH");
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(PathBuf::from(path))) };
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let legal =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']' | '%');
        if text.is_empty() || !text.chars().all(legal) {
            return Err(wrong());
        }
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(Self::Tcp(format!("[{text}]:{DEFAULT_PORT}")));
        }
        let after_host = if text.starts_with('[') { text.split_once(']').ok_or_else(wrong)?.1 } else { text };
        match after_host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok_and(|p| p > 0) => Ok(Self::Tcp(text.to_owned())),
            Some(_) => Err(wrong()),
            None => Ok(Self::Tcp(format!("{text}:{DEFAULT_PORT}"))),
        }
    }
}

/// Why it is not known where the agents are.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// An endpoint in it is wrong.
    #[error("{}: endpoints: {message}", path.display())]
    Endpoint {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A file without endpoints.
    #[error("{}: 'endpoints' is empty", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The key or certificates in it are wrong.
    #[error("{}: {message}", path.display())]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// No context of that name.
    #[error("there is no context '{name}' in {}{}", path.display(), .nearest.as_ref().map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    Unknown {
        /// The name.
        name: String,
        /// The user's configuration.
        path: PathBuf,
        /// What was probably meant.
        nearest: Option<String>,
    },
}

impl ContextError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "name an existing file or context, or use --endpoint HOST:PORT",
            Self::Syntax { .. } | Self::Empty { .. } | Self::Endpoint { .. } => {
                "a context file reads: endpoints = [\"10.0.0.1:7420\", \"10.0.0.2:7420\"]"
            }
            Self::Credentials { .. } => {
                "an admin makes a new context with 'musterctl user create NAME --role ROLE'"
            }
            Self::Unknown { .. } => "declare it there: [contexts.NAME] file = \"NAME.toml\"",
        }
    }
}

/// The name that was probably meant.
pub fn nearest_name<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.collect();
    nearest_known_key(name, &known).map(str::to_owned)
}

/// What the process was given by its environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `MUSTER_CONTEXT`.
    pub context: Option<String>,
    /// `HOME`.
    pub home: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's own.
    pub fn read() -> Self {
        let context = std::env::var("MUSTER_CONTEXT").ok().filter(|name| !name.is_empty());
        Self { context, home: std::env::var_os("HOME").map(PathBuf::from) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextFile {
    endpoints: Vec<String>,
    /// Key and certificates, as PEM.
    credentials: Option<String>,
    /// The cluster's CAs, as PEM.
    trusted: Option<String>,
}

/// Where the agents are, and who asks.
#[derive(Debug)]
pub struct Target {
    /// Never empty.
    pub endpoints: Vec<Endpoint>,
    /// What is shown to agents on other hosts.
    pub credentials: Option<Credentials>,
    /// The file that they came from, if it holds this context alone.
    pub file: Option<PathBuf>,
}

impl Target {
    fn without_credentials(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, credentials: None, file: None }
    }

    /// Whether an agent is called that wants a certificate, and there is none.
    pub fn lacks_credentials(&self) -> Option<&Endpoint> {
        let is_remote = |endpoint: &&Endpoint| matches!(endpoint, Endpoint::Tcp(_));
        self.endpoints.iter().find(is_remote).filter(|_| self.credentials.is_none())
    }
}

/// Without a certificate an agent on another host has nothing to say, but one that isn't there is another mistake.
pub async fn nobody_listens(endpoints: &[Endpoint]) -> Option<Failure> {
    let mut tried = Vec::new();
    for endpoint in endpoints {
        // A socket of this host needs no certificate, so it is not why one is missed.
        let Endpoint::Tcp(address) = endpoint else { return None };
        let why = match tokio::time::timeout(LOOK_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it did not answer in time".to_owned(),
        };
        tried.push((endpoint.to_string(), why));
    }
    Some(Failure::NoAgent { tried })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserConfig {
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, NamedContext>,
}

/// A context of the user's configuration: written there, or a file of its own.
#[derive(Deserialize)]
#[serde(untagged)]
enum NamedContext {
    File { file: PathBuf },
    Here(ContextFile),
}

/// Finds out where the agents are, and who asks.
///
/// # Errors
/// [`ContextError`] when a named context or file is missing or wrong.
pub fn target(
    given: &[Endpoint],
    context: Option<&str>,
    environment: &Environment,
) -> Result<Target, ContextError> {
    let local_only = !given.is_empty() && given.iter().all(|endpoint| matches!(endpoint, Endpoint::Unix(_)));
    if local_only {
        return Ok(Target::without_credentials(given.to_vec()));
    }
    let found = found(context, environment)?;
    Ok(if given.is_empty() { found } else { Target { endpoints: given.to_vec(), ..found } })
}

fn found(context: Option<&str>, environment: &Environment) -> Result<Target, ContextError> {
    let config_path = environment.home.as_deref().map(|home| home.join(CONFIG_PATH));
    let config_path = config_path.unwrap_or_else(|| PathBuf::from("/").join(CONFIG_PATH));
    if let Some(name) = context.or(environment.context.as_deref()) {
        return named(name, &config_path);
    }
    if config_path.exists() {
        let config: UserConfig = parse(&config_path)?;
        if let Some(current) = config.current.clone() {
            return of_config(&config, &current, &config_path);
        }
    }
    Ok(Target::without_credentials(vec![Endpoint::Unix(PathBuf::from(LOCAL_SOCKET))]))
}

/// A context by name; what looks like a path, or names a file that exists, is a file.
fn named(name: &str, config_path: &Path) -> Result<Target, ContextError> {
    let path = Path::new(name);
    if name.contains('/') || path.extension().is_some_and(|e| e == "toml") || path.is_file() {
        return of_file(path);
    }
    let config = if config_path.exists() { parse(config_path)? } else { UserConfig::default() };
    of_config(&config, name, config_path)
}

fn of_file(path: &Path) -> Result<Target, ContextError> {
    let file: ContextFile = parse(path)?;
    Ok(Target { file: Some(path.to_owned()), ..checked(&file, path)? })
}

fn of_config(config: &UserConfig, name: &str, path: &Path) -> Result<Target, ContextError> {
    let found = config.contexts.get(name).ok_or_else(|| ContextError::Unknown {
        name: name.to_owned(),
        path: path.to_owned(),
        nearest: nearest_name(name, config.contexts.keys().map(String::as_str)),
    })?;
    match found {
        // Beside the configuration, unless the path is absolute.
        NamedContext::File { file } => of_file(&path.parent().unwrap_or(path).join(file)),
        NamedContext::Here(context) => checked(context, path),
    }
}

fn checked(file: &ContextFile, path: &Path) -> Result<Target, ContextError> {
    if file.endpoints.is_empty() {
        return Err(ContextError::Empty { path: path.to_owned() });
    }
    let parsed: Result<Vec<Endpoint>, String> = file.endpoints.iter().map(|e| Endpoint::parse(e)).collect();
    let endpoints = parsed.map_err(|message| ContextError::Endpoint { path: path.to_owned(), message })?;
    let wrong = |message: String| ContextError::Credentials { path: path.to_owned(), message };
    let credentials = match (&file.credentials, &file.trusted) {
        (Some(own), Some(trusted)) => {
            Some(Credentials::from_pem(own, trusted).map_err(|error| wrong(error.to_string()))?)
        }
        (None, None) => None,
        _ => return Err(wrong("'credentials' and 'trusted' go together".to_owned())),
    };
    Ok(Target { endpoints, credentials, file: None })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ContextError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ContextError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        ContextError::Syntax { path: path.to_owned(), line, message: error.message().to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> Endpoint {
        Endpoint::Tcp(text.to_owned())
    }

    #[test]
    fn endpoints_get_the_default_port() {
        assert_eq!(Endpoint::parse("10.0.0.1"), Ok(tcp("10.0.0.1:7420")));
        assert_eq!(Endpoint::parse("host:1"), Ok(tcp("host:1")));
        assert_eq!(Endpoint::parse("::1"), Ok(tcp("[::1]:7420")));
        assert_eq!(Endpoint::parse("[::1]"), Ok(tcp("[::1]:7420")));
        assert_eq!(Endpoint::parse("[::1]:80"), Ok(tcp("[::1]:80")));
        assert_eq!(Endpoint::parse("unix:/a/b"), Ok(Endpoint::Unix("/a/b".into())));
        assert_eq!(Endpoint::parse("/a/b"), Ok(Endpoint::Unix("/a/b".into())));
        for wrong in ["", "host:", "host:0", "host:99999", "http://host", "unix:", "a b"] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }

    fn points(
        given: &[Endpoint],
        context: Option<&str>,
        environment: &Environment,
    ) -> Result<Vec<Endpoint>, ContextError> {
        target(given, context, environment).map(|target| target.endpoints)
    }

    #[test]
    fn a_named_context_may_be_a_file_of_its_own() {
        let (home, environment) = home_with("current = \"lab\"\n[contexts.lab]\nfile = \"lab.toml\"\n");
        let path = home.path().join(".config/muster/lab.toml");
        std::fs::write(&path, "endpoints = [\"a\"]\n").unwrap();
        let found = target(&[], None, &environment).unwrap();
        assert_eq!(
            (found.endpoints.as_slice(), found.file.as_deref()),
            (&[tcp("a:7420")][..], Some(path.as_path()))
        );
        assert_eq!(found.lacks_credentials(), Some(&tcp("a:7420")));
        let local = target(&[Endpoint::Unix("/a".into())], None, &environment).unwrap();
        assert_eq!(local.lacks_credentials(), None);
        std::fs::write(&path, "endpoints = [\"a\"]\ncredentials = \"x\"\n").unwrap();
        assert!(matches!(target(&[], None, &environment), Err(ContextError::Credentials { .. })));
    }

    fn home_with(config: &str) -> (tempfile::TempDir, Environment) {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".config/muster")).unwrap();
        std::fs::write(home.path().join(CONFIG_PATH), config).unwrap();
        let environment = Environment { context: None, home: Some(home.path().to_owned()) };
        (home, environment)
    }

    #[test]
    fn the_order_is_endpoint_context_variable_configuration_socket() {
        let config = "current = \"lab\"\n[contexts.lab]\nendpoints = [\"a\"]\n[contexts.shop]\nendpoints = [\"b\"]\n[contexts.bank]\nendpoints = [\"c\"]\n";
        let (_home, mut environment) = home_with(config);
        assert_eq!(points(&[], None, &environment).unwrap(), [tcp("a:7420")]);
        environment.context = Some("shop".to_owned());
        assert_eq!(points(&[], None, &environment).unwrap(), [tcp("b:7420")]);
        assert_eq!(points(&[], Some("bank"), &environment).unwrap(), [tcp("c:7420")]);
        assert_eq!(points(&[tcp("d:1")], Some("bank"), &environment).unwrap(), [tcp("d:1")]);
        let nothing = Environment::default();
        assert_eq!(points(&[], None, &nothing).unwrap(), [Endpoint::Unix(LOCAL_SOCKET.into())]);
    }

    #[test]
    fn a_file_is_a_context_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context");
        std::fs::write(&path, "endpoints = [\"127.0.0.1:7\", \"127.0.0.1:8\"]\n").unwrap();
        let found = target(&[], path.to_str(), &Environment::default()).unwrap();
        assert_eq!(found.file.as_deref(), Some(path.as_path()));
        assert_eq!(found.endpoints, [tcp("127.0.0.1:7"), tcp("127.0.0.1:8")]);
    }

    #[test]
    fn mistakes_are_named() {
        let (_home, environment) = home_with("[contexts.lab]\nendpoints = []\n");
        let unknown = target(&[], Some("lap"), &environment).unwrap_err();
        assert!(unknown.to_string().ends_with("did you mean 'lab'?"), "{unknown}");
        let empty = target(&[], Some("lab"), &environment).unwrap_err();
        assert!(matches!(empty, ContextError::Empty { .. }));
        let (_home, environment) = home_with("current = \"lab\"\ncontext = 3\n");
        let syntax = target(&[], None, &environment).unwrap_err();
        assert!(matches!(syntax, ContextError::Syntax { line: 2, .. }), "{syntax}");
    }
}
