//! Nodes that ZooKeeper lists: a real ZooKeeper, two independent nodes, and znodes as the test
//! writes them, so that it has every moment of a failover in its hands.
//!
//! Each node knows its own name, which clients ask for to see where they have got.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manifold_tests::harness::process::{established, wait_for};
use manifold_tests::harness::proxy::Proxy;
use manifold_tests::harness::{
    Driver, Folder, Login, Node, NodeOptions, ProxyOptions, RedisNode, Wire, Zookeeper,
};

/// By when what is new has to lead to the new leader, while clients keep all cores busy.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(3);

/// How long ZooKeeper is away: longer than any session of ours, and than what libraries and caches
/// keep for a while.
const AWAY: Duration = Duration::from_secs(60);

/// Where the cluster is.
const BASE: &str = "/service/main";

/// Clients that work meanwhile without a pause.
const CLIENTS: usize = 20;

/// Clients that work for as long as ZooKeeper is away, and what each does not do anything for now
/// and then: other tests need the cores, too.
const PATIENT: (usize, Duration) = (50, Duration::from_millis(50));

/// Two nodes, a ZooKeeper that lists them as Patroni does, and a proxy that follows it.
struct Stage {
    nodes: [Node; 2],
    zookeeper: Zookeeper,
    proxy: Proxy,
}

fn node(name: &str) -> Node {
    let node = Node::start(&NodeOptions::default());
    node.execute(&format!(
        "create table ledger (id int); create table whoami as select '{name}'::text as name"
    ));
    node
}

fn options(driver: Driver) -> ProxyOptions {
    ProxyOptions {
        driver,
        connections_max: 6,
        shards: 2,
        head: vec!["log = \"info\"".to_owned()],
        ..ProxyOptions::default()
    }
}

fn url(zookeeper: &Zookeeper, path: &str, format: &str) -> String {
    let address = zookeeper.address();
    format!("postgres+zk://{address}{path}?format={format}")
}

/// What Patroni writes of a member.
fn member(node: &Node, role: &str) -> String {
    let address = node.address();
    format!(
        "{{\"conn_url\":\"postgres://{address}/postgres\",\"state\":\"running\",\
         \"role\":\"{role}\",\"timeline\":1}}"
    )
}

fn connect(proxy: &Proxy) -> Wire {
    Wire::login(&proxy.target(), &Login::new("postgres", "postgres"))
        .unwrap_or_else(|reply| panic!("{reply:?}\n{}", proxy.log()))
}

/// Which node a new client gets to.
fn whoami(proxy: &Proxy) -> String {
    let reply = connect(proxy).query("select name from whoami");
    assert!(reply.error().is_none(), "{:?}", reply.error());
    reply.value()
}

/// Works until it is over. Says how often it was answered; panics at the first error.
fn work(proxy: &Proxy, over: &AtomicBool, pause: Duration) -> u64 {
    let mut wire = connect(proxy);
    let mut done = 0;
    while !over.load(Ordering::Relaxed) {
        for text in [
            "select 1",
            "insert into ledger values (1)",
            "begin; select count(*) from whoami; commit",
        ] {
            let reply = wire.query(text);
            assert!(
                reply.error().is_none(),
                "{text}: {:?}\n{}",
                reply.error(),
                proxy.log()
            );
            done += 1;
        }
        thread::sleep(pause);
    }
    done
}

impl Stage {
    fn new(driver: Driver) -> Self {
        let nodes = [node("n0"), node("n1")];
        let zookeeper = Zookeeper::start();
        let upstream = url(&zookeeper, BASE, "patroni");
        write_cluster(&zookeeper, &nodes, "n0");
        let proxy = Proxy::start_before(&upstream, &options(driver));
        Self {
            nodes,
            zookeeper,
            proxy,
        }
    }

    /// Somebody takes the lead, as Patroni does: the old znode goes and a new one comes.
    fn lead(&self, name: &str) {
        let path = format!("{BASE}/leader");
        self.zookeeper.renew(&path, name, Duration::from_millis(21));
    }

    /// Lets clients work while something happens. Says how often they were answered.
    fn work_during(&self, act: impl FnOnce()) -> u64 {
        self.work_with((CLIENTS, Duration::ZERO), act)
    }

