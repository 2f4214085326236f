//! Plays a plan on both sides, act by act, and finds differences.
//!
//! Knows what a fault may change, and nothing else of faults. Invariant: an act begins when both
//! sides have answered all acts before it, or when the troupe has begun anew.

use std::collections::VecDeque;
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::resp::{request, shown};

use super::compare::{Compare, integer, text, values};
use super::connection::{Connection, Control};
use super::keys;
use super::plan::{Act, PASSWORD, Sending, What};
use super::player::{PATIENCE, Player, Turn};
use super::world::{Tally, World};

/// A troupe at play.
pub(super) struct Troupe<'a> {
    world: &'a World,
    prefix: String,
    sessions: usize,
    players: Vec<Player>,
    /// Questions of our own to the node of the private connections.
    direct: Control,
    /// The same to the proxy's node, past the proxy.
    node: Control,
    /// The same through the proxy.
    proxy: Control,
    /// The last acts, and what came of them.
    lines: VecDeque<String>,
    /// Words that have to be in the troupe's list, in this order.
    acknowledged: Vec<String>,
    /// Words that may be there, once.
    uncertain: Vec<String>,
    /// What is not the same.
    difference: Option<String>,
}

/// Acts that are printed when there is a difference.
const LINES_MAX: usize = 40;

/// How long a message may take that a fault may have swallowed.
const HOPE: Duration = Duration::from_millis(400);

/// What the proxy says when it does not know.
const UNKNOWN: &[u8] = b"-ERR service \"test\": the connection to the node was lost before it \
answered; the command may have been executed\r\n";

impl<'a> Troupe<'a> {
    /// Plays a plan. Says what is not the same, if anything is not.
    pub fn play(
        world: &'a World,
        prefix: &str,
        sessions: usize,
        acts: &[Act],
    ) -> Result<(), String> {
        let mut troupe = Self {
            world,
            prefix: prefix.to_owned(),
            sessions,
            players: (0..sessions).map(|_| Player::new(world)).collect(),
            direct: world.to_direct(),
            node: world.to_node(),
            proxy: world.to_proxy(),
            lines: VecDeque::new(),
            acknowledged: Vec::new(),
            uncertain: Vec::new(),
            difference: None,
        };
        Tally::add(&world.tally.troupes, 1);
        for (place, act) in acts.iter().enumerate() {
            Tally::add(&world.tally.acts, 1);
            troupe.perform(place, act);
            troupe.check(place)?;
        }
        troupe.finish();
        troupe.check(acts.len())
    }

    fn check(&mut self, place: usize) -> Result<(), String> {
        let Some(difference) = self.difference.take() else {
            return Ok(());
        };
        let mut text = format!("act {place}: {difference}\nthe acts that led to it:\n");
        for line in &self.lines {
            let _ = writeln!(text, "  {line}");
        }
        Err(text)
    }

    fn differ(&mut self, text: String) {
        self.difference.get_or_insert(text);
    }

