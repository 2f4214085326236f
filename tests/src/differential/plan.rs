//! What a troupe does, act by act, as its seed has it.
//!
//! Must not know what any node answers. Invariant: the same seed and the same mood give the same
//! plan.

use crate::harness::resp::request;
use crate::simulator::prng::Prng;

use super::catalogue::{Command, Pen};
use super::compare::Compare;

/// One thing that one session does.
#[derive(Clone, Debug)]
pub(super) struct Act {
    /// Which session of the troupe.
    pub who: usize,
    /// What it does.
    pub what: What,
    /// The session has, or may have, an upstream alone whose loss ends it: an open transaction,
    /// watched keys, tracking, a command that blocks.
    pub holds: bool,
}

/// What a session does.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Sends bytes, in these pieces.
    Send(Sending),
    /// Nothing, for so many milliseconds.
    Pause(u64),
    /// Sends what is no whole request, and vanishes with a reset.
    Vanish(Vec<u8>),
    /// Sends, says that it will send no more, and reads to the end.
    Finish(Vec<u8>),
    /// Asks who it is, which has to be what it was told before.
    Identify,
    /// Goes through keys, or the members of one, with a cursor.
    Scan(Vec<Vec<u8>>),
}

/// Bytes to be sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending {
    /// One write each.
    pub pieces: Vec<Vec<u8>>,
    /// The commands that they are, if they are commands and each has one reply.
    pub commands: Vec<Command>,
    /// For how many milliseconds it does not read.
    pub deaf: u64,
    /// Words that are written to the troupe's list, by the places of their commands.
    pub written: Vec<(usize, String)>,
    /// The session will wait, if it blocks: both sides have to have it so before the next act.
    pub blocks: bool,
}

/// What a troupe can count on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mood {
    /// Nobody gets in without a password.
    pub is_locked: bool,
    /// The proxy's node is broken now and then.
    pub is_faulty: bool,
}

/// The password of everybody, where there is one.
pub(super) const PASSWORD: &str = "sesame";

/// Makes a plan.
#[derive(Debug)]
pub(super) struct Planner {
    pub pen: Pen,
    pub sessions: usize,
    pub mood: Mood,
    pub acts: Vec<Act>,
    /// What is planned now is lost with its upstream.
    pub holds: bool,
}

/// Acts of one plan, about.
const ACTS: usize = 60;

impl Planner {
    /// The plan of a seed.
    pub fn plan(seed: u64, prefix: &str, mood: Mood) -> (usize, Vec<Act>) {
        let mut prng = Prng::new(seed);
        let sessions = prng.size(2, 3);
        let mut planner = Self {
            pen: Pen::new(prng, prefix, mood.is_faulty),
            sessions,
            mood,
            acts: Vec::new(),
            holds: false,
        };
        for who in 0..sessions {
            planner.enter(who);
        }
        while planner.acts.len() < ACTS {
            planner.holds = false;
            planner.scene();
        }
        (sessions, planner.acts)
    }

    /// How a session begins.
    fn enter(&mut self, who: usize) {
        let begin = match (self.mood.is_locked, self.pen.prng.below(10)) {
            (true, 0) => "PING",
            (true, 1..=5) => "AUTH sesame",
            (true, _) => "HELLO 3 AUTH default sesame",
            (false, 0..=4) => "PING",
            (false, _) => "HELLO 3",
        };
        self.send_line(who, begin);
    }

    /// A session of the troupe.
    pub fn somebody(&mut self) -> usize {
        self.pen.prng.size(0, self.sessions - 1)
    }

    /// Another session than this one.
    pub fn another(&mut self, than: usize) -> usize {
        (than + 1) % self.sessions
    }

    /// Plans an act.
    pub fn act(&mut self, who: usize, what: What) {
        let holds = self.holds;
        self.acts.push(Act { who, what, holds });
    }

    /// Plans a command from a template.
    pub fn send_line(&mut self, who: usize, template: &str) {
        let command = self.pen.command(template, false);
        self.send(who, vec![command]);
    }

