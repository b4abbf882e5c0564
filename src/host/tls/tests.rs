//! Handshakes between the two sides over pipes: who is let in, by which name, at which time, and how long it takes.

use std::fmt::Write as _;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::*;
use crate::config::Config;
use crate::host::os::OsHost;
use crate::host::{Backend, Disk, OpenMode};

/// The first of July 2021.
const SUMMER_2021: Duration = Duration::from_secs(1_625_097_600);

/// A folder of certificates, removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = OsHost::new().disk().remove_dir_all(&self.0);
    }
}

impl Folder {
    /// `ca` and `other` sign; `here` is a server's; `ann` a client's, good from 2020 until 2023; `eve` one of the
    /// other authority.
    fn new(name: &str) -> Self {
        let name = format!("snowglobe-{}-{name}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        OsHost::new().disk().create_dir_all(&folder.0).unwrap();
        let [ca, other] = ["ca", "other"].map(|name| folder.authority(name));
        folder.sign("here", "localhost", &ca);
        folder.sign("ann", "ann.example", &ca);
        folder.sign("eve", "ann.example", &other);
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let file = OsHost::new().disk().open(&self.0.join(name), OpenMode::Create).unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
    }

    fn read(&self, name: &str) -> String {
        let bytes = files::read(&*OsHost::new().disk(), &self.0.join(name), 100_000);
        String::from_utf8(bytes.unwrap()).unwrap()
    }

    fn authority(&self, name: &str) -> Issuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        self.write(&format!("{name}.pem"), &params.self_signed(&key).unwrap().pem());
        Issuer::new(params, key)
    }

