//! A name server of the test's own, whose answers change at the test's word.
//!
//! Answers every question alike, whatever the name, but for the hosts of services; over UDP on
//! loopback. Invariant: it says what it was told last, and nothing after it has been dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::{Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What is said to each question.
#[derive(Clone, Debug)]
pub enum Says {
    /// These, of which each question gets those of its family, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// Whatever name is asked for services has these.
    Services(Services),
    /// There is no such name.
    NoSuchName,
    /// Something is wrong with the server.
    Failure,
    /// Nothing.
    Nothing,
}

/// Services, and the hosts that they are on.
#[derive(Clone, Debug)]
pub struct Services {
    /// Priority, weight, port and target of each.
    pub records: Vec<(u16, u16, u16, &'static str)>,
    /// Hosts that there are, each with an address; there are no others.
    pub hosts: Vec<(&'static str, Ipv4Addr)>,
    /// For so many seconds.
    pub ttl: u32,
}

/// A running name server.
#[derive(Debug)]
pub struct Zone {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    says: Mutex<Says>,
    asked: AtomicU64,
    is_over: AtomicBool,
}

impl Zone {
    /// One that says this.
    pub fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let tick = Some(Duration::from_millis(50));
        socket.set_read_timeout(tick).expect("a socket takes it");
        let address = socket.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            says: Mutex::new(says),
            asked: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let own = shared.clone();
        let thread = thread::spawn(move || own.serve(&socket));
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says this from now on.
    pub fn say(&self, says: Says) {
        *self.shared.says.lock().expect("no panic here") = says;
    }

    /// How many questions there were.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

impl Shared {
    fn serve(&self, socket: &UdpSocket) {
        let mut buffer = [0; 1500];
        while !self.is_over.load(Ordering::Relaxed) {
            // Nobody asks, for a moment.
            let Ok((len, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            self.asked.fetch_add(1, Ordering::Relaxed);
            let question = Message::from_vec(&buffer[..len]).expect("a question");
            let says = self.says.lock().expect("no panic here").clone();
            if let Some(answer) = answer(&question, &says) {
                let bytes = answer.to_vec().expect("an answer");
                socket.send_to(&bytes, peer).expect("loopback takes it");
            }
        }
    }
}

fn answer(question: &Message, says: &Says) -> Option<Message> {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&question.metadata);
    answer.add_queries(question.queries.iter().cloned());
    match says {
        Says::Addresses(addresses, ttl) => {
            let query = question.queries.first()?;
            let wanted = query.query_type();
            for &address in addresses {
                let data = match (address, wanted) {
                    (IpAddr::V4(ip), RecordType::A) => RData::A(A(ip)),
                    (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA(AAAA(ip)),
                    _ => continue,
                };
                answer.add_answer(Record::from_rdata(query.name().clone(), *ttl, data));
            }
        }
        Says::Services(services) => services.answer(question.queries.first()?, &mut answer),
        Says::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Says::Failure => answer.metadata.response_code = ResponseCode::ServFail,
        Says::Nothing => return None,
    }
    Some(answer)
}

impl Services {
    fn answer(&self, query: &Query, answer: &mut Message) {
        let name = query.name();
        let mut add = |data| {
            answer.add_answer(Record::from_rdata(name.clone(), self.ttl, data));
        };
        if query.query_type() == RecordType::SRV {
            for &(priority, weight, port, target) in &self.records {
                let target = Name::from_ascii(target).expect("a name");
                add(RData::SRV(SRV::new(priority, weight, port, target)));
            }
            return;
        }
        let asked = name.to_ascii();
        let found = self.hosts.iter().find(|(host, _)| *host == asked);
        match (found, query.query_type()) {
            (Some(&(_, ip)), RecordType::A) => add(RData::A(A(ip))),
            (Some(_), _) => {}
            (None, _) => answer.metadata.response_code = ResponseCode::NXDomain,
        }
    }
}
