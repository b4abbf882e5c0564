//! TCP.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use crate::host::{BoxFuture, Listener, Net, Stream};

/// The machine's TCP sockets, without Nagle's delay: requests are small and somebody waits for
/// each.
pub(super) struct OsNet;

impl Net for OsNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(OsListener { listener }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

struct OsListener {
    listener: TcpListener,
}

impl Listener for OsListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Stream>, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Bytes go both ways between a connected and an accepted stream; a taken address is refused.
    #[tokio::test]
    async fn streams_and_taken_addresses() {
        let mut listener = OsNet.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_address().unwrap();
        assert_ne!(address.port(), 0);
        let taken = OsNet.listen(address).await.err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

        let authority = address.to_string();
        let mut client = OsNet.connect(&authority).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.flush().await.unwrap();
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).await.unwrap();
        server.write_all(&buffer).await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ping");
    }
}
