//! A second node that follows the first by streaming replication, and may take its place.
//!
//! Knows one node's copy and its promotion. Invariant: a standby that is handed out streams.

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::{Node, NodeOptions, bin, write_settings};
use crate::harness::process::{Folder, free_port, give_away, run, unprivileged, wait_for};

impl Node {
    /// A copy of a node that follows it from now on.
    pub fn standby_of(primary: &Self, options: &NodeOptions) -> Self {
        let folder = Folder::new("pg");
        give_away(folder.path());
        let port = free_port();
        let node = Self {
            folder,
            port,
            process: Mutex::new(None),
        };
        node.copy_from(primary, options);
        node
    }

    /// Begins anew, as a copy of another node that it follows from now on. It must not run.
    pub fn copy_from(&self, primary: &Self, options: &NodeOptions) {
        let data = self.folder.join("data");
        let _ = std::fs::remove_dir_all(&data);
        run(unprivileged(&bin("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p"])
            .arg(primary.port.to_string())
            .args(["-c", "fast", "-X", "stream", "-R", "--no-sync", "-D"])
            .arg(&data));
        write_settings(&self.folder, &data, self.port, options);
        run(Command::new("chown")
            .arg("-R")
            .arg("--reference")
            .args([self.folder.path().as_os_str(), data.as_os_str()]));
        self.launch();
        let streams = format!(
            "select count(*) from pg_stat_wal_receiver where status = 'streaming' \
             and sender_port = {}",
            primary.port
        );
        let streams = wait_for(Duration::from_secs(30), || {
            (self.admin("postgres").value(&streams) == "1").then_some(())
        });
        assert!(streams.is_some(), "it does not stream");
    }

    /// Makes a standby a primary, and waits until it takes writes.
    pub fn promote(&self) {
        let reply = self.admin("postgres").query("select pg_promote(true, 30)");
        assert_eq!(reply.value(), "t", "{:?}", reply.error());
    }
}