    /// The same, with so many clients, each of which pauses for so long.
    fn work_with(&self, (clients, pause): (usize, Duration), act: impl FnOnce()) -> u64 {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..clients)
                .map(|_| scope.spawn(|| work(&self.proxy, &over, pause)))
                .collect();
            thread::sleep(Duration::from_millis(500));
            // What fails in here must not leave the others working for ever.
            let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            thread::sleep(Duration::from_millis(300));
            over.store(true, Ordering::Relaxed);
            let done = workers.into_iter().map(|it| it.join().expect("no error"));
            let done = done.sum();
            acted.expect("no error");
            done
        })
    }

    /// Waits until what is new leads to the second node and nothing to the first, and says how long
    /// either took.
    fn assert_followed(&self) -> (Duration, Duration) {
        let changed = Instant::now();
        let since = |is_so: &dyn Fn() -> bool| {
            wait_for(Duration::from_secs(10), || {
                is_so().then(|| changed.elapsed())
            })
        };
        let followed = since(&|| established(self.nodes[1].address()) > 0);
        let followed = followed.unwrap_or_else(|| panic!("not followed:\n{}", self.proxy.log()));
        let drained = since(&|| established(self.nodes[0].address()) == 0);
        let drained = drained.unwrap_or_else(|| panic!("not drained:\n{}", self.proxy.log()));
        assert!(
            followed < FOLLOWED_WITHIN,
            "{followed:?}\n{}",
            self.proxy.log()
        );
        assert_eq!(whoami(&self.proxy), "n1");
        (followed, drained)
    }

    /// How often the log has said that requests go elsewhere.
    fn turns(&self) -> usize {
        self.proxy.log().matches("its requests go to").count()
            + self.proxy.log().matches("nobody takes writes").count()
    }

    fn assert_logged(&self, text: &str) {
        let logged = wait_for(Duration::from_secs(20), || {
            self.proxy.log().contains(text).then_some(())
        });
        assert!(logged.is_some(), "{text:?} in:\n{}", self.proxy.log());
    }
}

fn write_cluster(zookeeper: &Zookeeper, nodes: &[Node; 2], leader: &str) {
    for (node, name) in nodes.iter().zip(["n0", "n1"]) {
        let role = if name == leader { "primary" } else { "replica" };
        zookeeper.put(&format!("{BASE}/members/{name}"), &member(node, role));
    }
    zookeeper.put(&format!("{BASE}/leader"), leader);
}

#[test]
fn bears_a_minute_without_zookeeper() {
    let stage = Stage::new(Driver::Epoll);
    let mut took = None;
    let done = stage.work_with(PATIENT, || {
        stage.zookeeper.crash();
        thread::sleep(AWAY / 2);
        // Whoever comes meanwhile is let in.
        assert_eq!(whoami(&stage.proxy), "n0");
        thread::sleep(AWAY / 2);
        assert_eq!(whoami(&stage.proxy), "n0");
        stage.assert_logged("cannot be asked");
        stage.zookeeper.launch();
        // It is followed again, however that was found out.
        thread::sleep(Duration::from_secs(3));
        stage.lead("n1");
        took = Some(stage.assert_followed());
    });
    let (clients, _) = PATIENT;
    println!(
        "ZooKeeper away for {AWAY:?}, {clients} clients: (followed, drained) after {took:?}, {done} \
         requests, 0 errors"
    );
    assert!(stage.proxy.log().contains("what was known stands"));
}

#[test]
fn each_format_leads_to_the_node() {
    let node = node("n0");
    let zookeeper = Zookeeper::shared();
    let (address, port) = (node.address(), node.port());
    let place = format!("\"host\":\"localhost\",\"port\":{port}");
    let endpoint = format!("{{{place}}}");
    let dead = "{\"serviceEndpoint\":{\"host\":\"localhost\",\"port\":1},\"status\":\"DEAD\"}";
    let alive = format!(
        "{{\"serviceEndpoint\":{{\"host\":\"localhost\",\"port\":1}},\"status\":\"ALIVE\",\
         \"additionalEndpoints\":{{\"sql\":{endpoint}}}}}"
    );
    zookeeper.put("/f/patroni/leader", "n0");
    zookeeper.put("/f/patroni/members/n0", &member(&node, "master"));
    zookeeper.put("/f/serverset/member_0000000001", &alive);
    zookeeper.put("/f/serverset/member_0000000002", dead);
    zookeeper.put("/f/serverset/vector_0000000003", "{}");
    zookeeper.put("/f/nerve/i-1_0000000012", &endpoint);
    let instance = format!("{{\"address\":\"127.0.0.1\",\"port\":{port},\"enabled\":true}}");
    zookeeper.put("/f/curator/4f5c", &instance);
    zookeeper.put(&format!("/f/children/{address}"), "");
    zookeeper.put("/f/data", &address.to_string());
    for format in [
        "patroni",
        "serverset&endpoint=sql",
        "nerve",
        "curator",
        "children",
        "data",
    ] {
        let name = format.split('&').next().expect("a name");
        let upstream = url(zookeeper, &format!("/f/{name}"), format);
        let proxy = Proxy::start_before(&upstream, &options(Driver::Epoll));
        assert_eq!(whoami(&proxy), "n0", "{format}");
    }
}

#[test]
fn leads_to_a_redis() {
    let redis = RedisNode::plain();
    let zookeeper = Zookeeper::shared();
    zookeeper.put("/cache", &redis.address().to_string());
    let address = zookeeper.address();
    let upstream = format!("redis+zk://{address}/cache?format=data");
    let proxy = Proxy::start_before(&upstream, &options(Driver::Epoll));
    let mut client = manifold_tests::harness::Resp::open(proxy.address()).expect("it accepts");
    client.expect("PING", "+PONG\r\n");
}

