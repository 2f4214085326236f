//! Clusters as Patroni 3 and 4 write them, moment by moment.

use super::*;

const PRIMARY: &str = r#"{"conn_url":"postgres://10.0.0.1:15400/postgres",
    "api_url":"http://10.0.0.1:18000/patroni","state":"running","role":"primary",
    "version":"4.1.5","xlog_location":50332264,"timeline":1}"#;

const REPLICA: &str = r#"{"conn_url":"postgres://10.0.0.2:15401/postgres",
    "api_url":"http://10.0.0.2:18001/patroni","state":"running","role":"replica",
    "version":"4.1.5","receive_lsn":50332264,"replay_lsn":50332264,
    "replication_state":"streaming","timeline":1}"#;

fn znode(path: &str, data: &str, transaction: u64) -> Znode {
    Znode {
        path: path.into(),
        name: path.rsplit('/').next().unwrap().into(),
        data: data.as_bytes().to_vec(),
        created: transaction,
        modified: transaction,
    }
}

/// A cluster, and the time there.
struct Stage {
    cluster: Cluster,
    began: (Instant, SystemTime),
    passed: Duration,
    leader: Option<Znode>,
    failover: Option<Znode>,
    members: Vec<Znode>,
}

impl Stage {
    fn new() -> Self {
        let at = moment::parse("2026-11-22T12:00:00+00:00").unwrap();
        Self {
            cluster: Cluster::default(),
            began: (Instant::now(), at),
            passed: Duration::ZERO,
            leader: Some(znode("/s/leader", "n0", 7)),
            failover: None,
            members: vec![
                znode("/s/members/n0", PRIMARY, 1),
                znode("/s/members/n1", REPLICA, 2),
            ],
        }
    }

    fn failover(&mut self, text: &str, transaction: u64) {
        self.failover = Some(znode("/s/failover", text, transaction));
    }

    fn pass(&mut self, time_ms: u64) {
        self.passed += Duration::from_millis(time_ms);
    }

    fn read(&mut self) -> Reading {
        let now = (self.began.0 + self.passed, self.began.1 + self.passed);
        let (leader, failover) = (self.leader.as_ref(), self.failover.as_ref());
        self.cluster.take(leader, failover, &self.members, now)
    }

    /// Who leads, and in which term.
    fn lead(&mut self) -> Option<(String, u64)> {
        match self.read().snapshot.lead {
            Lead::Held { place, term } => Some((place.to_string(), term)),
            Lead::Nobody => None,
            Lead::Unsaid => panic!("Patroni knows roles"),
        }
    }

    /// Milliseconds until the same means something else.
    fn again_ms(&mut self) -> Option<u128> {
        let now = self.began.0 + self.passed;
        self.read().again.map(|at| (at - now).as_millis())
    }
}

fn first() -> Option<(String, u64)> {
    Some(("10.0.0.1:15400".into(), 7))
}

#[test]
fn knows_the_leader_and_who_takes_reads() {
    let mut stage = Stage::new();
    assert_eq!(stage.lead(), first());
    let nodes = stage.read().snapshot.nodes;
    let roles: Vec<_> = nodes
        .iter()
        .map(|node| (node.role, node.takes_reads))
        .collect();
    assert_eq!(
        roles,
        [(Some(Role::Primary), true), (Some(Role::Replica), true)]
    );
    for spared in [
        REPLICA.replace("running", "starting"),
        REPLICA.replace(
            "\"timeline\"",
            "\"tags\":{\"noloadbalance\":true},\"timeline\"",
        ),
        REPLICA.replace("replica\"", "uninitialized\""),
    ] {
        stage.members[1] = znode("/s/members/n1", &spared, 3);
        let nodes = stage.read().snapshot.nodes;
        assert!(!nodes[1].takes_reads && nodes[0].takes_reads, "{spared}");
    }
}

