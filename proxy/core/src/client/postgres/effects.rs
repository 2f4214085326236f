//! What the texts of a request ask of an upstream and do to the session, added up.
//!
//! Knows profiles, no bytes. Invariant: adding a text never makes a request safer than it was.

use std::rc::Rc;

use crate::client::postgres::examine::Examined;
use crate::client::postgres::transaction::Standing;
use crate::profile::{Class, Profile};
use crate::proof::{Reason, Statement as Proven};
use crate::texts::{SLOW_NANOS, Text};
use crate::upstream::postgres::pipe::{Resetting, SessionChange};
use crate::upstream::schedule::Demand;

/// Replies above this size make a text Tail: nobody else waits behind them.
const BIG_REPLY_BYTES: u32 = 64 << 10;

impl Examined {
    pub(super) fn new(len: usize) -> Self {
        Self {
            len,
            demand: Demand::new(Class::Share, false),
            keeps: None,
            defines: false,
            commits_early: false,
            change: None,
            touched: Vec::new(),
            clears: false,
            sets: false,
            resetting: Vec::new(),
            text: None,
            simple: None,
            runs: 0,
            draws: false,
            is_closed: false,
            class_inside: Class::Share,
            standing: Standing::Outside,
            part: None,
            pieces: 0,
        }
    }

    pub(super) fn ask(&mut self, class: Class, writes: bool) {
        self.demand.class = self.demand.class.max(class);
        self.class_inside = self.class_inside.max(class);
        self.demand.writes |= writes;
    }

    /// Adds what running a text asks for.
    pub(super) fn add(&mut self, profile: &Profile, text: Rc<Text>) {
        let class = class_by_history(profile, &text);
        self.demand.class = self.demand.class.max(class);
        self.class_inside = self.class_inside.max(profile.class_inside);
        self.demand.writes |= profile.writes;
        self.keeps = Reason::worst(self.keeps, profile.keeps);
        self.defines |= profile.defines;
        self.commits_early |= profile.commits_early;
        self.change = None;
        self.runs += 1;
        self.draws |= profile.draws;
        for statement in &profile.verdict.statements {
            self.touch(statement);
            self.standing = self.standing.after(statement);
        }
        if self.runs == 1
            && let Some(statement) = profile.single()
        {
            self.change = change_of(statement).map(Box::new);
        } else if self.runs == 1 && profile.verdict.statements.iter().all(is_reset) {
            // What pools send on return.
            let statements = &profile.verdict.statements;
            self.change = if statements.contains(&Proven::DiscardAll) {
                Some(Box::new(SessionChange::DiscardAll))
            } else {
                let has_reset = statements.contains(&Proven::ResetAll);
                has_reset.then(|| Box::new(SessionChange::ResetAll))
            };
        } else if !self.touched.is_empty() {
            // Which of the settings holds in the end is the node's to say.
            self.ask(Class::Exclusive, true);
        }
        self.text = Some(text);
    }

    /// Notes which settings a statement may leave changed.
    fn touch(&mut self, statement: &Proven) {
        match statement {
            Proven::Set(setting) | Proven::SetConfig(setting) => {
                self.touch_setting(&setting.name, false);
                self.sets = true;
            }
            Proven::Reset(name) | Proven::SetDefault(name) => self.touch_setting(name, true),
            Proven::ResetAll => self.touch_setting(ALL, true),
            Proven::DiscardAll => {
                self.touch_setting(ALL, true);
                self.clears = true;
            }
            Proven::DeallocateAll => self.clears = true,
            _ => {}
        }
    }

    fn touch_setting(&mut self, name: &str, is_reset: bool) {
        self.touched.push(name.into());
        if is_reset || !self.resetting.is_empty() {
            let name = name.into();
            self.resetting.push(Resetting { name, is_reset });
        }
    }
}

/// Stands for all settings in a list of names of settings.
pub const ALL: &str = "*";

/// Whether a statement takes part of the session back to what it began with.
fn is_reset(statement: &Proven) -> bool {
    matches!(
        statement,
        Proven::CloseAll
            | Proven::DeallocateAll
            | Proven::DiscardAll
            | Proven::ResetAll
            | Proven::UnlistenAll
            | Proven::UnlockAll
    )
}

/// What a statement alone does to the session.
fn change_of(statement: &Proven) -> Option<SessionChange> {
    Some(match statement {
        Proven::Set(setting) | Proven::SetConfig(setting) => SessionChange::Set(setting.clone()),
        Proven::Reset(name) | Proven::SetDefault(name) => SessionChange::Reset(name.clone()),
        Proven::ResetAll => SessionChange::ResetAll,
        Proven::DiscardAll => SessionChange::DiscardAll,
        Proven::DeallocateAll => SessionChange::DeallocateAll,
        _ => return None,
    })
}

/// A text that is proven to be shareable has to earn it: unknown, slow and big ones are Tail.
fn class_by_history(profile: &Profile, text: &Text) -> Class {
    let history = &text.history;
    let is_slow = history.nanos.get() > SLOW_NANOS || history.bytes.get() > BIG_REPLY_BYTES;
    if profile.class == Class::Share && (history.count.get() == 0 || is_slow) {
        Class::Tail
    } else {
        profile.class
    }
}
