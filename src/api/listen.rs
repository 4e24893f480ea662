//! Where the API listens: bound before anything is started, so that a port in use
//! stops the start and not a running agent.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use super::tls::{ApiStream, ApiTls, ApiTlsError};
use crate::config::{ApiConfig, ApiListen};

/// Connections the kernel holds for us while all of ours are busy.
const BACKLOG: u32 = 1024;

/// Owner and group may talk to the agent, as with other daemons' control sockets.
const SOCKET_MODE: u32 = 0o660;

/// Why the API could not be bound. Nothing was changed. The operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// `agent.api.listen` is no loopback address and `agent.api.token` is not set.
    #[error("agent.api.listen = {0} is reachable from other machines: set agent.api.token as well")]
    TokenRequired(SocketAddr),
    /// Another process listens there.
    #[error(
        "cannot serve the API on {0}: the address is in use: is another agent running there? If not, set agent.api.listen"
    )]
    InUse(ApiListen),
    /// The path is taken by something that is no socket.
    #[error(
        "cannot serve the API on {0}: the file exists and is not a socket: move it away, or set agent.api.listen"
    )]
    NotASocket(ApiListen),
    /// The files of `agent.api.tls`.
    #[error(transparent)]
    Tls(#[from] ApiTlsError),
    /// The system refuses.
    #[error("cannot serve the API on {}: {}", .0, reason(.1, "agent.api.listen"))]
    System(ApiListen, io::Error),
    /// `agent.health.listen` cannot be had.
    #[error("cannot serve agent.health.listen = {address}: {}", reason(source, "it"))]
    Health {
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Why, and what to do with the key that says where.
fn reason(error: &io::Error, key: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the address is in use by another process: stop that one, or change {key}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address: change {key}")
        }
        io::ErrorKind::PermissionDenied => format!(
            "{error}: ports below 1024 need the capability CAP_NET_BIND_SERVICE, and a socket a \
             directory that the agent's user may write: change {key}"
        ),
        _ => format!("{error}: change {key}"),
    }
}

/// A bound address of the API.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    listen: ApiListen,
    tls: Option<Arc<ApiTls>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

impl Listener {
    /// Binds `agent.api.listen`; needs a tokio runtime.
    ///
    /// A Unix socket that a dead process left behind is replaced.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(config: &ApiConfig) -> Result<Self, BindError> {
        let listen = &config.listen;
        match listen {
            ApiListen::Tcp(address) => {
                if !address.ip().to_canonical().is_loopback() && config.token.is_none() {
                    return Err(BindError::TokenRequired(*address));
                }
                let tls = config.tls.as_ref().map(ApiTls::load).transpose()?.map(Arc::new);
                let socket = bind_tcp(*address).map_err(|error| refused(listen, error))?;
                let bound = socket.local_addr().map_err(|error| refused(listen, error))?;
                Ok(Self { socket: Socket::Tcp(socket), listen: ApiListen::Tcp(bound), tls })
            }
            ApiListen::Unix(path) => {
                make_room(path, listen)?;
                let (listener, file) = bind_unix(path).map_err(|error| refused(listen, error))?;
                let socket = Socket::Unix { listener, _file: file };
                // Its mode says who may connect; there is nobody in between to hide from.
                Ok(Self { socket, listen: listen.clone(), tls: None })
            }
        }
    }

    /// Where it listens; a port of 0 is replaced by the one that was given.
    #[must_use]
    pub fn listen(&self) -> &ApiListen {
        &self.listen
    }

    /// HTTPS, where it is configured.
    pub(super) fn tls(&self) -> Option<Arc<ApiTls>> {
        self.tls.clone()
    }

    /// The next connection, in clear. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok((Stream::Tcp(stream), Peer::Tcp { remote, local }))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

fn refused(listen: &ApiListen, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(listen.clone()),
        _ => BindError::System(listen.clone(), error),
    }
}

pub(super) fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Refuses a path that somebody uses; a socket that nobody answers is no obstacle.
fn make_room(path: &Path, listen: &ApiListen) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(listen, error)),
        Ok(found) if !found.file_type().is_socket() => Err(BindError::NotASocket(listen.clone())),
        Ok(_) => match StdUnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Ok(_) => Err(BindError::InUse(listen.clone())),
            Err(error) => Err(refused(listen, error)),
        },
    }
}

/// Binds in a directory of our own and moves the socket into place once its mode
/// is right, so that there is no moment at which anybody may connect.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let private = parent.join(format!(".m{}", std::process::id()));
    let inner = private.join("s");
    make_private(&private, &inner)?;
    let bound = (|| {
        let listener = UnixListener::bind(&inner)?;
        fs::set_permissions(&inner, fs::Permissions::from_mode(SOCKET_MODE))?;
        fs::rename(&inner, path)?;
        let found = fs::symlink_metadata(path)?;
        let identity = (found.dev(), found.ino());
        Ok((listener, SocketFile { path: path.to_owned(), identity }))
    })();
    if bound.is_err() {
        let _gone_already = fs::remove_file(&inner);
    }
    fs::remove_dir(&private)?;
    bound
}

/// Makes the directory; one that a process with this number left when it was killed at this
/// point goes first. In a container every life has the same number.
fn make_private(private: &Path, inner: &Path) -> io::Result<()> {
    let make = || fs::DirBuilder::new().mode(0o700).create(private);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let _not_made_yet = fs::remove_file(inner);
            // Fails where there is more in it, which is then not ours.
            fs::remove_dir(private)?;
            make()
        }
        made => made,
    }
}

/// Removes our socket's file when the listener ends; never another process's.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A TCP peer.
    Tcp {
        /// Its address.
        remote: SocketAddr,
        /// The address of ours that it used.
        local: SocketAddr,
    },
    /// A process that the socket file's mode lets in.
    Unix,
}

/// A connection of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
    /// HTTPS.
    Tls(Box<ApiStream>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