#[test]
fn reads_members_as_every_version_writes_them() {
    let place =
        |data: &str| member(&znode("/s/members/n0", data, 1)).map(|it| it.place.to_string());
    let legacy =
        "postgres://u:p@10.0.0.1:6000/postgres?application_name=http://10.0.0.1:8008/patroni";
    assert_eq!(place(legacy), Ok("10.0.0.1:6000".into()));
    assert_eq!(
        place(r#"{"conn_url":"postgresql://db-1/x"}"#),
        Ok("db-1:5432".into())
    );
    assert_eq!(
        place(r#"{"conn_url":"postgres://[::1]:7/x"}"#),
        Ok("[::1]:7".into())
    );
    for port in ["6000", "\"6000\""] {
        let text = format!(r#"{{"conn_kwargs":{{"host":"db-1","port":{port}}}}}"#);
        assert_eq!(place(&text), Ok("db-1:6000".into()));
    }
    for role in ["master", "primary"] {
        let node = member(&znode("/n", &PRIMARY.replace("primary", role), 1)).unwrap();
        assert_eq!((node.role, node.takes_reads), (Some(Role::Primary), true));
    }
    for garbage in [
        "",
        "{",
        "[]",
        "{}",
        "postgres",
        "postgres://",
        "postgres://h:x",
        r#"{"conn_url":7}"#,
        r#"{"conn_url":"http://h:1"}"#,
        r#"{"conn_kwargs":{"host":"h"}}"#,
    ] {
        assert!(place(garbage).is_err(), "{garbage}");
    }
}

#[test]
fn nobody_leads_without_the_znode_and_members_stay() {
    let mut stage = Stage::new();
    assert_eq!(stage.lead(), first());
    stage.leader = None;
    let reading = stage.read();
    assert_eq!(reading.snapshot.lead, Lead::Nobody);
    assert_eq!(reading.snapshot.nodes.len(), 2);
    stage.leader = Some(znode("/s/leader", "n1", 9));
    assert_eq!(stage.lead(), Some(("10.0.0.2:15401".into(), 9)));
    stage.leader = Some(znode("/s/leader", "n2", 10));
    assert_eq!(stage.lead(), None, "it is not known where n2 is");
}

#[test]
fn a_lead_that_is_taken_again_is_another_term() {
    let mut stage = Stage::new();
    assert_eq!(stage.lead(), first());
    stage.leader = Some(znode("/s/leader", "n0", 8));
    assert_eq!(stage.lead(), Some(("10.0.0.1:15400".into(), 8)));
}

#[test]
fn a_member_that_flickers_was_never_gone() {
    let mut stage = Stage::new();
    let before = stage.read().snapshot;
    let gone = stage.members.remove(0);
    assert_eq!(stage.read().snapshot, before);
    stage.pass(17);
    assert_eq!(stage.again_ms(), Some(1_983));
    stage.members.insert(0, gone.clone());
    assert_eq!(stage.read().snapshot, before);
    assert_eq!(stage.again_ms(), None);
    stage.members.remove(0);
    assert_eq!(stage.read().snapshot, before);
    stage.pass(2_000);
    let reading = stage.read();
    assert_eq!((reading.snapshot.nodes.len(), reading.again), (1, None));
    assert_eq!(
        reading.snapshot.lead,
        Lead::Nobody,
        "where it is, nobody says"
    );
}

#[test]
fn an_announced_handover_is_believed_for_a_while() {
    for text in [
        r#"{"leader":"n0","member":"n1"}"#,
        r#"{"member":"n1"}"#,
        r#"{"leader":"n0","member":"n1","scheduled_at":null}"#,
        r#"{"leader":"n0","scheduled_at":"2026-11-22T11:59:59+00:00"}"#,
        "n0:n1",
        "n0",
        ":n1",
    ] {
        let mut stage = Stage::new();
        assert_eq!(stage.lead(), first());
        stage.failover(text, 20);
        assert_eq!(stage.lead(), None, "{text}");
        stage.pass(9_999);
        assert_eq!((stage.lead(), stage.again_ms()), (None, Some(1)), "{text}");
        stage.pass(1);
        assert_eq!((stage.lead(), stage.again_ms()), (first(), None), "{text}");
        stage.failover(text, 21);
        assert_eq!(stage.lead(), None, "another one: {text}");
        stage.failover("{}", 22);
        assert_eq!(stage.lead(), first(), "it was taken back: {text}");
    }
}

#[test]
fn a_handover_is_over_when_somebody_has_taken_the_lead() {
    for (text, winner, address) in [
        (r#"{"leader":"n0","member":"n1"}"#, "n1", "10.0.0.2:15401"),
        (r#"{"member":"n1"}"#, "n1", "10.0.0.2:15401"),
        (r#"{"member":"n2"}"#, "n1", "10.0.0.2:15401"),
        (r#"{"member":"n1"}"#, "n0", "10.0.0.1:15400"),
    ] {
        for is_seen in [true, false] {
            let mut stage = Stage::new();
            stage.failover(text, 20);
            stage.leader = stage.leader.take().filter(|_| is_seen);
            assert_eq!(stage.lead(), None);
            stage.leader = None;
            assert_eq!(stage.lead(), None);
            stage.leader = Some(znode("/s/leader", winner, 21));
            assert_eq!(stage.lead(), Some((address.into(), 21)), "{text} {winner}");
        }
    }
}

#[test]
fn a_handover_of_somebody_else_or_of_later_is_none_yet() {
    let mut stage = Stage::new();
    stage.failover(r#"{"leader":"n1","member":"n0"}"#, 20);
    assert_eq!(stage.lead(), first());
    let later = r#"{"leader":"n0","member":"n1","scheduled_at":"2026-11-22T13:01:00+01:00"}"#;
    stage.failover(later, 21);
    assert_eq!((stage.lead(), stage.again_ms()), (first(), Some(60_000)));
    stage.pass(60_000);
    assert_eq!((stage.lead(), stage.again_ms()), (None, Some(10_000)));
    for nothing in ["", "{}", " ", r#"{"leader":null,"member":""}"#] {
        stage.failover(nothing, 22);
        let reading = stage.read();
        assert_eq!(
            (stage.lead(), reading.garbage.len()),
            (first(), 0),
            "{nothing}"
        );
    }
}

#[test]
fn garbage_is_named_and_what_was_known_stands() {
    let mut stage = Stage::new();
    assert_eq!(stage.lead(), first());
    for (leader, failover) in [
        ("", "{"),
        (" ", "{\"scheduled_at\":\"x\",\"member\":\"n1\"}"),
    ] {
        stage.leader = Some(znode("/s/leader", leader, 8));
        stage.failover(failover, 9);
        stage.members[0] = znode("/s/members/n0", "nonsense", 10);
        let reading = stage.read();
        let paths: Vec<_> = reading.garbage.iter().map(|it| &*it.path).collect();
        assert_eq!(paths, ["/s/failover", "/s/leader", "/s/members/n0"]);
        assert_eq!(reading.snapshot.nodes.len(), 2);
        assert_eq!(stage.lead(), first());
    }
    let mut stage = Stage::new();
    stage.leader = Some(znode("/s/leader", "", 8));
    assert_eq!(stage.lead(), None, "nothing was known");
}
