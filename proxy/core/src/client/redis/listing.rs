//! What CLIENT INFO and CLIENT LIST say of a session, and which ones CLIENT KILL means.
//!
//! A node would show the proxy's few connections, which mean nothing to a client. Fields that only
//! a node can know are zero. Invariant: nothing here changes a session.

use core::fmt::Write;

use manifold_protocols::redis::resp::inline::write_bulk;

use crate::audience;
use crate::client::redis::Lease;
use crate::client::redis::others::{AtNode, Filter, Kind};
use crate::event::{Address, Peer};
use crate::ids::{ClientId, ServiceId};
use crate::reach::Reach;
use crate::redis::Redis;
use crate::topology::Target;
use crate::upstream::redis::Effect;
use crate::upstream::redis::pool::Version;

impl Redis {
    /// CLIENT INFO.
    pub(crate) fn describe_one(&self, reach: &Reach<'_>, id: ClientId) -> Vec<u8> {
        let mut text = String::new();
        self.describe(reach, id, "client|info", &mut text);
        self.verbatim(id, &text)
    }

    /// Sessions of a service.
    pub(crate) fn sessions_of(&self, service: ServiceId) -> impl Iterator<Item = ClientId> + '_ {
        let sessions = self.clients.iter();
        sessions
            .filter(move |(_, client)| client.service == service)
            .map(|(id, _)| id)
    }

    /// The node's number for the connection on which a session may be blocked.
    pub(crate) fn blocked_at(&self, reach: &Reach<'_>, id: ClientId) -> Option<AtNode> {
        let mut all = self.all_of(id).filter_map(|id| self.clients.get(id)?.lease);
        let lease = all.find(|lease| self.is_blocked_on(lease))?;
        let upstream = &self.upstreams[lease.upstream];
        let service = reach.service(upstream.service);
        let node = match (&service.target, service.part_of) {
            (Target::Address(Address::Ip(address)), Some(_)) => Some(*address),
            _ => None,
        };
        let number = upstream.number?;
        Some(AtNode { number, node })
    }

    /// Whether a session waits for a command that may hold up its connection.
    pub(crate) fn is_blocked(&self, id: ClientId) -> bool {
        let mut all = self.all_of(id).filter_map(|id| self.clients.get(id)?.lease);
        all.any(|lease| self.is_blocked_on(&lease))
    }

    fn is_blocked_on(&self, lease: &Lease) -> bool {
        let head = self.upstreams[lease.upstream].pipe.front();
        head.is_some_and(|head| matches!(head.effect, Effect::Block | Effect::Wait))
    }

    /// What a session is.
    pub(crate) fn kind_of(&self, id: ClientId) -> Kind {
        let client = &self.clients[id];
        match client.lease {
            Some(lease) if lease.is_stream => Kind::Stream,
            _ if client.is_subscribed() => Kind::PubSub,
            _ => Kind::Normal,
        }
    }

    /// Whether CLIENT KILL means this session.
    pub(crate) fn fits(&self, id: ClientId, filter: &Filter) -> bool {
        let client = &self.clients[id];
        let address = || address_of(&client.peer);
        let fits_kind = filter.kind.is_none_or(|wanted| wanted == self.kind_of(id));
        let fits_number = filter.number.is_none_or(|number| number == client.number);
        let fits_address = filter.address.as_ref().is_none_or(|it| *it == address());
        let fits_user = filter
            .user
            .as_ref()
            .is_none_or(|user| **user == *self.user_of(id));
        fits_number && fits_address && fits_user && fits_kind
    }

    fn user_of(&self, id: ClientId) -> &[u8] {
        match &self.key_of(id).login {
            Some(login) if !login.user.is_empty() => &login.user,
            _ => b"default",
        }
    }

    /// One line, with the fields of redis-server 7.0 and the library's of 7.2.
    pub(crate) fn describe(
        &self,
        reach: &Reach<'_>,
        id: ClientId,
        command: &str,
        text: &mut String,
    ) {
        let client = &self.clients[id];
        let key = self.key_of(id);
        let session = client.session.as_deref();
        let field = |bytes: Option<&[u8]>| bytes.unwrap_or_default().escape_ascii().to_string();
        let multi = client.lease.filter(|lease| lease.is_multi);
        let tales = session.and_then(|session| session.tales.as_ref());
        let queued = multi.map(|_| tales.map_or(0, |tales| tales.queued()));
        let is_multi = multi.is_some();
        let is_blocked = self.is_blocked(id);
        let subscriptions = client.subscriptions();
        let listens = |kind: audience::Kind| subscriptions.map_or(0, |it| it.number(kind));
        let flags = match (client.is_subscribed(), is_multi, is_blocked) {
            (true, true, _) => "Px",
            (true, false, true) => "Pb",
            (true, false, false) => "P",
            (false, true, _) => "x",
            (false, false, true) => "b",
            (false, false, false) => "N",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "id={} addr={} laddr={}:0 fd={} name={} age={} idle={} flags={flags} db={} \
             sub={} psub={} ssub={} multi={} qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 \
             rbp=0 obl={} oll=0 omem=0 tot-mem=0 events=r cmd={command} user={} redir=-1 \
             resp={} lib-name={} lib-ver={}",
            client.number,
            address_of(&client.peer),
            reach.service(client.service).name,
            client.conn.index,
            field(session.map(|it| &*it.name)),
            (reach.now - client.came_at).as_secs(),
            (reach.now - client.active_at).as_secs(),
            key.database,
            listens(audience::Kind::Channel),
            listens(audience::Kind::Pattern),
            listens(audience::Kind::Shard),
            queued.map_or(-1, i64::from),
            client.input.unparsed().len(),
            reach.conns.unsent(client.conn),
            self.user_of(id).escape_ascii(),
            if key.version == Version::Three { 3 } else { 2 },
            field(session.map(|it| &*it.library)),
            field(session.map(|it| &*it.library_version)),
        );
    }

    /// A text as a node sends it: in RESP3 it says that it is one.
    pub(crate) fn verbatim(&self, id: ClientId, text: &str) -> Vec<u8> {
        let mut reply = Vec::new();
        match self.key_of(id).version {
            Version::Two => write_bulk(&mut reply, text.as_bytes()),
            Version::Three => {
                reply = format!("={}\r\ntxt:{text}\r\n", text.len() + 4).into_bytes();
            }
        }
        reply
    }
}

fn address_of(peer: &Peer) -> String {
    match peer {
        Peer::Ip(address) => address.to_string(),
        Peer::Unix => "unix:0".into(),
    }
}
