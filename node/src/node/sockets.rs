//! All listeners of an agent, opened before anything is started.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use tokio::net::{TcpListener, UnixListener};

use super::NodeError;
use crate::config::Config;
use crate::security::principal::Door;

/// Room for bursts of heartbeats while the thread is not running.
const UDP_BUFFER_BYTES: usize = 4 << 20;

/// The listeners.
pub(super) struct Sockets {
    pub(super) tcp: Vec<(TcpListener, Door)>,
    pub(super) udp: Vec<UdpSocket>,
    pub(super) http: Vec<TcpListener>,
    pub(super) unix: Option<UnixListener>,
}

impl Sockets {
    pub(super) async fn open(config: &Config) -> Result<Self, NodeError> {
        let agents = if config.admin.listen.is_empty() { Door::Any } else { Door::Agents };
        let mut tcp = Vec::new();
        for (addresses, door) in [(&config.node.listen, agents), (&config.admin.listen, Door::Users)] {
            tcp.extend(bind_all(addresses).await?.into_iter().map(|listener| (listener, door)));
        }
        let http = bind_all(&config.http.listen).await?;
        let udp = heartbeat_addresses(config)?.into_iter().map(bind_udp).collect::<Result<_, _>>()?;
        let unix = Some(bind_unix(config)?);
        Ok(Self { tcp, udp, http, unix })
    }
}

async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, NodeError> {
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(TcpListener::bind(address).await.map_err(|e| listen_error(*address, e))?);
    }
    Ok(listeners)
}

fn listen_error(address: SocketAddr, source: std::io::Error) -> NodeError {
    let hint = match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another program, perhaps another agent, has it: stop that one or change the address"
        }
        std::io::ErrorKind::AddrNotAvailable => "; it is not an address of this host",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
        _ => "",
    };
    NodeError::Listen { address: address.to_string(), source, hint }
}

/// Answers to heartbeats must leave from the address that was asked. A socket on a wildcard would choose for
/// itself, so heartbeats are taken on the advertised addresses then.
fn heartbeat_addresses(config: &Config) -> Result<Vec<SocketAddr>, NodeError> {
    if config.node.listen.iter().any(|a| a.ip().is_unspecified()) {
        return Ok(config.advertised()?);
    }
    Ok(config.node.listen.clone())
}

fn bind_udp(address: SocketAddr) -> Result<UdpSocket, NodeError> {
    let socket = UdpSocket::bind(address).map_err(|e| listen_error(address, e))?;
    if let Err(error) =
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &UDP_BUFFER_BYTES)
    {
        tracing::debug!(%address, %error, "the receive buffer for heartbeats keeps its size");
    }
    Ok(socket)
}

fn bind_unix(config: &Config) -> Result<UnixListener, NodeError> {
    let run_dir = &config.node.run_dir;
    let failed = |source| NodeError::RunDir { path: run_dir.clone(), source };
    std::fs::create_dir_all(run_dir).map_err(failed)?;
    let path = config.api_socket();
    // The data directory's lock says that no other agent lives, so the file is a dead one's.
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}