    fn note(&mut self, line: String) {
        if self.lines.len() >= LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn perform(&mut self, place: usize, act: &Act) {
        let who = act.who;
        self.reopen(who);
        self.players[who].holds = act.holds;
        match &act.what {
            What::Send(sending) => self.send(place, who, sending),
            What::Pause(millis) => {
                self.note(format!("{place}: everybody waits for {millis} ms"));
                thread::sleep(Duration::from_millis(*millis));
                self.settle(place, who, &Sending::default(), None);
            }
            What::Vanish(part) => self.vanish(place, who, part),
            What::Finish(bytes) => {
                self.note(format!("{place}: {who} sends its last: {}", shown(bytes)));
                self.both(who, |side| {
                    side.send(bytes);
                    side.end_sending();
                });
                self.players[who].direct.wait_for_end(PATIENCE);
                self.players[who].proxied.wait_for_end(PATIENCE);
                // A node drops what it has not sent yet when it finds that somebody has left.
                let count = self.players[who].direct.replies.len();
                self.players[who].proxied.replies.truncate(count);
                self.settle(place, who, &Sending::default(), None);
            }
            What::Identify => self.identify(place, who),
            What::Scan(words) => self.scan(place, who, words),
        }
    }

    fn both(&mut self, who: usize, deed: impl Fn(&mut Connection)) {
        deed(&mut self.players[who].direct);
        deed(&mut self.players[who].proxied);
    }

    /// A session that has ended begins anew.
    fn reopen(&mut self, who: usize) {
        if self.players[who].direct.has_ended {
            self.replace(who);
        }
    }

    fn replace(&mut self, who: usize) {
        self.players[who] = Player::new(self.world);
        if self.world.mood.is_locked {
            let auth = request(&[b"AUTH", PASSWORD.as_bytes()]);
            let player = &mut self.players[who];
            for side in [&mut player.direct, &mut player.proxied] {
                // Nobody knows how a login ended during which the connection was lost.
                for _ in 0..100 {
                    side.send(&auth);
                    side.wait(1, PATIENCE);
                    if side.replies.pop_front().is_none_or(|it| it == b"+OK\r\n") {
                        break;
                    }
                }
            }
        }
    }

    fn send(&mut self, place: usize, who: usize, sending: &Sending) {
        let shown_pieces: Vec<_> = sending.pieces.iter().map(|it| written(it)).collect();
        self.note(format!("{place}: {who} > {}", shown_pieces.join(" | ")));
        let is_single = sending.commands.len() == 1 && self.world.mood.is_faulty;
        let before = is_single.then(|| keys::digest(&mut self.direct, &self.prefix));
        self.both(who, |side| {
            for (place, piece) in sending.pieces.iter().enumerate() {
                if place > 0 {
                    thread::sleep(Duration::from_micros(300));
                }
                side.send(piece);
            }
        });
        thread::sleep(Duration::from_millis(sending.deaf));
        self.settle(place, who, sending, before);
        if sending.blocks && self.difference.is_none() {
            self.wait_until_blocked(who);
        }
    }

    /// A command that blocks direct blocks through the proxy, too, before anybody goes on.
    fn wait_until_blocked(&mut self, who: usize) {
        let address = self.players[who].direct.address();
        let is_blocked = |flags: Option<String>| flags.is_some_and(|flags| flags.contains('b'));
        if !is_blocked(self.direct.flags_of(&address)) {
            return;
        }
        let address = self.players[who].proxied.address();
        for _ in 0..2000 {
            let flags = self.proxy.flags_of(&address);
            if is_blocked(flags.clone()) {
                self.node.say("PING");
                self.node.say("PING");
                return;
            }
            // Lost with its upstream.
            if flags.is_none() && self.is_tainted(who) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        if !self.is_tainted(who) {
            self.differ(format!(
                "session {who} blocks direct and not through the proxy"
            ));
        }
    }

    /// Waits until the direct node has nothing more to say to anybody.
    fn listen_direct(&mut self, bytes: usize) {
        let mut silent = 0;
        let rounds = 2 + bytes / (8 << 10);
        let mut round = 0;
        let begin = Instant::now();
        while silent < 2 || round < rounds {
            if begin.elapsed() > PATIENCE {
                return self.differ("the direct node does not come to an end".to_owned());
            }
            self.direct.say("PING");
            round += 1;
            let mut has_come = false;
            for player in &mut self.players {
                has_come |= player.direct.receive();
                has_come |= player.direct.is_amid() && !player.direct.has_ended;
            }
            silent = if has_come { 0 } else { silent + 1 };
        }
    }

    /// Takes what everybody was told, and compares it.
    fn settle(
        &mut self,
        place: usize,
        actor: usize,
        sending: &Sending,
        before: Option<Vec<Vec<u8>>>,
    ) {
        let bytes = sending.pieces.iter().map(Vec::len).sum();
        self.listen_direct(bytes);
        let mut is_marked = false;
        let mut is_only_actor = true;
        let count = self.players.len();
        for who in (0..count).map(|offset| (actor + offset) % count) {
            let patience = match who != actor && self.is_tainted(who) {
                true => HOPE,
                false => PATIENCE,
            };
            let turn = self.players[who].take_turn(patience);
            let none = Sending::default();
            let sending = if who == actor { sending } else { &none };
            self.note_turn(place, who, &turn);
            // Who was waiting goes on with what it sent behind that when the waiting is lost.
            let is_silent = turn.direct.is_empty() && turn.proxied.is_empty();
            is_only_actor &= who == actor || is_silent;
            self.write_down(&turn, sending);
            Tally::add(&self.world.tally.replies, turn.direct.len());
            let Some(difference) = differs(&turn, sending) else {
                continue;
            };
            if !self.is_tainted(who) {
                return self.differ(format!("session {who}: {difference}"));
            }
            is_marked = true;
            if let Err(text) = self.excuse(who, &turn, sending, who == actor) {
                return self.differ(format!(
                    "session {who}, after a fault: {text}: {difference}"
                ));
            }
        }
        self.players[actor].note(sending);
        // Of what nobody is told, nobody knows whether it was lost.
        is_marked |= self.players[actor].is_mute && self.is_tainted(actor);
        if is_marked {
            self.check_outcome(before.filter(|_| is_only_actor));
            self.renew();
        } else {
            let now = self.world.now();
            for (who, player) in self.players.iter_mut().enumerate() {
                // Who holds something and was not asked may have lost it.
                if now.is_multiple_of(2) && (who == actor || !player.holds) {
                    player.epoch = now;
                }
            }
        }
    }

    /// Whether a fault may have touched a session since it was last known to be whole.
    fn is_tainted(&self, who: usize) -> bool {
        let now = self.world.now();
        now % 2 == 1 || now != self.players[who].epoch
    }

    /// Whether what came instead is what the README says of a lost connection.
    fn excuse(
        &mut self,
        who: usize,
        turn: &Turn,
        sending: &Sending,
        is_actor: bool,
    ) -> Result<(), String> {
        let player = &self.players[who];
        // It may have been ended before the words for which it would have been anyway.
        let is_earlier = !turn.has_direct_ended || turn.proxied.len() < turn.direct.len();
        if turn.has_proxied_ended && is_earlier {
            Tally::add(&self.world.tally.ended, 1);
            // Half a reply cannot be taken back, and a big one is seldom whole.
            let size: usize = turn.direct.iter().map(Vec::len).sum();
            let is_amid = player.proxied.is_amid() || size > 8 << 10;
            // A transaction that comes in pieces, or that sets what a session is made of, is held
            // until the node has said what it has made of the session.
            let has_multi = player.had_multi || player.is_in_doubt || sending.has_multi();
            return match player.holds || is_amid || has_multi {
                true => Ok(()),
                false => Err("it was ended, and had nothing to lose".to_owned()),
            };
        }
        if !is_actor {
            // What it still waited for may have been lost, and so may messages.
            let is_lost = turn.proxied.iter().any(|reply| reply == UNKNOWN);
            return match is_lost || turn.proxied.len() <= turn.direct.len() {
                true => Ok(()),
                false => Err("it was told more".to_owned()),
            };
        }
        let unknown = turn.proxied.iter().position(|reply| reply == UNKNOWN);
        let Some(first) = unknown else {
            // Counts of who listens, while nobody can; and what a write that was lost, of which
            // nobody wanted to be told, would have changed.
            let is_mute = player.is_mute || sending.mentions(&["reply"]);
            return match is_mute || is_about_listeners(sending) {
                true => Ok(()),
                false => Err("it was told something else".to_owned()),
            };
        };
        let count = turn.proxied.iter().filter(|reply| *reply == UNKNOWN);
        Tally::add(&self.world.tally.unknown, count.count());
        let pairs = turn.direct.iter().zip(&turn.proxied).take(first);
        // A read that is asked again may see a later write, the outcome of which is unknown.
        let again = reads_before(sending, turn, first);
        for (place, (direct, proxied)) in pairs.enumerate().take(first - again) {
            if !Compare::Exact.is_same(direct, proxied) {
                return Err(format!("reply {place} came before the loss and is another"));
            }
        }
        let is_alone = player.holds || sending.has_multi();
        match read_not_repeated(sending, turn).filter(|_| !is_alone) {
            Some(name) => Err(format!("{name} reads and was not asked again")),
            None => Ok(()),
        }
    }

    /// After a single command whose outcome is unknown, it has run or it has not.
    fn check_outcome(&mut self, before: Option<Vec<Vec<u8>>>) {
        let Some(before) = before else {
            return;
        };
        self.close_all();
        let (after, found) = self.undisturbed(|it| {
            let after = keys::digest(&mut it.direct, &it.prefix);
            (after, keys::digest(&mut it.node, &it.prefix))
        });
        if found != before && found != after {
            self.differ("a command whose outcome is unknown neither ran nor did not".to_owned());
        }
    }

    /// Words that were acknowledged are there, and others may be.
    fn write_down(&mut self, turn: &Turn, sending: &Sending) {
        for (place, word) in &sending.written {
            match turn.proxied.get(*place) {
                Some(reply) if reply.starts_with(b":") => self.acknowledged.push(word.clone()),
                Some(reply) if reply != UNKNOWN => {}
                _ => self.uncertain.push(word.clone()),
            }
        }
    }

    /// Everybody goes.
    fn close_all(&mut self) {
        let addresses: Vec<_> = self
            .players
            .iter()
            .map(|player| player.proxied.address())
            .collect();
        self.players.clear();
        for address in addresses {
            self.wait_until_gone(&address);
        }
        self.direct.say("PING");
        self.direct.say("PING");
    }

    /// A session has gone, at the proxy and at its node.
    fn wait_until_gone(&mut self, address: &str) {
        for _ in 0..2000 {
            if self.proxy.flags_of(address).is_none() {
                self.node.say("PING");
                thread::sleep(Duration::from_millis(2));
                self.node.say("PING");
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.differ(format!("the session from {address} does not go"));
    }

    /// After a fault that left marks: the direct node gets what the proxy's node has, and everybody
    /// begins anew.
    fn renew(&mut self) {
        Tally::add(&self.world.tally.renewed, 1);
        self.note("everybody begins anew".to_owned());
        let count = self.sessions;
        self.close_all();
        self.undisturbed(|it| {
            keys::copy(&mut it.node, &mut it.direct, &it.prefix);
        });
        self.check_written();
        self.players = (0..count).map(|_| Player::new(self.world)).collect();
        if self.world.mood.is_locked {
            (0..count).for_each(|who| self.replace(who));
        }
    }

    /// Does what needs both nodes for a while, again if one was broken meanwhile: what it is asked
    /// while it loads its data, in the database in which a new connection begins, says nothing.
    fn undisturbed<T>(&mut self, what: impl Fn(&mut Self) -> T) -> T {
        loop {
            let epoch = self.world.now();
            if epoch.is_multiple_of(2) {
                let found = what(self);
                if self.world.now() == epoch {
                    return found;
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Every acknowledged word is there once, in order; nothing is there twice.
    fn check_written(&mut self) {
        let found = keys::written(&mut self.node, &self.prefix);
        let mut unique = found.clone();
        unique.sort_unstable();
        unique.dedup();
        if unique.len() != found.len() {
            return self.differ(format!("a word was written twice: {found:?}"));
        }
        let certain: Vec<_> = found
            .iter()
            .filter(|word| !self.uncertain.contains(word))
            .collect();
        if certain != self.acknowledged.iter().collect::<Vec<_>>() {
            let acknowledged = &self.acknowledged;
            let text = format!("acknowledged words: {acknowledged:?}, and there are {found:?}");
            self.differ(text);
        }
    }

    fn vanish(&mut self, place: usize, who: usize, part: &[u8]) {
        self.note(format!("{place}: {who} vanishes after {}", shown(part)));
        Tally::add(&self.world.tally.vanished, 1);
        let address = self.players[who].proxied.address();
        let epoch = self.players[who].epoch;
        self.both(who, |side| {
            side.send(part);
            side.vanish();
        });
        self.replace(who);
        self.wait_until_gone(&address);
        self.settle(place, who, &Sending::default(), None);
        // What it was not told yet may have been lost.
        if self.world.now() != epoch && self.difference.is_none() {
            self.renew();
        }
    }

    fn identify(&mut self, place: usize, who: usize) {
        let bytes = request(&[b"CLIENT", b"ID"]);
        self.both(who, |side| side.send(&bytes));
        self.listen_direct(0);
        let turn = self.players[who].take_turn(PATIENCE);
        self.note(format!("{place}: {who} > CLIENT ID"));
        self.note_turn(place, who, &turn);
        let number = |replies: &[Vec<u8>]| match replies {
            [only] => integer(only),
            _ => None,
        };
        match (number(&turn.direct), number(&turn.proxied)) {
            (Some(direct), Some(proxied)) => {
                let numbers = (direct, proxied);
                let known = *self.players[who].numbers.get_or_insert(numbers);
                if known != numbers && !self.is_tainted(who) {
                    self.differ(format!("session {who} was {known:?} and is {numbers:?}"));
                }
            }
            // Not let in, amid a transaction, or behind what blocks.
            _ => {
                let difference = differs(&turn, &Sending::default());
                if let Some(text) = difference {
                    if self.is_tainted(who) {
                        self.renew();
                    } else {
                        self.differ(format!("session {who}: {text}"));
                    }
                }
            }
        }
    }

    /// Both sides find the same, whatever their cursors are.
    fn scan(&mut self, place: usize, who: usize, words: &[Vec<u8>]) {
        self.settle(place, who, &Sending::default(), None);
        self.note(format!(
            "{place}: {who} scans by {}",
            shown(&words.concat())
        ));
        let player = &mut self.players[who];
        let direct = scanned(&mut player.direct, words);
        let proxied = scanned(&mut player.proxied, words);
        if direct != proxied {
            if self.is_tainted(who) {
                return self.renew();
            }
            self.differ(format!(
                "session {who} finds direct {direct:?}, proxied {proxied:?}"
            ));
        }
    }

    fn note_turn(&mut self, place: usize, who: usize, turn: &Turn) {
        let list = |replies: &[Vec<u8>], has_ended: bool| {
            let shown: Vec<_> = replies.iter().map(|it| shown(it)).collect();
            let end = if has_ended { ", closed" } else { "" };
            format!("[{}]{end}", shown.join(", "))
        };
        let direct = list(&turn.direct, turn.has_direct_ended);
        let proxied = list(&turn.proxied, turn.has_proxied_ended);
        if direct == proxied {
            if !turn.direct.is_empty() || turn.has_direct_ended {
                self.note(format!("{place}: {who} < {direct}"));
            }
        } else {
            self.note(format!("{place}: {who} < direct  {direct}"));
            self.note(format!("{place}: {who} < proxied {proxied}"));
        }
    }

    /// At the end nobody has been told more, and both nodes hold the same.
    fn finish(&mut self) {
        if self.difference.is_some() {
            return;
        }
        self.settle(usize::MAX, 0, &Sending::default(), None);
        self.close_all();
        self.check_written();
        let (direct, proxied) = self.undisturbed(|it| {
            let direct = keys::digest(&mut it.direct, &it.prefix);
            (direct, keys::digest(&mut it.node, &it.prefix))
        });
        if direct != proxied {
            self.differ(format!("the nodes hold {direct:?} and {proxied:?}"));
        }
        keys::remove(&mut self.direct, &self.prefix);
        keys::remove(&mut self.node, &self.prefix);
    }
}

/// How many commands right before the one at `place` only read, where replies can be told apart.
fn reads_before(sending: &Sending, turn: &Turn, place: usize) -> usize {
    if sending.commands.len() != turn.proxied.len() {
        return 0;
    }
    let before = sending.commands[..place].iter().rev();
    before.take_while(|command| command.is_read).count()
}

/// A command that reads, whose outcome is unknown without need.
fn read_not_repeated(sending: &Sending, turn: &Turn) -> Option<String> {
    if sending.commands.len() != turn.proxied.len() {
        return None;
    }
    let mut pairs = sending.commands.iter().zip(&turn.proxied);
    let lost = pairs.find(|(command, reply)| command.is_read && *reply == UNKNOWN)?;
    Some(shown(&lost.0.words[0]))
}

/// The first difference in what both sides said.
fn differs(turn: &Turn, sending: &Sending) -> Option<String> {
    let compare = sending.compare();
    let pairs = turn.direct.iter().zip(&turn.proxied);
    for (place, (direct, proxied)) in pairs.enumerate() {
        if !compare.is_same(direct, proxied) {
            let (direct, proxied) = (around(direct, proxied), around(proxied, direct));
            let command = sending.commands.get(place).map(|command| {
                let words: Vec<_> = command.words.iter().map(|it| shown(it)).collect();
                words.join(" ")
            });
            let command = command.unwrap_or_default();
            return Some(format!(
                "reply {place} ({command}) is direct {direct}, proxied {proxied}"
            ));
        }
    }
    let (direct, proxied) = (turn.direct.len(), turn.proxied.len());
    if direct != proxied {
        return Some(format!("{direct} replies direct, {proxied} proxied"));
    }
    match (turn.has_direct_ended, turn.has_proxied_ended) {
        (true, false) => Some("it was ended direct and not proxied".to_owned()),
        (false, true) => Some("it was ended proxied and not direct".to_owned()),
        _ => None,
    }
}

/// What was sent, most of it.
fn written(bytes: &[u8]) -> String {
    match bytes.len() {
        0..4000 => bytes.escape_ascii().to_string(),
        _ => shown(bytes),
    }
}

/// A reply where it begins to differ from another.
fn around(reply: &[u8], other: &[u8]) -> String {
    let same = reply.iter().zip(other).take_while(|(one, two)| one == two);
    let from = same.count().saturating_sub(100);
    match from {
        0 => shown(reply),
        _ => format!("(from byte {from}) {}", shown(&reply[from..])),
    }
}

/// Whether what was asked depends on who listens, which a fault may change for a while.
fn is_about_listeners(sending: &Sending) -> bool {
    let names: [&[u8]; 3] = [b"PUBLISH", b"SPUBLISH", b"PUBSUB"];
    let mut commands = sending.commands.iter();
    commands.any(|command| {
        names
            .iter()
            .any(|name| command.words[0].eq_ignore_ascii_case(name))
    })
}

/// All that a cursor finds, without order.
fn scanned(side: &mut Connection, words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut words = words.to_vec();
    let place = usize::from(words[0] != b"SCAN") + 1;
    let mut found = Vec::new();
    for _ in 0..10_000 {
        let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        side.send(&request(&slices));
        side.wait(1, Duration::from_secs(5));
        let Some(reply) = side.replies.pop_front() else {
            found.push(b"nothing".to_vec());
            break;
        };
        let parts = values(&reply);
        let [cursor, elements] = &*parts else {
            found.push(reply);
            break;
        };
        found.extend(values(elements));
        words[place] = text(cursor).unwrap_or_default().to_vec();
        if words[place] == b"0" {
            break;
        }
    }
    found.sort();
    found.dedup();
    found
}
