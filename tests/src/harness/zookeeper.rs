//! A real ZooKeeper of the test's own, on loopback, and what a test writes into it.
//!
//! Runs the jars of Debian's package, which starts nothing by itself. Knows nothing of what its
//! znodes mean. Invariant: the process that it touches is the one that it started.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use zookeeper_client::{Acls, Client, CreateMode, Error};

use super::process::{Folder, Process, free_port, wait_for};

/// Where Debian's package has its program; what that needs is named inside of it.
const CLASSES: &str = "/usr/share/java/zookeeper.jar:/etc/zookeeper/conf";

/// What everybody may do with a znode of the test's.
const OPEN: Acls<'_> = Acls::anyone_all();

/// A running ZooKeeper.
#[derive(Debug)]
pub struct Zookeeper {
    /// Where its configuration, its log and its tree are.
    folder: Folder,
    /// Where it listens.
    port: u16,
    /// The process; nothing after a crash.
    process: Mutex<Option<Process>>,
}

impl Zookeeper {
    /// Starts an empty one and waits until it answers.
    pub fn start() -> Self {
        let folder = Folder::new("zk");
        let port = free_port();
        let lines = [
            "tickTime=500".to_owned(),
            format!("dataDir={}", folder.join("tree").display()),
            format!("clientPort={port}"),
            "clientPortAddress=127.0.0.1".to_owned(),
            "admin.enableServer=false".to_owned(),
            "maxClientCnxns=0".to_owned(),
            // Twenty ticks would be the most otherwise, and Patroni wants more.
            "maxSessionTimeout=60000".to_owned(),
        ];
        fs::write(folder.join("zoo.cfg"), lines.join("\n") + "\n").expect("ours to write");
        let zookeeper = Self {
            folder,
            port,
            process: Mutex::new(None),
        };
        zookeeper.launch();
        zookeeper
    }

    /// The one that the tests of one binary share. Tests that stop it start one of their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Zookeeper> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Starts it, again after a crash.
    pub fn launch(&self) {
        let mut command = Command::new("java");
        command
            .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", CLASSES])
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(self.folder.join("zoo.cfg"))
            .current_dir(self.folder.path());
        let mut process = Process::spawn(command, "zookeeper", &self.folder.join("log"));
        let ready = wait_for(Duration::from_secs(60), || {
            assert!(
                process.poll().is_none(),
                "ZooKeeper ended:\n{}",
                process.output()
            );
            TcpStream::connect(self.address()).ok()
        });
        assert!(ready.is_some(), "no answer:\n{}", process.output());
        *self.process.lock().expect("no panic here") = Some(process);
    }

    /// Kills it, as a power cut would.
    pub fn crash(&self) {
        let process = self.process.lock().expect("no panic here").take();
        drop(process.expect("it runs"));
    }

    /// Forgets its tree and all sessions, while it does not run.
    pub fn forget(&self) {
        assert!(self.process.lock().expect("no panic here").is_none());
        fs::remove_dir_all(self.folder.join("tree")).expect("ours to remove");
    }

    /// Makes or writes a znode, and what is above it.
    pub fn put(&self, path: &str, data: &str) {
        self.run(async |client| write(client, path, data).await);
    }

    /// Makes a znode that only who says this, `user:password`, may read.
    pub fn put_secret(&self, path: &str, data: &str, secret: &str) {
        self.run(async |client| {
            client.auth("digest", secret.as_bytes()).await?;
            let options = CreateMode::Persistent.with_acls(Acls::creator_all());
            client
                .create(path, data.as_bytes(), &options)
                .await
                .map(drop)
        });
    }

    /// Removes a znode, if it is there.
    pub fn remove(&self, path: &str) {
        self.run(async |client| erase(client, path).await);
    }

    /// Removes a znode and makes it anew after a while, as its owner does with another session.
    pub fn renew(&self, path: &str, data: &str, gone: Duration) {
        self.run(async |client| {
            erase(client, path).await?;
            thread::sleep(gone);
            write(client, path, data).await
        });
    }

    /// Does something in a session of its own, which has ended then.
    fn run(&self, act: impl AsyncFn(&Client) -> Result<(), Error>) {
        let runtime = Builder::new_current_thread().enable_all().build();
        let done = runtime.expect("a runtime can be made").block_on(async {
            let connector = Client::connector().with_session_timeout(Duration::from_secs(20));
            let client = connector.connect(&self.address().to_string()).await?;
            act(&client).await
        });
        done.expect("ZooKeeper does what it is told");
    }
}

async fn write(client: &Client, path: &str, data: &str) -> Result<(), Error> {
    let options = CreateMode::Persistent.with_acls(OPEN);
    if let Some((above, _)) = path.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
        client.mkdir(above, &options).await?;
    }
    match client.create(path, data.as_bytes(), &options).await {
        Err(Error::NodeExists) => client.set_data(path, data.as_bytes(), None).await.map(drop),
        made => made.map(drop),
    }
}

async fn erase(client: &Client, path: &str) -> Result<(), Error> {
    match client.delete(path, None).await {
        Err(Error::NoNode) => Ok(()),
        done => done,
    }
}