    fn sign(&self, name: &str, host: &str, authority: &Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if name == "ann" {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2023, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, authority).unwrap();
        self.write(&format!("{name}.pem"), &cert.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// What flags say about one side; `@` stands for the folder.
    fn tls(&self, flags: &str) -> Tls {
        let flags = flags.replace('@', &format!("{}/", self.0.display()));
        let config = Config::from_args(["serve"].into_iter().chain(flags.split_whitespace()));
        let config = config.unwrap();
        if flags.contains("--peer-") { config.peer_tls } else { config.client_tls }
    }
}

/// A machine whose network is pipes, and whose clock stands at `wall`.
struct World {
    wall: Duration,
    /// Whether any wait is over at once; otherwise none ever is.
    is_hurried: bool,
    pipes: mpsc::UnboundedSender<DuplexStream>,
}

impl Host for Arc<World> {
    fn net(&self) -> Arc<dyn Net> {
        self.clone()
    }

    fn disk(&self) -> Arc<dyn Disk> {
        OsHost::new().disk()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clone()
    }

    fn random_u64(&self) -> u64 {
        0
    }

    fn backend(&self) -> io::Result<Backend> {
        Ok(Backend::default())
    }
}

impl Net for World {
    fn listen(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let (near, far) = tokio::io::duplex(1024);
        self.pipes.send(far).unwrap();
        Box::pin(async { Ok(Box::new(near) as Box<dyn Stream>) })
    }
}

impl Clock for World {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn wall(&self) -> Duration {
        self.wall
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        if self.is_hurried { Box::pin(async {}) } else { Box::pin(std::future::pending()) }
    }
}

fn world(wall: Duration, is_hurried: bool) -> (Arc<World>, mpsc::UnboundedReceiver<DuplexStream>) {
    let (pipes, accepted) = mpsc::unbounded_channel();
    (Arc::new(World { wall, is_hurried, pipes }), accepted)
}

/// What comes of it when a client knocks that then says "ping": in the server's words, or in the client's where it
/// does not like the server's name.
async fn meet(wall: Duration, server: &Tls, client: &Tls) -> String {
    let (host, mut accepted) = world(wall, false);
    let limits = Limits::default();
    let acceptor = Acceptor::new(&host, server, &limits).unwrap();
    let net = TlsNet::new(&host, client, &limits).unwrap();
    let knocking = tokio::spawn(async move {
        let mut stream = net.connect("localhost:2380").await?;
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut pong = [0; 4];
        stream.read_exact(&mut pong).await.map(drop)
    });
    let said = match acceptor.accept(Box::new(accepted.recv().await.unwrap())).await {
        Err(error) => error.to_string(),
        Ok((mut stream, name)) => {
            let mut ping = [0; 4];
            match stream.read_exact(&mut ping).await {
                Err(error) => error.to_string(),
                Ok(_) => {
                    stream.write_all(b"pong").await.unwrap();
                    stream.flush().await.unwrap();
                    let name = name.map_or("somebody".into(), |name| name.0.to_string());
                    format!("{} from {name}", String::from_utf8_lossy(&ping))
                }
            }
        }
    };
    let heard = knocking.await.unwrap();
    assert_eq!(heard.is_ok(), said.starts_with("ping"), "{heard:?} {said}");
    match heard {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => format!("client: {error}"),
        _ => said,
    }
}

/// Who is let in, as whom, and what is said of the others: by who signed, by name, by date, by version.
#[tokio::test]
async fn who_is_let_in() {
    let folder = Folder::new("tls-let-in");
    let year = Duration::from_secs(365 * 24 * 3600);
    let (now, later, earlier) = (SUMMER_2021, SUMMER_2021 + 2 * year, SUMMER_2021 - 2 * year);
    let ca = "--trusted-ca-file=@ca.pem";
    let cn = "--trusted-ca-file=@ca.pem --client-cert-auth";
    let trust = "--peer-trusted-ca-file=@ca.pem";
    let doubt = "--peer-trusted-ca-file=@other.pem";
    let ann = "--peer-trusted-ca-file=@ca.pem --peer-cert-file=@ann.pem --peer-key-file=@ann.key";
    let eve = "--peer-trusted-ca-file=@ca.pem --peer-cert-file=@eve.pem --peer-key-file=@eve.key";
    let and = |flags: &str, more: &str| format!("{flags} {more}");
    let (new, old) = ("--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2");
    let mut told = String::new();
    for (wall, server, client) in [
        (now, String::new(), trust.to_owned()),
        (now, String::new(), ann.to_owned()),
        (now, ca.to_owned(), ann.to_owned()),
        (now, cn.to_owned(), ann.to_owned()),
        (now, cn.to_owned(), trust.to_owned()),
        (now, cn.to_owned(), eve.to_owned()),
        (now, cn.to_owned(), doubt.to_owned()),
        (now, and(cn, "--client-cert-allowed-hostname=x,ann.example"), ann.to_owned()),
        (now, and(cn, "--client-cert-allowed-hostname=localhost"), ann.to_owned()),
        (now, cn.to_owned(), and(ann, "--peer-cert-allowed-cn=here,x")),
        (now, cn.to_owned(), and(ann, "--peer-cert-allowed-cn=ann")),
        (later, cn.to_owned(), ann.to_owned()),
        (earlier, cn.to_owned(), ann.to_owned()),
        (now, and(cn, old), and(ann, old)),
        (now, and(cn, new), and(ann, new)),
        (now, and(cn, new), and(ann, old)),
    ] {
        let flags = format!("--cert-file=@here.pem --key-file=@here.key {server}");
        let said = meet(wall, &folder.tls(&flags), &folder.tls(&client)).await;
        let time = [(earlier, " in 2019"), (now, ""), (later, " in 2023")].into_iter();
        let time = time.filter(|(it, _)| *it == wall).map(|(_, text)| text).collect::<String>();
        writeln!(told, "server {server}\nclient {client}{time}\n  {said}").unwrap();
    }
    insta::assert_snapshot!(told);
}

/// Who says nothing is given up, and who speaks no TLS is refused at once.
#[tokio::test]
async fn no_handshake() {
    let folder = Folder::new("tls-silent");
    let tls = folder.tls("--cert-file=@here.pem --key-file=@here.key");
    for (is_hurried, said, expected) in [
        (true, "", io::ErrorKind::TimedOut),
        (false, "PRI * HTTP/2.0\r\n\r\n", io::ErrorKind::InvalidData),
    ] {
        let (host, mut accepted) = world(SUMMER_2021, is_hurried);
        let acceptor = Acceptor::new(&host, &tls, &Limits::default()).unwrap();
        let mut client = host.connect("").await.unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        let refused = acceptor.accept(Box::new(accepted.recv().await.unwrap())).await;
        assert_eq!(refused.err().unwrap().kind(), expected);
    }
}

/// Files that are put in place of others are used from then on; those that cannot be used never are.
#[test]
fn files_are_read_anew() {
    let folder = Folder::new("tls-anew");
    let tls = folder.tls("--cert-file=@here.pem --key-file=@here.key --trusted-ca-file=@ca.pem");
    let make = |tls: &Tls, material: Material| {
        let roots = material.roots.clone().unwrap().len();
        server_config(tls, material, &Time(OsHost::new().clock())).map(|_| roots)
    };
    let fresh = Fresh::new(OsHost::new().disk(), &tls, 100_000, make).unwrap();
    let before = fresh.current();
    let is_same = |before: &Arc<usize>| Arc::ptr_eq(before, &fresh.current());
    assert!(is_same(&before), "nothing has changed");
    folder.sign("new", "localhost", &folder.authority("other"));
    folder.write("here.pem", &folder.read("new.pem"));
    assert!(is_same(&before), "half of a pair");
    folder.write("here.key", &folder.read("new.key"));
    let after = fresh.current();
    assert!(!Arc::ptr_eq(&before, &after));
    let ca = folder.read("ca.pem");
    for broken in ["", "-----BEGIN CERTIFICATE-----\n"] {
        folder.write("ca.pem", broken);
        assert!(is_same(&after), "{broken:?}");
    }
    OsHost::new().disk().remove(&folder.0.join("ca.pem")).unwrap();
    assert!(is_same(&after), "a file that is gone");
    folder.write("ca.pem", &(ca + &folder.read("other.pem")));
    assert_eq!(*fresh.current(), 2, "roots are read anew as well");
    folder.write("ca.pem", &"x".repeat(100_001));
    assert_eq!(*fresh.current(), 2, "a file that is too long");
}