    /// Plans several templates, one act each.
    pub fn send_lines(&mut self, who: usize, templates: &[&str]) {
        for template in templates {
            self.send_line(who, template);
        }
    }

    /// Plans commands in one batch, each of which has one reply.
    pub fn send(&mut self, who: usize, commands: Vec<Command>) {
        let bytes = bytes_of(&commands);
        let sending = Sending {
            pieces: self.cut(bytes),
            commands,
            ..Sending::default()
        };
        self.act(who, What::Send(sending));
    }

    /// Plans templates in one batch, whose replies may be more or fewer.
    pub fn send_together(&mut self, who: usize, templates: &[&str]) {
        let commands = templates.iter().map(|it| self.pen.command(it, false));
        let bytes = bytes_of(&commands.collect::<Vec<_>>());
        self.send_bytes(who, bytes);
    }

    /// Plans bytes.
    pub fn send_bytes(&mut self, who: usize, bytes: Vec<u8>) {
        let sending = Sending {
            pieces: self.cut(bytes),
            ..Sending::default()
        };
        self.act(who, What::Send(sending));
    }

    /// Plans a command that may block.
    pub fn block(&mut self, who: usize, template: &str) {
        let commands = vec![self.pen.command(template, false)];
        let sending = Sending {
            pieces: vec![bytes_of(&commands)],
            commands,
            blocks: true,
            ..Sending::default()
        };
        self.act(who, What::Send(sending));
    }

    /// Cuts bytes into a few pieces, mostly one.
    pub fn cut(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if bytes.len() < 2 || !self.pen.prng.chance(300) {
            return vec![bytes];
        }
        let cuts = self.pen.prng.size(1, 4);
        let mut places: Vec<usize> = (0..cuts)
            .map(|_| self.pen.prng.size(1, bytes.len() - 1))
            .collect();
        places.push(bytes.len());
        places.sort_unstable();
        places.dedup();
        let mut from = 0;
        let pieces = places.into_iter().map(|to| {
            let piece = bytes[from..to].to_vec();
            from = to;
            piece
        });
        pieces.collect()
    }

    /// Some commands; one alone if it has to be compared in a way of its own.
    pub fn batch(&mut self, who: usize) {
        let count = match self.pen.prng.weighted(&[50, 30, 15, 3]) {
            0 => 1,
            1 => self.pen.prng.size(2, 5),
            2 => self.pen.prng.size(6, 30),
            _ => self.pen.prng.size(100, 400),
        };
        let commands = match count {
            1 => vec![self.pen.draw()],
            _ => (0..count).map(|_| self.pen.draw_exact()).collect(),
        };
        self.send(who, commands);
    }
}

/// Commands as they are sent.
pub(super) fn bytes_of(commands: &[Command]) -> Vec<u8> {
    let requests = commands.iter().map(|command| {
        let words: Vec<&[u8]> = command.words.iter().map(Vec::as_slice).collect();
        request(&words)
    });
    requests.collect::<Vec<_>>().concat()
}

impl Sending {
    /// Whether one of these words is in it, in whatever letters. Looks at the bytes, because what
    /// is not answered one by one is not listed as commands.
    pub fn mentions(&self, words: &[&str]) -> bool {
        let bytes = self.pieces.concat();
        let is_in = |word: &&str| {
            let mut parts = bytes.windows(word.len());
            parts.any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
        };
        words.iter().any(is_in)
    }

    /// Whether a transaction begins in it.
    pub fn has_multi(&self) -> bool {
        self.mentions(&["multi"])
    }

    /// How the only reply is compared.
    pub fn compare(&self) -> Compare {
        match &*self.commands {
            [only] => only.compare,
            _ => Compare::Exact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_the_same_plan_of_the_same_seed() {
        let mood = Mood {
            is_locked: false,
            is_faulty: false,
        };
        let plan = |seed| format!("{:?}", Planner::plan(seed, "t:", mood));
        assert_eq!(plan(3), plan(3));
        assert_ne!(plan(3), plan(4));
    }
}