#[test]
fn reads_with_a_secret_what_is_for_few() {
    let node = node("n0");
    let zookeeper = Zookeeper::shared();
    zookeeper.put_secret("/few", &node.address().to_string(), "app:secret");
    let folder = Folder::new("secret");
    let file = folder.join("zk.txt");
    fs::write(&file, "app:secret\n").expect("ours to write");
    let upstream = url(zookeeper, "/few", "data");
    let secret = format!("{upstream}&auth_file={}", file.display());
    let proxy = Proxy::start_before(&secret, &options(Driver::Epoll));
    assert_eq!(whoami(&proxy), "n0");
    let mut options = options(Driver::Epoll);
    options.limits.push("hold_max = \"2s\"".to_owned());
    let proxy = Proxy::start_before(&upstream, &options);
    let refused = Wire::login(&proxy.target(), &Login::new("postgres", "postgres"));
    assert!(refused.is_err(), "nobody can be reached");
    assert!(proxy.log().contains("not allowed"), "{}", proxy.log());
}

#[test]
fn follows_a_leader_without_an_error() {
    for driver in Driver::ALL {
        let stage = Stage::new(driver);
        let mut took = None;
        let done = stage.work_during(|| {
            stage.lead("n1");
            took = Some(stage.assert_followed());
        });
        println!(
            "{}: (followed, drained) after {took:?}, {done} requests, 0 errors",
            driver.name()
        );
    }
}

#[test]
fn holds_requests_while_a_handover_is_announced() {
    let stage = Stage::new(Driver::Epoll);
    assert_eq!(whoami(&stage.proxy), "n0");
    let announced = "{\"leader\":\"n0\",\"member\":\"n1\"}";
    stage.zookeeper.put(&format!("{BASE}/failover"), announced);
    stage.assert_logged("nobody takes writes at the moment");
    thread::sleep(Duration::from_millis(100));
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| whoami(&stage.proxy)))
            .collect();
        thread::sleep(Duration::from_millis(700));
        let held = waiting.iter().filter(|it| !it.is_finished()).count();
        stage.lead("n1");
        for it in waiting {
            assert_eq!(it.join().expect("no error"), "n1");
        }
        assert_eq!(held, 4, "all of them waited");
    });
}

#[test]
fn nothing_changes_when_a_member_flickers_or_the_lead_is_taken_again() {
    let stage = Stage::new(Driver::Epoll);
    assert_eq!(whoami(&stage.proxy), "n0");
    stage.assert_logged("its requests go to");
    let turns = stage.turns();
    let done = stage.work_during(|| {
        let (path, data) = (
            format!("{BASE}/members/n0"),
            member(&stage.nodes[0], "primary"),
        );
        let flicker = Duration::from_millis(17);
        stage.zookeeper.renew(&path, &data, flicker);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(stage.turns(), turns, "{}", stage.proxy.log());
        stage.lead("n0");
        thread::sleep(Duration::from_millis(300));
    });
    println!("{done} requests, 0 errors");
    assert_eq!(established(stage.nodes[1].address()), 0);
    assert_eq!(whoami(&stage.proxy), "n0");
}

#[test]
fn follows_again_when_its_session_has_expired() {
    let stage = Stage::new(Driver::Epoll);
    let mut took = None;
    let done = stage.work_during(|| {
        stage.zookeeper.crash();
        // Nobody has a session then, and there is no list.
        stage.zookeeper.forget();
        stage.zookeeper.launch();
        stage.assert_logged("does not exist");
        assert_eq!(whoami(&stage.proxy), "n0");
        write_cluster(&stage.zookeeper, &stage.nodes, "n0");
        thread::sleep(Duration::from_secs(3));
        stage.lead("n1");
        took = Some(stage.assert_followed());
    });
    println!("(followed, drained) after {took:?}, {done} requests, 0 errors");
}

#[test]
fn keeps_the_last_nodes_when_a_list_is_garbage_or_empty() {
    let node = node("n0");
    let zookeeper = Zookeeper::shared();
    let good = format!("{{\"host\":\"127.0.0.1\",\"port\":{}}}", node.port());
    zookeeper.put("/list/good", &good);
    zookeeper.put("/list/bad", "\u{0}{{{");
    let upstream = url(zookeeper, "/list", "nerve");
    let proxy = Proxy::start_before(&upstream, &options(Driver::Epoll));
    assert_eq!(whoami(&proxy), "n0");
    let is_logged = |text: &str| {
        let logged = wait_for(Duration::from_secs(20), || {
            proxy.log().contains(text).then_some(())
        });
        assert!(logged.is_some(), "{text:?} in:\n{}", proxy.log());
    };
    is_logged("the znode \"/list/bad\" is left out: it is no JSON");
    zookeeper.put("/list/good", "{}");
    is_logged("the znode \"/list/good\" is left out");
    assert_eq!(whoami(&proxy), "n0");
    zookeeper.remove("/list/good");
    zookeeper.remove("/list/bad");
    is_logged("\"/list\" lists no node; what was known stands");
    assert_eq!(whoami(&proxy), "n0");
    let said = proxy.log().matches("/list/bad").count();
    assert_eq!(said, 1, "{}", proxy.log());
}
